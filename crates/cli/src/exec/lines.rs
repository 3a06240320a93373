//! Splits a program's output into lines, the payloads of events, in bounded memory.

use std::{mem, str};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// The most bytes of one event. A longer line continues in the next event.
const MAX_EVENT_BYTES: usize = 16 << 10;

/// Splits a program's output into the payloads of events.
pub(super) trait Lines: Send {
    /// Adds output, and emits each line that is now complete.
    fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Value));

    /// Whether part of an unfinished line has not been emitted yet.
    fn has_pending(&self) -> bool;

    /// Emits the unfinished line, up to its last whole character.
    fn flush(&mut self, emit: &mut dyn FnMut(Value));

    /// Emits the last line, if it has no newline.
    fn finish(&mut self, emit: &mut dyn FnMut(Value));
}

/// Splits a stream of bytes at its newlines. Of each line it emits the text after the last carriage
/// return.
#[derive(Default)]
pub(super) struct Splitter {
    /// The part of the current line that has not been emitted; at most [`MAX_EVENT_BYTES`].
    pending: Vec<u8>,
    /// Whether a carriage return follows that part, so that the next bytes replace it.
    is_overwritten: bool,
    /// Whether the beginning of the line has already been emitted.
    is_continued: bool,
}

impl Lines for Splitter {
    fn push(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(Value)) {
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            self.extend(&bytes[..end], emit);
            if bytes[end] == b'\r' {
                self.is_overwritten = true;
            } else {
                emit(payload(&self.pending, LineEnd::Newline));
                self.pending.clear();
                (self.is_overwritten, self.is_continued) = (false, false);
            }
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, emit);
    }

    fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn flush(&mut self, emit: &mut dyn FnMut(Value)) {
        let end = match str::from_utf8(&self.pending) {
            Err(err) if err.error_len().is_none() => err.valid_up_to(),
            _ => self.pending.len(),
        };
        if end > 0 {
            self.emit_part(end, emit);
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Value)) {
        if !self.pending.is_empty() {
            emit(payload(&self.pending, LineEnd::Unfinished));
        }
    }
}

impl Splitter {
    fn extend(&mut self, mut bytes: &[u8], emit: &mut dyn FnMut(Value)) {
        if bytes.is_empty() {
            return;
        }
        if mem::take(&mut self.is_overwritten) {
            self.pending.clear();
            if self.is_continued {
                // The emitted part can't be taken back; the carriage return marks it as replaced.
                self.pending.push(b'\r');
            }
        }
        while self.pending.len() + bytes.len() > MAX_EVENT_BYTES {
            let (fitting, rest) = bytes.split_at(MAX_EVENT_BYTES - self.pending.len());
            self.pending.extend_from_slice(fitting);
            self.emit_part(whole_characters_len(&self.pending), emit);
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn emit_part(&mut self, end: usize, emit: &mut dyn FnMut(Value)) {
        emit(payload(&self.pending[..end], LineEnd::Unfinished));
        self.pending.drain(..end);
        self.is_continued = true;
    }
}

/// Returns the length without an incomplete character at the end.
fn whole_characters_len(bytes: &[u8]) -> usize {
    match str::from_utf8(bytes) {
        Err(err) if err.error_len().is_none() && err.valid_up_to() > 0 => err.valid_up_to(),
        _ => bytes.len(),
    }
}

/// How the text of an event ends.
#[derive(PartialEq)]
pub(super) enum LineEnd {
    Newline,
    /// The line continues in the next event, or the output ends without a newline.
    Unfinished,
}

/// Returns `{"text": …}`, or `{"base64": …}` if the line is not UTF-8; with `"newline": false`
/// unless a newline follows.
pub(super) fn payload(line: &[u8], end: LineEnd) -> Value {
    let mut payload = match str::from_utf8(line) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": BASE64.encode(line) }),
    };
    if end == LineEnd::Unfinished {
        payload["newline"] = false.into();
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the payloads of output that arrives in these chunks.
    fn payloads(chunks: &[&[u8]]) -> Vec<Value> {
        let (mut splitter, mut payloads) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, &mut |payload| payloads.push(payload));
        }
        splitter.finish(&mut |payload| payloads.push(payload));
        payloads
    }

    #[test]
    fn the_chunks_of_the_output_make_no_difference() {
        let output = "one\n\ntwo é\r\n10%\r20%\nlast".as_bytes();
        let expected = [
            json!({"text": "one"}),
            json!({"text": ""}),
            json!({"text": "two é"}),
            json!({"text": "20%"}),
            json!({"text": "last", "newline": false}),
        ];
        for size in 1..=output.len() {
            let chunks: Vec<&[u8]> = output.chunks(size).collect();
            assert_eq!(payloads(&chunks), expected, "chunks of {size}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_encoded() {
        assert_eq!(payloads(&[b"a\xFF\n"]), [json!({"base64": "Yf8="})]);
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let line = format!("x{}\n", "é".repeat(MAX_EVENT_BYTES / 2));
        let parts = payloads(&[line.as_bytes()]);
        let first = format!("x{}", "é".repeat(MAX_EVENT_BYTES / 2 - 1));
        assert_eq!(
            parts,
            [
                json!({"text": first, "newline": false}),
                json!({"text": "é"})
            ]
        );
    }

    #[test]
    fn an_unfinished_line_is_flushed_up_to_its_last_whole_character() {
        let (mut splitter, mut payloads) = (Splitter::default(), Vec::new());
        splitter.push(b"name: \xC3", &mut |payload| payloads.push(payload));
        splitter.flush(&mut |payload| payloads.push(payload));
        splitter.push(b"\xA9\n", &mut |payload| payloads.push(payload));
        assert_eq!(
            payloads,
            [
                json!({"text": "name: ", "newline": false}),
                json!({"text": "é"})
            ]
        );
    }
}
