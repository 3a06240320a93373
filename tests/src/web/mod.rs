//! What the page responds with, by its router.

/// A visitor of the page.
mod visit;

/// Statistics: numbers, groups, times, restrictions.
mod statistics_page;
