/// What statements a write consists of.
mod statements;

/// SQLite's settings, on every connection.
mod pragmas;

/// Databases that are busy, full, slow or gone.
mod failures;
