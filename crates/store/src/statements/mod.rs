//! The statements that write, and those that tell whether a write has been done; a file for each noun.

pub(crate) mod finishes;
pub(crate) mod logs;
pub(crate) mod purge;
pub(crate) mod runs;
pub(crate) mod starts;

/// The most that one statement takes.
pub(crate) const MOST_AT_ONCE: usize = 1_000;
pub(crate) const MOST_BYTES_AT_ONCE: usize = 4 << 20;
