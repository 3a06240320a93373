//! Answers, in the encoding of the request.

use std::borrow::Cow;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::wire::protobuf::Writer;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// Returns the encoding that the headers name, whatever its parameters.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = content_type.split(';').next()?.trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|encoding| media_type.eq_ignore_ascii_case(encoding.media_type()))
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    fn response(self, status: StatusCode, body: Vec<u8>) -> Response {
        let media_type = HeaderValue::from_static(self.media_type());
        (status, [(CONTENT_TYPE, media_type)], body).into_response()
    }
}

/// What was rejected of a request whose other spans or logs are stored.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// The JSON name of their number, such as `rejectedSpans`.
    pub(crate) field: &'static str,
    pub(crate) number: u64,
    pub(crate) message: String,
}

/// The answer to an export that was stored, at least in part.
pub(crate) fn success(encoding: Encoding, rejected: Option<&Rejected>) -> Response {
    let body = match (encoding, rejected) {
        (Encoding::Protobuf, None) => Vec::new(),
        (Encoding::Json, None) => b"{}".to_vec(),
        (Encoding::Protobuf, Some(rejected)) => {
            let partial_success = Writer::default()
                .varint(1, rejected.number)
                .bytes(2, rejected.message.as_bytes());
            Writer::default()
                .bytes(1, partial_success.as_bytes())
                .into_bytes()
        }
        (Encoding::Json, Some(rejected)) => {
            // A 64-bit number is a string in the JSON of protobuf.
            let partial_success = json!({
                rejected.field: rejected.number.to_string(),
                "errorMessage": rejected.message,
            });
            json!({ "partialSuccess": partial_success })
                .to_string()
                .into_bytes()
        }
    };
    encoding.response(StatusCode::OK, body)
}

/// An answer other than success: a `google.rpc.Status`.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// Asks the sender to retry. Exporters do so after 429, 502, 503 and 504 only, and lose the
    /// data after any other status.
    pub(crate) fn unavailable(message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(crate) fn response(&self, encoding: Encoding) -> Response {
        let code = self.code();
        let body = match encoding {
            Encoding::Protobuf => Writer::default()
                .varint(1, code)
                .bytes(2, self.message.as_bytes())
                .into_bytes(),
            Encoding::Json => json!({ "code": code, "message": self.message })
                .to_string()
                .into_bytes(),
        };
        let mut response = encoding.response(self.status, body);
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The `google.rpc.Code` that corresponds to the status.
    fn code(&self) -> u64 {
        const INVALID_ARGUMENT: u64 = 3;
        const PERMISSION_DENIED: u64 = 7;
        const RESOURCE_EXHAUSTED: u64 = 8;
        const INTERNAL: u64 = 13;
        const UNAVAILABLE: u64 = 14;
        const UNAUTHENTICATED: u64 = 16;

        match self.status {
            StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => INVALID_ARGUMENT,
            StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
            StatusCode::FORBIDDEN => PERMISSION_DENIED,
            StatusCode::PAYLOAD_TOO_LARGE => RESOURCE_EXHAUSTED,
            StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
            _ => INTERNAL,
        }
    }
}
