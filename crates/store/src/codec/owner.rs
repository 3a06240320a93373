use std::time::Duration;

use runtrail_audit::{Owner, OwnerRecord, Result};
use runtrail_db::Row;
use runtrail_entity::owner::{Column, Entity};
use sea_orm::EntityName;

use super::RowDecoder;

/// Decodes a row with all columns of an owner, followed by 1 if it is alive, and 0 otherwise.
pub(crate) fn decode_owner(mut row: Row) -> Result<OwnerRecord> {
    let decoder = |id| RowDecoder {
        table: Entity.table_name(),
        id,
    };
    let id: String = decoder("?").take(&mut row, Column::Id)?;
    let decoder = decoder(&id);
    let label: String = decoder.take(&mut row, Column::Label)?;
    let lease = decoder.take(&mut row, Column::LeaseMicros)?;
    let lease = decoder.count(lease, Column::LeaseMicros)?;
    let last_seen_at = decoder.take(&mut row, Column::LastSeenAt)?;
    let last_seen_at = decoder.time(last_seen_at, Column::LastSeenAt)?;
    let is_alive: i64 = row
        .take(Column::LastSeenAt as usize + 1)
        .map_err(|err| decoder.corrupt(Column::LastSeenAt, format!("can't be compared: {err}")))?;
    let owner = Owner::new(label)
        .id(id.as_str())
        .lease(Duration::from_micros(lease));
    Ok(OwnerRecord::new(owner, last_seen_at, is_alive == 1))
}
