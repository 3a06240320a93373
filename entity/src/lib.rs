//! SeaORM entities of Runtrail's tables.
//!
//! With them, a host can read the history in its own queries and join it with its own tables.
//! Only `runtrail-store` should write: it enforces guarantees that the tables alone can't.
//!
//! The entities name no schema. If the tables are in a PostgreSQL schema other than the
//! connection's first one, add that schema to the search path:
//! `ConnectOptions::set_schema_search_path("public,audit")`. Behind a pooler in transaction mode,
//! set it for the role instead: `ALTER ROLE app SET search_path = public, audit`.
//!
//! The feature `serde` makes the models serialisable. A host needs it if its own serialisable
//! entities refer to these. A host that enables `sea-orm/seaography` has to enable the feature
//! `seaography`.
//!
//! Times are microseconds since the epoch. JSON is stored as text, as `serde_json` writes it.
//!
//! A later version may add a column, and with it a field. Read fields by name, and build rows with
//! an `ActiveModel`: a struct literal of a `Model` would no longer compile. The models can't be
//! `#[non_exhaustive]`: the store builds them with struct literals, so that the compiler checks
//! that it sets every column.

#![expect(
    clippy::disallowed_methods,
    reason = "the model macro generates methods that write, which nothing here calls"
)]

pub mod budget;
pub mod budget_charge;
pub mod budget_reservation;
pub mod budget_usage;
pub mod owner;
pub mod run_label;
pub mod skill_run;
pub mod skill_run_log;
pub mod staged_record;
