use serde::{Deserialize, Serialize};

/// Which end of a list comes first.
///
/// Runs go by `started_at`, then by `id`; the events of a run by their sequence. Either way the order is total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListOrder {
    /// Descending, as every list of [`Storage`](crate::Storage) does it.
    #[default]
    NewestFirst,
    /// Ascending.
    OldestFirst,
}

impl ListOrder {
    /// The other one.
    pub fn reversed(self) -> Self {
        match self {
            Self::NewestFirst => Self::OldestFirst,
            Self::OldestFirst => Self::NewestFirst,
        }
    }
}
