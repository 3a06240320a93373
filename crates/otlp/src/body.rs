//! Reading a body within the limits of size, memory and time.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderMap, StatusCode};
use flate2::write::MultiGzDecoder;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::RouterOptions;
use crate::reply::Refusal;

/// Reads bodies, all of them together within a limit of memory.
#[derive(Debug)]
pub(crate) struct BodyReader {
    max_body_bytes: usize,
    body_timeout: Duration,
    /// One permit for each block of [`BLOCK_BYTES`].
    memory: Arc<Semaphore>,
}

/// A permit for each byte would need more permits than one call can acquire.
const BLOCK_BYTES: usize = 1 << 10;

impl BodyReader {
    pub(crate) fn new(options: &RouterOptions) -> Self {
        let bytes = options.max_buffered_bytes.max(options.max_body_bytes);
        let blocks = bytes.div_ceil(BLOCK_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            max_body_bytes: options.max_body_bytes,
            body_timeout: options.body_timeout,
            memory: Arc::new(Semaphore::new(blocks)),
        }
    }

    /// Reads a body, and decompresses it if the headers say so.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Buffer, Refusal> {
        let is_gzip = is_gzip(headers)?;
        let declared = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        if declared
            .and_then(|it| it.parse::<u64>().ok())
            .is_some_and(|bytes| bytes > self.max_body_bytes as u64)
        {
            return Err(self.too_large());
        }
        let buffer = Buffer::new(self.max_body_bytes, Arc::clone(&self.memory));
        let decoder = if is_gzip {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(buffer)))
        } else {
            Decoder::Identity(buffer)
        };
        // Not 408, after which senders drop the data.
        timeout(self.body_timeout, self.receive(body, decoder))
            .await
            .unwrap_or_else(|_| Err(Refusal::unavailable("the body took too long to arrive")))
    }

    async fn receive(&self, body: Body, mut decoder: Decoder) -> Result<Buffer, Refusal> {
        let mut received = 0_usize;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
            // Compressed bytes count too: they can decompress to nothing.
            received = received.saturating_add(chunk.len());
            if received > self.max_body_bytes {
                return Err(self.too_large());
            }
            decoder.write(&chunk).map_err(|full| self.refusal(full))?;
        }
        decoder.finish().map_err(|full| self.refusal(full))
    }

    fn refusal(&self, failure: Failure) -> Refusal {
        match failure {
            Failure::TooLarge => self.too_large(),
            Failure::NoMemory => Refusal::unavailable("the receiver is busy with other requests"),
            Failure::NotGzip => Refusal::new(
                StatusCode::BAD_REQUEST,
                "the body is not complete, valid gzip",
            ),
        }
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the body has more than {} bytes", self.max_body_bytes);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    match (encodings.next().map(|it| it.as_bytes()), encodings.next()) {
        (None, _) => Ok(false),
        (Some(it), None) if it.eq_ignore_ascii_case(b"identity") => Ok(false),
        (Some(it), None) if it.eq_ignore_ascii_case(b"gzip") => Ok(true),
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content encoding must be gzip or identity",
        )),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    TooLarge,
    NoMemory,
    NotGzip,
}

enum Decoder {
    Identity(Buffer),
    Gzip(Box<MultiGzDecoder<Buffer>>),
}

impl Decoder {
    fn write(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Identity(buffer) => buffer.append(chunk),
            Self::Gzip(decoder) => decoder
                .write_all(chunk)
                .map_err(|_| decoder.get_ref().failure.unwrap_or(Failure::NotGzip)),
        }
    }

    fn finish(self) -> Result<Buffer, Failure> {
        match self {
            Self::Identity(buffer) => Ok(buffer),
            Self::Gzip(mut decoder) => {
                let finished = decoder.try_finish();
                let failure = decoder.get_ref().failure;
                finished.map_err(|_| failure.unwrap_or(Failure::NotGzip))?;
                decoder.finish().map_err(|_| Failure::NotGzip)
            }
        }
    }
}

/// A body. It counts towards the limit of memory until its [`Share`] is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    limit: usize,
    memory: Arc<Semaphore>,
    share: Option<OwnedSemaphorePermit>,
    /// Why the last bytes weren't appended.
    failure: Option<Failure>,
}

/// The part of the memory for bodies that one of them takes.
#[derive(Debug)]
pub(crate) struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Buffer {
    fn new(limit: usize, memory: Arc<Semaphore>) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            memory,
            share: None,
            failure: None,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_share(self) -> Share {
        Share {
            _permit: self.share,
        }
    }

    fn append(&mut self, data: &[u8]) -> Result<(), Failure> {
        let appended = self
            .reserve(data.len())
            .map(|()| self.bytes.extend_from_slice(data));
        self.failure = appended.err();
        appended
    }

    /// Never waits for memory: requests that each hold a part of it would wait for one another.
    fn reserve(&mut self, additional: usize) -> Result<(), Failure> {
        let length = self.bytes.len().saturating_add(additional);
        if length > self.limit {
            return Err(Failure::TooLarge);
        }
        let capacity = self.bytes.capacity();
        if length <= capacity {
            return Ok(());
        }
        let wanted = length
            .max(capacity.saturating_mul(2))
            .next_multiple_of(BLOCK_BYTES)
            .min(self.limit);
        let blocks = wanted.div_ceil(BLOCK_BYTES) - capacity.div_ceil(BLOCK_BYTES);
        let blocks = u32::try_from(blocks).map_err(|_| Failure::NoMemory)?;
        let permit = Arc::clone(&self.memory)
            .try_acquire_many_owned(blocks)
            .map_err(|_| Failure::NoMemory)?;
        match &mut self.share {
            Some(share) => share.merge(permit),
            None => self.share = Some(permit),
        }
        self.bytes.reserve_exact(wanted - self.bytes.len());
        Ok(())
    }
}

impl Write for Buffer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.append(data) {
            Ok(()) => Ok(data.len()),
            Err(_) => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn buffer(memory: usize) -> Buffer {
        Buffer::new(LIMIT, Arc::new(Semaphore::new(memory / BLOCK_BYTES)))
    }

    fn zeros(bytes: usize) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![0; bytes])?;
        encoder.finish()
    }

    #[test]
    fn a_zip_bomb_allocates_no_more_than_the_limit() -> io::Result<()> {
        // A gigabyte in 1,024 members.
        let bomb = zeros(1 << 20)?.repeat(1 << 10);
        let mut decoder = Decoder::Gzip(Box::new(MultiGzDecoder::new(buffer(2 * LIMIT))));
        let written = bomb.chunks(8 << 10).try_for_each(|it| decoder.write(it));
        assert_eq!(written, Err(Failure::TooLarge));
        let Decoder::Gzip(decoder) = decoder else {
            unreachable!("the decoder is the one from above");
        };
        let capacity = decoder.get_ref().bytes.capacity();
        assert!(capacity <= LIMIT, "{capacity}");
        Ok(())
    }

    #[test]
    fn bodies_share_the_memory_until_their_share_is_dropped() {
        let mut first = buffer(LIMIT);
        let mut second = Buffer::new(LIMIT, Arc::clone(&first.memory));
        for _ in 0..2 {
            assert_eq!(first.append(&[0; LIMIT / 4]), Ok(()));
        }
        assert_eq!(second.append(&[0; LIMIT / 2 + 1]), Err(Failure::NoMemory));
        let share = first.into_share();
        assert_eq!(second.append(&[0; LIMIT / 2 + 1]), Err(Failure::NoMemory));
        drop(share);
        assert_eq!(second.append(&[0; LIMIT / 2 + 1]), Ok(()));
    }

    #[test]
    fn a_body_may_be_as_large_as_the_limit() {
        let mut buffer = buffer(LIMIT);
        assert_eq!(buffer.append(&[1; LIMIT - 1]), Ok(()));
        assert_eq!(buffer.append(&[2]), Ok(()));
        assert_eq!(buffer.append(&[3]), Err(Failure::TooLarge));
        assert_eq!(buffer.bytes().len(), LIMIT);
    }
}
