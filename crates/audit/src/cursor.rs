use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place in a list, as a text to hand out and take back: letters, digits, `-` and `_`.
///
/// It belongs to the filter and the order of the list that it came from, and stays valid for as long as those do: over
/// restarts, and in a copy of the history. What is in it is nobody's business, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Cursor {
    /// A text that came back. Whether it is a cursor is checked when it is used.
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

/// Which page of a list is wanted: how many records, and from where on.
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
    /// At most so many records: from 1 to [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub limit: u64,
    /// From here on, forward or back as the cursor says; from the beginning of the list without one.
    #[serde(default)]
    pub cursor: Option<Cursor>,
}

impl PageRequest {
    /// The most records of a page.
    pub const MAX_LIMIT: u64 = 1_000;

    /// The first page.
    pub const fn first(limit: u64) -> Self {
        Self {
            limit,
            cursor: None,
        }
    }

    /// The page after this cursor, or before it, as the cursor says; the first page for `None`.
    pub fn at(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.cursor = cursor.into();
        self
    }
}

impl Default for PageRequest {
    /// The first 50.
    fn default() -> Self {
        Self::first(50)
    }
}

/// Some records of a list, in its order whichever way they were reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CursorPage<T> {
    /// The records.
    pub items: Vec<T>,
    /// The page that follows; `None` if no record follows, or on an empty page.
    pub next: Option<Cursor>,
    /// The page before this one; `None` on the first page and on an empty one. The records on it may have been purged
    /// in the meantime.
    pub previous: Option<Cursor>,
    /// The place before the first record, for records that are stored there later; on an empty page it is
    /// set only in the direction in which the page was reached.
    pub start_cursor: Option<Cursor>,
    /// The place after the last record, for records that are stored there later; on an empty page it is
    /// set only in the direction in which the page was reached.
    pub end_cursor: Option<Cursor>,
}

impl<T> CursorPage<T> {
    /// A page with these records, and nothing before or after them.
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
