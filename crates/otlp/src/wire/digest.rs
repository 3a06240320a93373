//! The id of a log, which has none of its own.

use std::collections::HashMap;
use std::sync::Arc;

use runtrail_telemetry::Source;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::span::hex;

/// A digest of the content of a log.
///
/// Each part is preceded by its kind and length, and the keys of an object are sorted: logs have
/// the same digest only if their content is the same, in either encoding.
#[derive(Clone, Debug)]
pub(super) struct Digest(Sha256);

impl Digest {
    fn of_source(source: &Source) -> Self {
        let mut digest = Self(Sha256::new());
        digest.object(&source.resource);
        digest.text(&source.scope);
        digest
    }

    pub(super) fn text(&mut self, text: &str) {
        self.part(b's', text.len());
        self.0.update(text);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.update([b'u']);
        self.0.update(number.to_be_bytes());
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.update([b'0']),
            Value::Bool(value) => self.0.update([b'b', u8::from(*value)]),
            Value::Number(number) => {
                let number = number.to_string();
                self.part(b'n', number.len());
                self.0.update(number);
            }
            Value::String(text) => self.text(text),
            Value::Array(values) => {
                self.part(b'a', values.len());
                for value in values {
                    self.value(value);
                }
            }
            Value::Object(object) => self.object(object),
        }
    }

    pub(super) fn object(&mut self, object: &Map<String, Value>) {
        self.part(b'o', object.len());
        // A host may have set serde_json to keep the order of keys.
        let mut entries: Vec<_> = object.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in entries {
            self.text(key);
            self.value(value);
        }
    }

    fn part(&mut self, kind: u8, length: usize) {
        self.0.update([kind]);
        self.0.update((length as u64).to_be_bytes());
    }
}

/// The ids of the logs of a request.
///
/// Logs with the same content in one request are different logs. Counting them keeps them apart,
/// and gives them the same ids when the request is sent again.
#[derive(Debug, Default)]
pub(super) struct LogIds {
    occurrences: HashMap<[u8; 32], u64>,
    /// The digest of the last source, which many logs share.
    source: Option<(Arc<Source>, Digest)>,
}

impl LogIds {
    /// Starts the digest of a log.
    pub(super) fn digest(&mut self, source: &Arc<Source>) -> Digest {
        match &self.source {
            Some((last, digest)) if Arc::ptr_eq(last, source) => digest.clone(),
            _ => {
                let digest = Digest::of_source(source);
                self.source = Some((Arc::clone(source), digest.clone()));
                digest
            }
        }
    }

    /// Returns the id of a log with this digest: 32 hex digits.
    pub(super) fn next(&mut self, digest: Digest) -> String {
        let mut digest: [u8; 32] = digest.0.finalize().into();
        let occurrence = self.occurrences.entry(digest).or_default();
        if *occurrence > 0 {
            let mut numbered = Sha256::new();
            numbered.update(digest);
            numbered.update(occurrence.to_be_bytes());
            digest = numbered.finalize().into();
        }
        *occurrence += 1;
        hex(&digest[..16])
    }
}
