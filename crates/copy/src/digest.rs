use std::fmt;

use sea_orm::EntityTrait;
use sea_orm::{Iterable, ModelTrait, Value};
use sha2::{Digest as _, Sha256};

/// A digest of rows, over all their columns. Equal rows have equal digests in any order and in
/// either database.
///
/// It is the sum of the SHA-256 of each row. It detects mistakes, not forgery.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest([u64; 4]);

impl Digest {
    /// Computes the digest of one row.
    pub(crate) fn of<M: ModelTrait>(row: &M) -> Self {
        let mut hash = Sha256::new();
        for column in <M::Entity as EntityTrait>::Column::iter() {
            hash_value(&mut hash, &row.get(column));
        }
        let bytes: [u8; 32] = hash.finalize().into();
        let (words, _) = bytes.as_chunks();
        let mut digest = Self::default();
        for (word, bytes) in digest.0.iter_mut().zip(words) {
            *word = u64::from_be_bytes(*bytes);
        }
        digest
    }

    /// Adds rows to the digest.
    pub(crate) fn add(&mut self, other: Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word = word.wrapping_add(other);
        }
    }

    /// Removes rows from the digest.
    pub(crate) fn remove(&mut self, other: Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word = word.wrapping_sub(other);
        }
    }
}

/// Hashes the kind and length before each value, so different rows never hash the same bytes.
fn hash_value(hash: &mut Sha256, value: &Value) {
    let mut part = |kind: u8, bytes: &[u8]| {
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    match value {
        Value::BigInt(Some(number)) => part(b'i', &number.to_be_bytes()),
        // Hash the bits: 0.0 and -0.0 compare equal but are different values.
        Value::Double(Some(number)) => part(b'f', &number.to_bits().to_be_bytes()),
        Value::String(Some(text)) => part(b't', text.as_bytes()),
        Value::BigInt(None) | Value::Double(None) | Value::String(None) => part(b'n', &[]),
        // No column has another type; if one is added, it is hashed too.
        other => part(b'?', format!("{other:?}").as_bytes()),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
