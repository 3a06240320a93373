use serde::{Deserialize, Serialize};

/// The sort direction of a list.
///
/// Runs are sorted by `started_at`, then by `id`; the events of a run by their sequence. Both
/// orders are total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListOrder {
    /// Descending, like every list of runs in [`Storage`](crate::Storage).
    #[default]
    NewestFirst,
    /// Ascending.
    OldestFirst,
}

impl ListOrder {
    /// Returns the opposite order.
    pub fn reversed(self) -> Self {
        match self {
            Self::NewestFirst => Self::OldestFirst,
            Self::OldestFirst => Self::NewestFirst,
        }
    }
}
