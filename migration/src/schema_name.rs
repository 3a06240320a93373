use std::fmt;

use crate::{Error, Result};

/// The name of a PostgreSQL schema: a lower-case letter or `_`, then lower-case letters, digits or
/// `_`, at most 63 in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// Validates a name.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSchemaName`].
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let has_valid_start = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.len() <= 63 && has_valid_start && name.chars().all(is_valid) {
            Ok(Self(name))
        } else {
            Err(Error::InvalidSchemaName)
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for SchemaName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}
