//! Writing rows of another history, as they are.

use runtrail_audit::{Error, Result};
use runtrail_db::backend;
use runtrail_entity::{skill_run, skill_run_log};
use sea_orm::{EntityTrait, IdenStatic, Iterable, Value};

use super::history::Copied;
use crate::store::AuditStore;
use crate::{finishes, logs, starts};

/// Why the target can't hold this row, or shouldn't: SQLite has values that neither this library writes nor PostgreSQL
/// takes.
pub(super) fn refusal<M: Copied>(target: &AuditStore, row: &M) -> Option<Error> {
    if let Err(err) = row.check() {
        return Some(err);
    }
    if backend::holds_nul(target.connection()) {
        return None;
    }
    let has_nul = |column: &<M::Entity as EntityTrait>::Column| matches!(row.get(*column), Value::String(Some(text)) if text.contains('\0'));
    let column = <M::Entity as EntityTrait>::Column::iter().find(has_nul)?;
    let reason = "contains a NUL character, which PostgreSQL can't hold";
    Some(Error::invalid(column.as_str(), reason))
}

/// Inserts runs, and tells which are stored as they are: not those of which there is another one.
pub(super) async fn insert_runs(
    target: &AuditStore,
    rows: &[skill_run::Model],
) -> Result<Vec<bool>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    starts::insert(&target.writing().await?, rows).await
}

/// Finishes runs as others have finished, and tells which are.
pub(super) async fn finish_runs(
    target: &AuditStore,
    rows: &[skill_run::Model],
) -> Result<Vec<bool>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    finishes::finish_as(&target.writing().await?, rows).await
}

/// Appends events, and answers for each.
pub(super) async fn append_events(
    target: &AuditStore,
    rows: &[skill_run_log::Model],
) -> Result<Vec<Result<(), Error>>> {
    let rows: Vec<_> = rows.iter().collect();
    logs::append_many(&target.writing().await?, &rows).await
}
