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

impl<T: Into<String>> From<T> for Cursor {
    /// A text that came back; whether it is a cursor is found out when it is used.
    fn from(text: T) -> Self {
        Self(text.into())
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

    /// The page after this cursor, or before it, as the cursor says.
    pub fn at(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
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
pub struct CursorPage<T> {
    /// The records.
    pub items: Vec<T>,
    /// What comes after them, now or later: at the end of a list that goes on to grow, it is where to ask again.
    /// `None` only for a page without rows: of an empty list, or reached from its other side.
    pub next: Option<Cursor>,
    /// What comes before them, now or later; `None` only for a page without rows: of an empty list, or reached from its
    /// other side.
    pub previous: Option<Cursor>,
    /// Whether there are more in the direction in which this page was reached.
    pub has_more: bool,
}
