//! Queries that read many runs, and their shared parts.

pub(crate) mod last_run;
pub(crate) mod lineage;
pub(crate) mod list;
pub(crate) mod lookup;

mod buckets;
pub(crate) mod chunk;
mod filter;
mod labels;
pub(crate) mod page;
pub(crate) mod statistics;
pub(crate) mod subtree_totals;
pub(crate) mod usage;

/// The maximum number of values for which a filter is split into parts with an index each. Each
/// part reads a whole page.
const MAX_PARTS: usize = 8;
