//! Splitting what a program prints into the lines that become events, in bounded memory.

use std::str;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// The most bytes of one event: a longer line goes on in the next.
const LONGEST: usize = 16 << 10;

/// Takes bytes as they come, and gives lines.
#[derive(Default)]
pub(super) struct Splitter {
    /// The beginning of a line whose end hasn't come yet; never more than [`LONGEST`].
    begun: Vec<u8>,
}

impl Splitter {
    /// Hands each line that is complete now to `emit`, as the payload of an event.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Value)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.extend(&bytes[..end], &mut emit);
            emit(payload(&self.begun, Followed::ByNewline));
            self.begun.clear();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut emit);
    }

    /// Hands over the last line, if it has no end.
    pub(super) fn finish(self, mut emit: impl FnMut(Value)) {
        if !self.begun.is_empty() {
            emit(payload(&self.begun, Followed::ByMore));
        }
    }

    fn extend(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(Value)) {
        while self.begun.len() + bytes.len() > LONGEST {
            let (fitting, rest) = bytes.split_at(LONGEST - self.begun.len());
            self.begun.extend_from_slice(fitting);
            let end = whole_characters(&self.begun);
            emit(payload(&self.begun[..end], Followed::ByMore));
            self.begun.drain(..end);
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
    }
}

/// How many bytes there are without a character at the end that is cut off.
fn whole_characters(bytes: &[u8]) -> usize {
    match str::from_utf8(bytes) {
        Err(err) if err.error_len().is_none() && err.valid_up_to() > 0 => err.valid_up_to(),
        _ => bytes.len(),
    }
}

/// What comes after the bytes of an event.
#[derive(PartialEq)]
enum Followed {
    ByNewline,
    /// Or by nothing, at the end.
    ByMore,
}

/// `{"text": …}`, or `{"base64": …}` for what is not UTF-8; with `"newline": false` unless a newline follows, so
/// that every byte can be told.
fn payload(line: &[u8], followed: Followed) -> Value {
    let mut payload = match str::from_utf8(line) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": BASE64.encode(line) }),
    };
    if followed == Followed::ByMore {
        payload["newline"] = false.into();
    }
    payload
}
