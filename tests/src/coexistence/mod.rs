/// In a host's open transaction, and on any other `ConnectionTrait`.
mod transactions;

/// The entities, joined with a host's tables.
mod entities;

/// PostgreSQL's roles, schemas and poolers.
mod postgres;

/// PostgreSQL databases that can't store every character.
mod encodings;
