//! What the page responds with, by its router.

/// A visitor of the page.
mod visit;

/// The list of runs: filters, pages, histogram.
mod runs_page;

/// A run: head, texts, waterfall, events.
mod run_page;

/// Two runs side by side.
mod compare_page;

/// Who sees what, and what every response has in common.
mod access;

/// The history as JSON.
mod api;

/// Statistics: numbers, groups, times, restrictions.
mod statistics_page;
