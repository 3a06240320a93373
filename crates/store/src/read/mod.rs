//! The queries that read many runs, and what they have in common.

pub(crate) mod last_run;
pub(crate) mod lineage;
pub(crate) mod list;
pub(crate) mod lookup;

mod filter;
pub(crate) mod page;
pub(crate) mod stretch;
