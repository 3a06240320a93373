/// In a host's open transaction, and on any other `ConnectionTrait`.
mod transactions;

/// The entities, joined with a host's own tables.
mod entities;

/// PostgreSQL's roles, schemas and poolers.
mod postgres;

/// PostgreSQL databases that can't hold every character.
mod encodings;
