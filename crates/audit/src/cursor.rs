use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A position in a list, as opaque text for clients: letters, digits, `-` and `_`.
///
/// A cursor is valid only for the filter and the order of the list that it came from. With these it
/// stays valid indefinitely: across restarts, and in a copy of the history. Its content is an
/// implementation detail, but not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Cursor {
    /// Accepts any text; a malformed cursor is reported when it is used.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Cursor {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for Cursor {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Selects a page of a list: the number of records and the cursor to start from.
///
/// ```
/// # use runtrail_audit::{Cursor, PageRequest};
/// let first = PageRequest::first(50);
/// let next = PageRequest::first(50).at(Cursor::from("the `next` of the first page"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use]
pub struct PageRequest {
    /// The maximum number of records, from 1 to [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub limit: u64,
    /// Where the page starts; `None` for the beginning of the list. The cursor also determines the
    /// direction.
    #[serde(default)]
    pub cursor: Option<Cursor>,
}

impl PageRequest {
    /// The maximum number of records of a page.
    pub const MAX_LIMIT: u64 = 1_000;

    /// Requests the first page.
    pub const fn first(limit: u64) -> Self {
        Self {
            limit,
            cursor: None,
        }
    }

    /// Sets the cursor. The page lies after it or before it, depending on the cursor; `None`
    /// requests the first page.
    pub fn at(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.cursor = cursor.into();
        self
    }
}

impl Default for PageRequest {
    /// Requests the first 50 records.
    fn default() -> Self {
        Self::first(50)
    }
}

/// One page of a list. Its records are in the order of the list, even if the page was reached
/// backwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CursorPage<T> {
    /// The records.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` if no record follows, or if this page is empty.
    pub next: Option<Cursor>,
    /// The cursor of the previous page; `None` if this page is the first one, or empty. The records
    /// of the previous page may have been purged in the meantime.
    pub previous: Option<Cursor>,
    /// The position before the first record, to look for records that are stored there later. On an
    /// empty page it is set only if the page was reached backwards.
    pub start_cursor: Option<Cursor>,
    /// The position after the last record, to look for records that are stored there later. On an
    /// empty page it is set only if the page was reached forwards from a cursor.
    pub end_cursor: Option<Cursor>,
}

impl<T> CursorPage<T> {
    /// Creates a page of these records, without cursors.
    pub fn new(items: Vec<T>) -> Self {
        Self {
            items,
            next: None,
            previous: None,
            start_cursor: None,
            end_cursor: None,
        }
    }
}
