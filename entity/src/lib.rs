//! SeaORM entities of Runtrail's tables: rows, nothing else.
//!
//! They are here so that a host can read the history in its own queries and join it with its own tables.
//! Writing is the business of `runtrail-store`, which keeps the promises that a row alone can't.
//!
//! They name no schema. If the tables are in a PostgreSQL schema other than the connection's first one, add that schema
//! to the search path: `ConnectOptions::set_schema_search_path("public,audit")`. Behind a pooler in transaction mode,
//! set it for the role instead: `ALTER ROLE app SET search_path = public, audit`.
//!
//! The feature `serde` makes the models serialisable, which a host's serialisable entities need if they refer to them.
//! A host that enables `sea-orm/seaography` has to enable the feature `seaography`.
//!
//! Times are microseconds since the epoch, JSON is the text that `serde_json` made of it.
//!
//! A later version may add a column, and so a field. Read fields by name, and build rows with an `ActiveModel`; a struct
//! literal of a `Model` wouldn't compile any more. The models can't be `#[non_exhaustive]`, since the store builds them
//! by literals, which prove that it sets every column.

#![expect(
    clippy::disallowed_methods,
    reason = "the model macro generates methods that write, and nothing here calls them"
)]

pub mod skill_run;
pub mod skill_run_log;
