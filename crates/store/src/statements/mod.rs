//! The statements that write, and those that check whether a write has been done; one file per
//! noun.

pub(crate) mod budgets;
pub(crate) mod combined;
pub(crate) mod finishes;
pub(crate) mod interruptions;
pub(crate) mod labels;
pub(crate) mod logs;
pub(crate) mod owners;
pub(crate) mod purge;
pub(crate) mod reservations;
pub(crate) mod runs;
pub(crate) mod staged_records;
pub(crate) mod starts;

/// The maximum number of rows that one statement writes.
pub(crate) const MAX_BATCH_ROWS: usize = 1_000;
/// The maximum total size of the texts that one statement writes, unless it writes a single row.
pub(crate) const MAX_BATCH_BYTES: usize = 4 << 20;
