//! What a target can hold.

use runtrail_audit::Error;
use runtrail_store::AuditStore;
use sea_orm::{EntityTrait, IdenStatic, Iterable, Value};

use crate::history::Copied;

/// Why the target can't hold this row, or shouldn't: SQLite has values that neither this library writes nor PostgreSQL
/// takes.
pub(crate) fn refusal<M: Copied>(target: &AuditStore, row: &M) -> Option<Error> {
    if let Err(err) = row.check() {
        return Some(err);
    }
    if target.stored_rows().can_store_nul() {
        return None;
    }
    let has_nul = |column: &<M::Entity as EntityTrait>::Column| matches!(row.get(*column), Value::String(Some(text)) if text.contains('\0'));
    let column = <M::Entity as EntityTrait>::Column::iter().find(has_nul)?;
    let reason = "contains a NUL character, which PostgreSQL can't hold";
    Some(Error::invalid(column.as_str(), reason))
}
