/// What statements a write consists of.
mod statements;

/// Futures that are dropped half way.
mod cancelled;

/// Processes that are killed.
mod killed;

/// SQLite's settings, on every connection.
mod pragmas;

/// Databases that are busy, full, slow or gone.
mod failures;
