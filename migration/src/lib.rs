//! Creates, changes and checks Runtrail's schema.
//!
//! There are two ways to migrate, and a database may be migrated in both, in any order:
//!
//! - **standalone**: [`Migrator`] (behind `cargo xtask migrate` and `AuditStore::initialize`)
//!   applies pending migrations in one transaction, under a lock, and records them in its own
//!   table, `runtrail_migrations`;
//! - **composed**: with the cargo feature `sea-orm-migration`, a host adds [`migrations()`] to its
//!   own migrator, before the host's own. Hosts whose processes may start at the same time run
//!   their migrator under [`locked`].
//!
#![cfg_attr(feature = "sea-orm-migration", doc = "```")]
#![cfg_attr(not(feature = "sea-orm-migration"), doc = "```ignore")]
//! use sea_orm_migration::prelude::*;
//!
//! struct HostMigrator;
//!
//! impl MigratorTrait for HostMigrator {
//!     fn migrations() -> Vec<Box<dyn MigrationTrait>> {
//!         // First, so that the host's tables can refer to ours, and a step down reverts the
//!         // host's last migration.
//!         let mut all = runtrail_migration::migrations();
//!         all.extend(vec![/* the host's own */]);
//!         all
//!     }
//! }
//! # let ours = runtrail_migration::migrations().len();
//! # assert_eq!(HostMigrator::migrations().len(), ours);
//! ```

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("runtrail-migration needs one of the features `sqlite` and `postgres`");

// migration/README.md explains how to change the schema.
mod later_version;
mod m20261124_000001_create_skill_runs;
mod m20261124_000002_create_skill_run_logs;
mod m20261127_000003_index_dry_runs;
mod m20261128_000004_add_usage;
mod m20261128_000005_create_owners;
mod m20261128_000006_add_owner;
mod m20261128_000007_index_owned_runs;
mod m20261128_000008_add_labels;
mod m20261128_000009_index_labels;
mod m20261128_000010_create_staged_records;
mod m20261128_000011_create_budgets;
mod m20261128_000012_index_usage;
mod m20261128_000013_create_budget_usage;
mod m20261128_000014_create_budget_reservations;
mod m20261128_000015_create_budget_charges;
mod m20261128_000016_count_groups_of_reservations;
mod schema_migration;
mod shape;

mod catalog;
#[cfg(feature = "sea-orm-migration")]
mod composed;
mod lock;
mod migrator;
mod records;
mod schema_name;
mod schema_state;
mod script;

#[cfg(feature = "cli")]
pub mod command;
#[cfg(feature = "cli")]
pub mod report;

mod error;

#[cfg(feature = "sea-orm-migration")]
pub use composed::migrations;
pub use error::{Error, Result};
pub use lock::{InTransaction, locked};
pub use migrator::{MigrationEntry, Migrator};
pub use records::MIGRATION_TABLE;
pub use schema_name::SchemaName;
pub use schema_state::SchemaState;
pub use script::script;

use schema_migration::SchemaMigration;

/// The prefix of every migration's name, which distinguishes it from a host's migrations.
pub const NAME_PREFIX: &str = "runtrail_";

/// All migrations in their order.
const MIGRATIONS: &[SchemaMigration] = &[
    m20261124_000001_create_skill_runs::MIGRATION,
    m20261124_000002_create_skill_run_logs::MIGRATION,
    m20261127_000003_index_dry_runs::MIGRATION,
    m20261128_000004_add_usage::MIGRATION,
    m20261128_000005_create_owners::MIGRATION,
    m20261128_000006_add_owner::MIGRATION,
    m20261128_000007_index_owned_runs::MIGRATION,
    m20261128_000008_add_labels::MIGRATION,
    m20261128_000009_index_labels::MIGRATION,
    m20261128_000010_create_staged_records::MIGRATION,
    m20261128_000011_create_budgets::MIGRATION,
    m20261128_000012_index_usage::MIGRATION,
    m20261128_000013_create_budget_usage::MIGRATION,
    m20261128_000014_create_budget_reservations::MIGRATION,
    m20261128_000015_create_budget_charges::MIGRATION,
    m20261128_000016_count_groups_of_reservations::MIGRATION,
];

/// The same migrations, and some of a fictitious later version.
const LATER_MIGRATIONS: [SchemaMigration; 19] = [
    MIGRATIONS[0],
    MIGRATIONS[1],
    MIGRATIONS[2],
    MIGRATIONS[3],
    MIGRATIONS[4],
    MIGRATIONS[5],
    MIGRATIONS[6],
    MIGRATIONS[7],
    MIGRATIONS[8],
    MIGRATIONS[9],
    MIGRATIONS[10],
    MIGRATIONS[11],
    MIGRATIONS[12],
    MIGRATIONS[13],
    MIGRATIONS[14],
    MIGRATIONS[15],
    later_version::ADD_COLUMN,
    later_version::ADD_INDEX,
    later_version::FILL_COLUMN,
];
