use std::fmt;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::catalog::{
    OnDelete, columns_in_another_collation, foreign_keys, indexes, is_postgres, may_hide_rows,
    primary_key, triggers,
};
use crate::{Result, SchemaName, SchemaState};

/// The indexes, keys, triggers and collation of one of our tables.
///
/// SeaORM's schema sync and `create_table_from_entity` create tables with the same columns but
/// without these.
pub(crate) struct Shape {
    table: &'static str,
    primary_key: &'static [&'static str],
    /// Columns that compare by bytes.
    identifiers: &'static [&'static str],
    indexes: &'static [&'static str],
    /// The triggers that write to this table: the table that each belongs to, and its name.
    triggers: &'static [(&'static str, &'static str)],
    parent: Option<Parent>,
}

/// The table that ours refers to. Deleting one of its rows also deletes the rows of ours that refer
/// to it (`ON DELETE CASCADE`).
struct Parent {
    column: &'static str,
    table: &'static str,
    constraint: &'static str,
}

const SHAPES: [Shape; 9] = [
    Shape {
        table: "skill_runs",
        primary_key: &["id"],
        identifiers: &[
            "id",
            "skill_id",
            "caller_id",
            "channel_id",
            "parent_run_id",
            "status",
            "owner_id",
        ],
        indexes: &[
            "runtrail_skill_runs_by_skill",
            "runtrail_skill_runs_by_caller",
            "runtrail_skill_runs_by_channel",
            "runtrail_skill_runs_by_parent",
            "runtrail_skill_runs_by_status",
            "runtrail_skill_runs_by_start",
            "runtrail_skill_runs_by_finish",
        ],
        triggers: &[],
        parent: None,
    },
    Shape {
        table: "skill_run_logs",
        primary_key: &["run_id", "sequence"],
        identifiers: &["run_id", "event_type", "provider", "model"],
        indexes: &[],
        triggers: &[],
        parent: Some(Parent {
            column: "run_id",
            table: "skill_runs",
            constraint: "runtrail_skill_run_logs_run",
        }),
    },
    Shape {
        table: "runtrail_owners",
        primary_key: &["id"],
        identifiers: &["id", "label"],
        indexes: &[],
        triggers: &[],
        parent: None,
    },
    Shape {
        table: "runtrail_run_labels",
        primary_key: &["key", "value", "run_started_at", "run_id"],
        identifiers: &["key", "value", "run_id"],
        indexes: &["runtrail_run_labels_by_key"],
        triggers: &[
            ("skill_runs", "runtrail_insert_labels"),
            ("skill_runs", "runtrail_update_labels"),
            ("skill_runs", "runtrail_delete_labels"),
        ],
        parent: None,
    },
    Shape {
        table: "runtrail_staged_records",
        primary_key: &["group_id", "id"],
        identifiers: &["group_id", "id", "parent_id", "kind", "run_id"],
        indexes: &[
            "runtrail_staged_records_waiting",
            "runtrail_staged_records_settled",
        ],
        triggers: &[],
        parent: None,
    },
    Shape {
        table: "runtrail_budgets",
        primary_key: &["name"],
        identifiers: &["name", "unit", "scope", "scope_id", "period"],
        indexes: &[],
        triggers: &[],
        parent: None,
    },
    Shape {
        table: "runtrail_budget_usage",
        primary_key: &["budget", "slot_start"],
        identifiers: &["budget"],
        indexes: &[],
        triggers: &[],
        parent: None,
    },
    Shape {
        table: "runtrail_budget_reservations",
        primary_key: &["id"],
        identifiers: &[
            "id",
            "owner_id",
            "run_id",
            "caller_id",
            "skill_id",
            "channel_id",
        ],
        indexes: &[
            "runtrail_budget_reservations_open",
            "runtrail_budget_reservations_closed",
        ],
        triggers: &[],
        parent: None,
    },
    Shape {
        table: "runtrail_budget_charges",
        primary_key: &["reservation_id", "budget"],
        identifiers: &["reservation_id", "budget"],
        indexes: &[],
        triggers: &[],
        parent: None,
    },
];

/// A missing part of a table.
enum MissingPart {
    PrimaryKey(&'static [&'static str]),
    Index(&'static str),
    Trigger(&'static str, &'static str),
    Collation(&'static str),
    Cascade(&'static Parent),
}

impl MissingPart {
    /// Returns whether a migration can add this part to an existing table. SQLite can't add keys.
    fn can_be_added(&self, backend: DbBackend) -> bool {
        match self {
            Self::PrimaryKey(_) => false,
            Self::Index(_) | Self::Trigger(..) | Self::Collation(_) => true,
            Self::Cascade(_) => backend == DbBackend::Postgres,
        }
    }
}

impl fmt::Display for MissingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrimaryKey(columns) => write!(f, "the primary key ({})", columns.join(", ")),
            Self::Index(name) => write!(f, "the index {name}"),
            Self::Trigger(table, name) => write!(f, "the trigger {name} of {table}"),
            Self::Collation(column) => write!(f, r#"the collation "C" of {column}"#),
            Self::Cascade(Parent { column, table, .. }) => {
                write!(
                    f,
                    "a foreign key from {column} to {table} with ON DELETE CASCADE"
                )
            }
        }
    }
}

/// How complete a table is, compared with its [`Shape`].
pub(crate) enum Completeness {
    Complete,
    /// A migration can add the rest.
    Completable,
    /// The table lacks parts that can't be added.
    Unfit(SchemaState),
}

impl Shape {
    pub(crate) fn of(table: &str) -> Option<&'static Self> {
        SHAPES.iter().find(|shape| shape.table == table)
    }

    /// Returns how complete an existing table is.
    pub(crate) async fn completeness(
        &'static self,
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
    ) -> Result<Completeness, DbErr> {
        let missing = self.missing_parts(db, schema).await?;
        let backend = db.get_database_backend();
        let unfit: Vec<String> = missing
            .iter()
            .filter(|part| !part.can_be_added(backend))
            .map(MissingPart::to_string)
            .collect();
        Ok(match (missing.is_empty(), unfit.is_empty()) {
            (true, _) => Completeness::Complete,
            (false, true) => Completeness::Completable,
            (false, false) => Completeness::Unfit(SchemaState::Incomplete {
                table: self.table.to_owned(),
                missing: unfit,
            }),
        })
    }

    /// Adds the missing parts of a table that already existed, except indexes and triggers, which
    /// the migration's statements create.
    pub(crate) async fn complete(&'static self, db: &impl ConnectionTrait) -> Result<()> {
        let missing = self.missing_parts(db, None).await?;
        let collations: Vec<String> = missing
            .iter()
            .filter_map(|part| match part {
                MissingPart::Collation(column) => {
                    Some(format!(r#"ALTER COLUMN {column} TYPE text COLLATE "C""#))
                }
                _ => None,
            })
            .collect();
        if !collations.is_empty() {
            self.alter(db, &collations.join(", ")).await?;
        }
        for part in missing {
            if let MissingPart::Cascade(parent) = part {
                self.add_cascade(db, parent).await?;
            }
        }
        Ok(())
    }

    /// Adds the foreign key. Drops other keys to the same table, which would still prevent the
    /// deletion of a run.
    async fn add_cascade(&self, db: &impl ConnectionTrait, parent: &Parent) -> Result<()> {
        let Parent {
            column,
            table,
            constraint,
        } = parent;
        let others = foreign_keys(db, None, (self.table, column), table, OnDelete::Other).await?;
        let mut changes: Vec<String> = others
            .iter()
            .map(|name| format!("DROP CONSTRAINT {name}"))
            .collect();
        let own = foreign_keys(db, None, (self.table, column), table, OnDelete::Cascade).await?;
        if own.is_empty() {
            changes.push(format!(
                "ADD CONSTRAINT {constraint} FOREIGN KEY ({column}) REFERENCES {table} (id) ON \
                DELETE CASCADE"
            ));
        }
        self.alter(db, &changes.join(", ")).await
    }

    /// Alters the table. `changes` contains only our own names, or names quoted by the server.
    async fn alter(&self, db: &impl ConnectionTrait, changes: &str) -> Result<()> {
        let sql = format!("ALTER TABLE {} {changes}", self.table);
        #[expect(
            clippy::disallowed_methods,
            reason = "the query builder can't change a collation"
        )]
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        db.execute_raw(statement).await?;
        Ok(())
    }

    /// Returns [`SchemaState::Incomplete`] if the rows of a table would outlive their parents.
    pub(crate) async fn without_cascade(
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
    ) -> Result<Option<SchemaState>, DbErr> {
        for shape in &SHAPES {
            let Some(parent) = &shape.parent else {
                continue;
            };
            let from = (shape.table, parent.column);
            let keys = foreign_keys(db, schema, from, parent.table, OnDelete::Cascade).await?;
            if keys.is_empty() {
                return Ok(Some(SchemaState::Incomplete {
                    table: shape.table.to_owned(),
                    missing: vec![MissingPart::Cascade(parent).to_string()],
                }));
            }
        }
        Ok(None)
    }

    /// Returns a table of which this role may not see all rows, if there is one.
    pub(crate) async fn with_hidden_rows(
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
    ) -> Result<Option<&'static str>, DbErr> {
        for shape in &SHAPES {
            if may_hide_rows(db, schema, shape.table).await? {
                return Ok(Some(shape.table));
            }
        }
        Ok(None)
    }

    async fn missing_parts(
        &'static self,
        db: &impl ConnectionTrait,
        schema: Option<&SchemaName>,
    ) -> Result<Vec<MissingPart>, DbErr> {
        let mut parts = Vec::new();
        let mut key = primary_key(db, schema, self.table).await?;
        let mut expected = self.primary_key.to_vec();
        key.sort();
        expected.sort_unstable();
        if key != expected {
            parts.push(MissingPart::PrimaryKey(self.primary_key));
        }
        let found = indexes(db, schema, self.table).await?;
        let missing = self.indexes.iter().filter(|name| !has(&found, name));
        parts.extend(missing.map(|name| MissingPart::Index(name)));
        for (table, name) in self.triggers {
            if !has(&triggers(db, schema, table).await?, name) {
                parts.push(MissingPart::Trigger(table, name));
            }
        }
        if is_postgres(db) {
            let found = columns_in_another_collation(db, schema, self.table).await?;
            let columns = self.identifiers.iter().filter(|name| has(&found, name));
            parts.extend(columns.map(|column| MissingPart::Collation(column)));
        }
        if let Some(parent) = &self.parent {
            let from = (self.table, parent.column);
            let own = foreign_keys(db, schema, from, parent.table, OnDelete::Cascade).await?;
            let others = foreign_keys(db, schema, from, parent.table, OnDelete::Other).await?;
            if own.is_empty() || !others.is_empty() {
                parts.push(MissingPart::Cascade(parent));
            }
        }
        Ok(parts)
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|found| found == name)
}
