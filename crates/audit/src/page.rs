use serde::{Deserialize, Serialize};

/// A part of a list, as the number of rows to skip and a limit; the default is the whole list.
///
/// All values are valid: beyond the end of the list, a page is empty.
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
    /// The maximum number of rows; `None` means no limit.
    pub limit: Option<u64>,
    /// The number of rows to skip first; it also applies without a limit.
    pub offset: u64,
}

impl Page {
    /// The whole list.
    pub const ALL: Self = Self {
        limit: None,
        offset: 0,
    };

    /// Selects the first `limit` rows.
    pub const fn first(limit: u64) -> Self {
        Self {
            limit: Some(limit),
            offset: 0,
        }
    }

    /// Skips `offset` rows first.
    pub const fn skip(self, offset: u64) -> Self {
        Self {
            limit: self.limit,
            offset,
        }
    }
}

impl From<Option<u64>> for Page {
    /// Starts at the first row, with this limit if it is set.
    fn from(limit: Option<u64>) -> Self {
        Self { limit, offset: 0 }
    }
}
