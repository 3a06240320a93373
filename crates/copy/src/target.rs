//! Checks whether the target can store a row.

use runtrail_audit::Error;
use runtrail_store::AuditStore;
use sea_orm::{EntityTrait, IdenStatic, Iterable, Value};

use crate::history::CopiedRow;

/// Returns why the target can't or shouldn't store this row; `None` if it can. SQLite can contain
/// values that Runtrail never writes and PostgreSQL doesn't accept.
pub(crate) fn refusal<M: CopiedRow>(target: &AuditStore, row: &M) -> Option<Error> {
    if let Err(err) = row.check() {
        return Some(err);
    }
    if target.stored_rows().can_store_nul() {
        return None;
    }
    let has_nul = |column: &<M::Entity as EntityTrait>::Column| match row.get(*column) {
        Value::String(Some(text)) => text.contains('\0'),
        _ => false,
    };
    let column = <M::Entity as EntityTrait>::Column::iter().find(has_nul)?;
    let reason = "contains a NUL character, which PostgreSQL can't store";
    Some(Error::invalid(column.as_str(), reason))
}
