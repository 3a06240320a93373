//! The receiver, as exporters see it. The messages are built with the official generated types.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

/// A sink that records, requests, and the messages in them.
mod fixture;

/// What becomes of a span, in both encodings.
mod spans;

/// What becomes of a log, in both encodings, and its id.
mod logs;

/// Statuses and bodies of answers, paths, and health.
mod answers;

/// Size, memory and time of a body, and what it may hold.
mod limits;

/// Tokens, hosts and origins.
mod guards;

/// Over a real connection.
mod connections;

/// Random and damaged bodies.
mod damage;
