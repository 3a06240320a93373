use crate::{Error, Result};

/// How large one value may be: a payload, the inputs, an output or an error text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    value_bytes: usize,
}

impl Limits {
    /// 1 MiB a value.
    pub const DEFAULT_VALUE_BYTES: usize = 1 << 20;
    /// 16 MiB a value: as far as the limit can be raised.
    pub const MAX_VALUE_BYTES: usize = 16 << 20;

    /// Values of at most `value_bytes` bytes (UTF-8; for JSON, of its text).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidInput`] beyond [`MAX_VALUE_BYTES`](Self::MAX_VALUE_BYTES).
    pub fn new(value_bytes: usize) -> Result<Self> {
        if value_bytes > Self::MAX_VALUE_BYTES {
            return Err(Error::invalid(
                "value_bytes",
                format!("must be at most {}", Self::MAX_VALUE_BYTES),
            ));
        }
        Ok(Self { value_bytes })
    }

    /// The size of the largest value that is taken, in bytes.
    pub const fn value_bytes(&self) -> usize {
        self.value_bytes
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: Self::DEFAULT_VALUE_BYTES,
        }
    }
}
