use serde::{Deserialize, Serialize};

/// A stretch of a list: how many rows, after skipping how many; the default is the whole list.
///
/// Any number is fine: beyond the end of the list there are simply no rows.
///
/// ```
/// use runtrail_audit::Page;
///
/// let third = Page::first(50).skip(100);
/// assert_eq!((third.limit, third.offset), (Some(50), 100));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[must_use]
pub struct Page {
    /// At most this many rows; `None` means all.
    pub limit: Option<u64>,
    /// Rows to skip first, with and without a limit.
    pub offset: u64,
}

impl Page {
    /// The whole list.
    pub const ALL: Self = Self {
        limit: None,
        offset: 0,
    };

    /// The first `limit` rows.
    pub const fn first(limit: u64) -> Self {
        Self {
            limit: Some(limit),
            offset: 0,
        }
    }

    /// The same number of rows, after skipping `offset`.
    pub const fn skip(self, offset: u64) -> Self {
        Self {
            limit: self.limit,
            offset,
        }
    }
}

impl From<Option<u64>> for Page {
    /// From the start, with a limit or without.
    fn from(limit: Option<u64>) -> Self {
        Self { limit, offset: 0 }
    }
}
