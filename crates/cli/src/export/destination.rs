use std::convert::Infallible;
use std::io::{BufWriter, Stdout, Write};
use std::path::PathBuf;
use std::str::FromStr;

use runtrail::otlp::TraceRequest;

use super::endpoint::Endpoint;
use super::replacement::Replacement;
use super::write_failure;
use crate::failure::{Failure, Result};
use crate::output;

/// Where traces go, as it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Url(String),
    File(PathBuf),
    Stdout,
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::Stdout,
            url if url.contains("://") => Self::Url(url.to_owned()),
            path => Self::File(path.into()),
        })
    }
}

/// Where requests are sent or written.
pub(super) enum Destination {
    Endpoint(Endpoint),
    File { path: PathBuf, file: Replacement },
    Stdout(BufWriter<Stdout>),
}

impl Destination {
    /// `headers` are pairs of `KEY=VALUE`.
    pub(super) fn open(target: &Target, headers: &[String]) -> Result<Self> {
        if let Target::Url(url) = target {
            return Ok(Self::Endpoint(Endpoint::new(url, headers)?));
        }
        if !headers.is_empty() {
            return Err(Failure::usage("--otlp-header needs a URL, not a file"));
        }
        Ok(match target {
            Target::File(path) => Self::File {
                file: Replacement::of(path).map_err(|err| write_failure(path, &err))?,
                path: path.clone(),
            },
            Target::Url(_) | Target::Stdout => Self::Stdout(output::plain()),
        })
    }

    /// Returns an empty request in the format of the destination.
    pub(super) fn new_request(&self) -> TraceRequest {
        match self {
            Self::Endpoint(_) => TraceRequest::protobuf(),
            Self::File { .. } | Self::Stdout(_) => TraceRequest::json(),
        }
    }

    pub(super) async fn send(&mut self, mut request: Vec<u8>) -> Result<()> {
        match self {
            Self::Endpoint(endpoint) => endpoint.send(request).await,
            Self::File { path, file } => {
                request.push(b'\n');
                let written = file.writer().write_all(&request);
                written.map_err(|err| write_failure(path, &err))
            }
            Self::Stdout(out) => {
                request.push(b'\n');
                Ok(out.write_all(&request)?)
            }
        }
    }

    /// Completes the file. Fails if the receiver has rejected spans.
    pub(super) fn finish(self) -> Result<()> {
        match self {
            Self::Endpoint(endpoint) => endpoint.finish(),
            Self::File { path, file } => file.complete().map_err(|err| write_failure(&path, &err)),
            Self::Stdout(out) => output::finish(out),
        }
    }
}
