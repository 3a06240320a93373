//! The pages, one file or folder each.

pub(crate) mod compare;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod statistics;
