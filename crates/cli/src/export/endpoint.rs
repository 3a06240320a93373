use std::sync::Arc;
use std::time::Duration;

use runtrail::otlp::TraceAnswer;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use ureq::http::uri::Scheme;
use ureq::http::{HeaderName, HeaderValue, Response, Uri};
use ureq::{Agent, Body};

use crate::failure::{Failure, Result};
use crate::output::counted;
use crate::warnings::note;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The pauses before the repetitions of a request.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 16];

/// The longest pause that a receiver may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 64 << 10;

/// The most characters of an answer that are printed.
const MAX_REASON: usize = 300;

/// An OTLP/HTTP receiver.
pub(super) struct Endpoint {
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    agent: Agent,
    rejected: u64,
}

/// How a receiver has answered.
struct Answer {
    status: u16,
    retry_after: Option<String>,
    content_type: String,
    body: Vec<u8>,
}

impl Endpoint {
    /// `headers` are pairs of `KEY=VALUE`.
    pub(super) fn new(url: &str, headers: &[String]) -> Result<Self> {
        let uri = endpoint(url)?;
        if !cfg!(feature = "tls") && uri.scheme() == Some(&Scheme::HTTPS) {
            return Err(Failure::usage(
                "this runtrail was built without TLS; an https URL needs the cargo feature `tls` \
                 of runtrail-cli",
            ));
        }
        let headers = headers.iter().map(|text| header(text));
        Ok(Self {
            uri,
            headers: headers.collect::<Result<_>>()?,
            agent: Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_global(Some(TIMEOUT))
                .user_agent(concat!("runtrail/", env!("CARGO_PKG_VERSION")))
                .build()
                .into(),
            rejected: 0,
        })
    }

    /// Sends a request. Repeats it while the receiver is overloaded or unavailable.
    pub(super) async fn send(&mut self, request: Vec<u8>) -> Result<()> {
        let request = Arc::new(request);
        let mut pauses = PAUSES.into_iter().map(Duration::from_secs);
        loop {
            let answer = self.post(request.clone()).await?;
            if (200..300).contains(&answer.status) {
                self.note_rejected(&answer);
                return Ok(());
            }
            let pause = match answer.status {
                429 | 502 | 503 | 504 => pauses.next(),
                _ => None,
            };
            let Some(pause) = pause else {
                return Err(self.failure(&answer));
            };
            sleep(answer.pause().unwrap_or(pause)).await;
        }
    }

    /// Fails if spans were rejected.
    pub(super) fn finish(self) -> Result<()> {
        match self.rejected {
            0 => Ok(()),
            rejected => Err(Failure::failed(format!(
                "{} has rejected {}",
                shown(&self.uri),
                counted(rejected, "span")
            ))),
        }
    }

    async fn post(&self, request: Arc<Vec<u8>>) -> Result<Answer> {
        let mut post = self.agent.post(self.uri.clone());
        post = post.header("Content-Type", "application/x-protobuf");
        for (name, value) in &self.headers {
            post = post.header(name, value);
        }
        let answer = spawn_blocking(move || {
            let answer = post.send(request.as_slice())?;
            Ok::<_, ureq::Error>(Answer::of(answer))
        });
        let failed = |reason: String| {
            Failure::failed(format!("{} can't be reached: {reason}", shown(&self.uri)))
        };
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(err)) => Err(failed(err.to_string())),
            Err(err) => Err(failed(err.to_string())),
        }
    }

    fn note_rejected(&mut self, answer: &Answer) {
        let answer = TraceAnswer::of_success(&answer.content_type, &answer.body);
        self.rejected = self.rejected.saturating_add(answer.rejected_spans);
        let message = shortened(&answer.message);
        if !message.is_empty() {
            note(format!("warning: {}: {message}", shown(&self.uri)));
        }
    }

    fn failure(&self, answer: &Answer) -> Failure {
        let read = TraceAnswer::of_failure(&answer.content_type, &answer.body);
        let reason = shortened(&read.message);
        let separator = if reason.is_empty() { "" } else { ": " };
        Failure::failed(format!(
            "{} has answered with status {}{separator}{reason}",
            shown(&self.uri),
            answer.status
        ))
    }
}

impl Answer {
    fn of(mut answer: Response<Body>) -> Self {
        let header = |name| {
            let value = answer.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let retry_after = header("Retry-After");
        let content_type = header("Content-Type").unwrap_or_default();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER);
        // Without it, the status says enough.
        let body = body.read_to_vec().unwrap_or_default();
        Self {
            status: answer.status().as_u16(),
            retry_after,
            content_type,
            body,
        }
    }

    /// Returns the pause that the receiver asks for.
    fn pause(&self) -> Option<Duration> {
        let text = self.retry_after.as_deref()?;
        let pause = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            // The other form is a date, which depends on the clocks of both.
            Err(_) => return None,
        };
        Some(pause.min(MAX_PAUSE))
    }
}

/// Returns the URL of traces.
fn endpoint(url: &str) -> Result<Uri> {
    let invalid = || {
        Failure::usage(
            "the URL of --otlp must have the form http://HOST[:PORT][/PATH] or https://…",
        )
    };
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let is_http = [Scheme::HTTP, Scheme::HTTPS]
        .iter()
        .any(|it| uri.scheme() == Some(it));
    if !is_http || uri.host().is_none_or(str::is_empty) {
        return Err(invalid());
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Ok(uri);
    }
    let url = format!("{}/v1/traces", url.trim_end_matches('/'));
    url.parse().map_err(|_| invalid())
}

/// Returns a URL as it is printed: without a password.
fn shown(uri: &Uri) -> String {
    let port = uri.port().map(|port| format!(":{port}"));
    format!(
        "{}://{}{}{}",
        uri.scheme_str().unwrap_or("http"),
        uri.host().unwrap_or_default(),
        port.unwrap_or_default(),
        uri.path()
    )
}

/// Reads a header. Its value, which may be a password, isn't printed.
fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Failure::usage("--otlp-header must have the form KEY=VALUE"));
    };
    let Ok(parsed_name) = name.trim().parse::<HeaderName>() else {
        return Err(Failure::usage(format!(
            "{name:?} isn't the name of a header"
        )));
    };
    match value.trim().parse() {
        Ok(value) => Ok((parsed_name, value)),
        Err(_) => Err(Failure::usage(format!(
            "the value of the header {name:?} has characters that headers can't have"
        ))),
    }
}

/// Shortens what a receiver has answered.
fn shortened(text: &str) -> &str {
    let text = text.trim();
    &text[..text.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_is_added_to_a_url_without_a_path() {
        for (given, expected) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://[::1]:4318", "https://[::1]:4318/v1/traces"),
            (
                "http://a/api/public/otel/v1/traces",
                "http://a/api/public/otel/v1/traces",
            ),
            ("http://a/?key=1", "http://a/?key=1"),
        ] {
            assert_eq!(endpoint(given).unwrap().to_string(), expected);
        }
        for given in ["grpc://a:4317", "http://", "http://a b", "://"] {
            assert!(endpoint(given).is_err(), "{given}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_an_https_url_names_the_feature() {
        let refused = Endpoint::new("https://localhost:4318", &[]).err().unwrap();
        assert!(refused.to_string().contains("cargo feature `tls`"));
    }

    #[test]
    fn no_password_is_printed() {
        let uri = endpoint("http://user:secret@host:1234/?key=secret").unwrap();
        assert_eq!(shown(&uri), "http://host:1234/");
        for text in ["secret", "Author ization=secret", "Authorization=sec\nret"] {
            let failure = header(text).unwrap_err().to_string();
            assert!(!failure.contains("sec"), "{failure}");
        }
        let (name, value) = header("Authorization=Basic a2V5==").unwrap();
        assert_eq!(
            (name.as_str(), value.to_str().unwrap()),
            ("authorization", "Basic a2V5==")
        );
    }

    #[test]
    fn a_pause_is_bounded() {
        let pause = |text: Option<&str>| {
            let answer = Answer {
                status: 503,
                retry_after: text.map(str::to_owned),
                content_type: String::new(),
                body: Vec::new(),
            };
            answer.pause().map(|pause| pause.as_secs())
        };
        assert_eq!(pause(Some("7")), Some(7));
        assert_eq!(pause(Some("100000")), Some(60));
        assert_eq!(pause(Some("Wed, 21 Oct 2015 07:28:00 GMT")), None);
        assert_eq!(pause(None), None);
    }
}
