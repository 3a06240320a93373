//! Migrations of a fictitious later version, for tests of rolling updates: a column, an index and
//! data.

use sea_orm::sea_query::{ColumnDef, ConditionalStatement, Expr, ExprTrait, Index, Query};
use sea_orm::{DbBackend, Statement};

use crate::schema_migration::{Change, SchemaMigration};

const TABLE: &str = "skill_run_logs";
const COLUMN: &str = "note";
const INDEX: &str = "runtrail_skill_run_logs_by_note";

pub(crate) const ADD_COLUMN: SchemaMigration = SchemaMigration {
    name: "runtrail_m29991231_000001_add_note@0.1.0",
    change: Change::Columns {
        table: TABLE,
        names: &[COLUMN],
        definition: |_, name| ColumnDef::new(name).text().take(),
    },
    up: |_| Vec::new(),
    down: |_| Vec::new(),
};

pub(crate) const ADD_INDEX: SchemaMigration = SchemaMigration {
    name: "runtrail_m29991231_000002_index_note@0.1.0",
    change: Change::Index {
        table: TABLE,
        name: INDEX,
    },
    up: create_index,
    down: drop_index,
};

pub(crate) const FILL_COLUMN: SchemaMigration = SchemaMigration {
    name: "runtrail_m29991231_000003_fill_note@0.1.0",
    change: Change::Data { table: TABLE },
    up: fill,
    down: |_| Vec::new(),
};

fn create_index(backend: DbBackend) -> Vec<Statement> {
    let index = Index::create()
        .if_not_exists()
        .name(INDEX)
        .table(TABLE)
        .col(COLUMN)
        .and_where(Expr::col(COLUMN).is_not_null())
        .take();
    vec![backend.build(&index)]
}

fn drop_index(backend: DbBackend) -> Vec<Statement> {
    vec![backend.build(Index::drop().if_exists().name(INDEX).table(TABLE))]
}

fn fill(backend: DbBackend) -> Vec<Statement> {
    let update = Query::update()
        .table(TABLE)
        .value(COLUMN, Expr::col("event_type"))
        .and_where(Expr::col(COLUMN).is_null())
        .take();
    vec![backend.build(&update)]
}
