use std::fmt;

use crate::{Error, Result};

/// The name of a PostgreSQL schema: a lower-case letter or `_`, then lower-case letters, digits or `_`, at
/// most 63 in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSchemaName`].
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let goes_on_well = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.len() <= 63 && starts_well && name.chars().all(goes_on_well) {
            Ok(Self(name))
        } else {
            Err(Error::InvalidSchemaName)
        }
    }

    /// The name itself.
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
