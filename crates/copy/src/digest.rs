use std::fmt;

use sea_orm::EntityTrait;
use sea_orm::{Iterable, ModelTrait, Value};
use sha2::{Digest as _, Sha256};

/// A digest of rows, over all their columns; the same for the same rows, in whatever order and database.
///
/// It is the sum of each row's SHA-256, and meant to find mistakes, not forgers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest([u64; 4]);

impl Digest {
    /// Of one row.
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

    /// Adds rows to those that it is of.
    pub(crate) fn add(&mut self, other: Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word = word.wrapping_add(other);
        }
    }

    /// Takes rows out of those that it is of.
    pub(crate) fn remove(&mut self, other: Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word = word.wrapping_sub(other);
        }
    }
}

/// Each value begins with its kind and its length, so that no two rows are the same bytes.
fn hash_value(hash: &mut Sha256, value: &Value) {
    let mut part = |kind: u8, bytes: &[u8]| {
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    match value {
        Value::BigInt(Some(number)) => part(b'i', &number.to_be_bytes()),
        // As its bits: two floats that compare equal may be different ones.
        Value::Double(Some(number)) => part(b'f', &number.to_bits().to_be_bytes()),
        Value::String(Some(text)) => part(b't', text.as_bytes()),
        Value::BigInt(None) | Value::Double(None) | Value::String(None) => part(b'n', &[]),
        // No column is of another type; if one will be, it must not be left out.
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
