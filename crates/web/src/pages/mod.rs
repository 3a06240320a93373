//! The pages, one file or folder each.

pub(crate) mod runs;
pub(crate) mod statistics;
