use crate::{Error, Result};

/// The maximum size of one value: a payload, the inputs, an output or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    value_bytes: usize,
}

impl Limits {
    /// The default limit: 1 MiB.
    pub const DEFAULT_VALUE_BYTES: usize = 1 << 20;
    /// The highest possible limit: 16 MiB.
    pub const MAX_VALUE_BYTES: usize = 16 << 20;

    /// Limits values to `value_bytes` bytes of UTF-8. The size of a JSON value is that of its text.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidInput`] above [`MAX_VALUE_BYTES`](Self::MAX_VALUE_BYTES).
    pub fn new(value_bytes: usize) -> Result<Self> {
        if value_bytes > Self::MAX_VALUE_BYTES {
            return Err(Error::invalid(
                "value_bytes",
                format!("must be at most {}", Self::MAX_VALUE_BYTES),
            ));
        }
        Ok(Self { value_bytes })
    }

    /// Returns the limit in bytes.
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
