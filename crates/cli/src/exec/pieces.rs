//! Splitting what a program prints into the lines that become events, in bounded memory.

use std::{mem, str};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// The most bytes of one event: a longer line goes on in the next.
const LONGEST: usize = 16 << 10;

/// Splits what a program prints into the payloads of events.
pub(super) trait Lines: Send {
    /// Hands each line that is complete now to `emit`.
    fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Value));

    /// Whether there is an unfinished line that no event has yet.
    fn has_begun(&self) -> bool;

    /// Hands over the unfinished line, up to its last whole character.
    fn flush(&mut self, emit: &mut dyn FnMut(Value));

    /// Hands over the last line, if it has no end.
    fn finish(&mut self, emit: &mut dyn FnMut(Value));
}

/// Splits a stream of bytes at its newlines, and keeps of each line the text after its last carriage return.
#[derive(Default)]
pub(super) struct Splitter {
    /// The beginning of a line whose end hasn't come yet; never more than [`LONGEST`].
    begun: Vec<u8>,
    /// Whether a carriage return follows it, so that the next bytes replace it.
    is_returned: bool,
    /// Whether an event already has the beginning of the line.
    is_continued: bool,
}

impl Lines for Splitter {
    fn push(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(Value)) {
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            self.extend(&bytes[..end], emit);
            if bytes[end] == b'\r' {
                self.is_returned = true;
            } else {
                emit(payload(&self.begun, Followed::ByNewline));
                self.begun.clear();
                (self.is_returned, self.is_continued) = (false, false);
            }
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, emit);
    }

    fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    fn flush(&mut self, emit: &mut dyn FnMut(Value)) {
        let end = match str::from_utf8(&self.begun) {
            Err(err) if err.error_len().is_none() => err.valid_up_to(),
            _ => self.begun.len(),
        };
        if end > 0 {
            self.emit_beginning(end, emit);
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Value)) {
        if !self.begun.is_empty() {
            emit(payload(&self.begun, Followed::ByMore));
        }
    }
}

impl Splitter {
    fn extend(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(Value)) {
        if bytes.is_empty() {
            return;
        }
        if mem::take(&mut self.is_returned) {
            self.begun.clear();
            if self.is_continued {
                // The recorded part can only be marked as replaced.
                self.begun.push(b'\r');
            }
        }
        while self.begun.len() + bytes.len() > LONGEST {
            let (fitting, rest) = bytes.split_at(LONGEST - self.begun.len());
            self.begun.extend_from_slice(fitting);
            self.emit_beginning(whole_characters(&self.begun), emit);
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
    }

    fn emit_beginning(&mut self, end: usize, emit: &mut dyn FnMut(Value)) {
        emit(payload(&self.begun[..end], Followed::ByMore));
        self.begun.drain(..end);
        self.is_continued = true;
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
pub(super) enum Followed {
    ByNewline,
    /// Or by nothing, at the end.
    ByMore,
}

/// `{"text": …}`, or `{"base64": …}` if the line is not UTF-8; with `"newline": false` unless a newline follows.
pub(super) fn payload(line: &[u8], followed: Followed) -> Value {
    let mut payload = match str::from_utf8(line) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": BASE64.encode(line) }),
    };
    if followed == Followed::ByMore {
        payload["newline"] = false.into();
    }
    payload
}
