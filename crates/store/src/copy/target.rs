//! Writing rows of another history, as they are.

use runtrail_audit::{Error, Result};
use runtrail_entity::{skill_run, skill_run_log};
use sea_orm::{EntityTrait, IdenStatic, Iterable, ModelTrait, Value};

use crate::store::AuditStore;
use crate::{backend, logs, runs};

/// Why the database couldn't hold this row: SQLite has texts that PostgreSQL can't have.
pub(super) fn refusal<M: ModelTrait>(target: &AuditStore, row: &M) -> Option<String> {
    if !backend::has_schemas(target.connection()) {
        return None;
    }
    let has_nul = |column: &<M::Entity as EntityTrait>::Column| matches!(row.get(*column), Value::String(Some(text)) if text.contains('\0'));
    let column = <M::Entity as EntityTrait>::Column::iter().find(has_nul)?;
    Some(format!(
        "{} contains a NUL character, which PostgreSQL can't hold",
        column.as_str()
    ))
}

/// Inserts runs, and tells which are stored as they are: not those of which there is another one.
pub(super) async fn insert_runs(
    target: &AuditStore,
    rows: &[skill_run::Model],
) -> Result<Vec<bool>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    runs::insert(&target.writing().await?, rows).await
}

/// Finishes runs as others have finished, and tells which are.
pub(super) async fn finish_runs(
    target: &AuditStore,
    rows: &[skill_run::Model],
) -> Result<Vec<bool>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    runs::finish_as(&target.writing().await?, rows).await
}

/// Appends events, and answers for each.
pub(super) async fn append_events(
    target: &AuditStore,
    rows: &[skill_run_log::Model],
) -> Result<Vec<Result<(), Error>>> {
    let rows: Vec<_> = rows.iter().collect();
    logs::append_many(&target.writing().await?, &rows).await
}
