use chrono::{DateTime, Utc};
use runtrail_audit::{Limits, Result, SkillRunLog, rules};
use runtrail_db::Row;
use runtrail_entity::skill_run_log::{Column, Entity, Model};
use sea_orm::EntityName;

use super::{RowDecoder, is_same_json};

/// Encodes an event as a row; `now` is its time if it has none.
pub(crate) fn encode_log(
    event: &SkillRunLog,
    now: DateTime<Utc>,
    limits: &Limits,
) -> Result<Model> {
    Ok(Model {
        run_id: rules::run_id("run_id", &event.run_id)?.to_owned(),
        sequence: rules::count("sequence", event.sequence)?,
        created_at: rules::micros(event.created_at.unwrap_or(now)),
        event_type: rules::identifier("event_type", &event.event_type)?.to_owned(),
        payload: rules::json("payload", &event.payload, limits)?,
    })
}

/// Reads the columns of a row; fails if one has the wrong type.
pub(crate) fn read_log(mut row: Row) -> Result<Model> {
    let run_id: String = decoder("?").take(&mut row, Column::RunId)?;
    let sequence: i64 = decoder(&run_id).take(&mut row, Column::Sequence)?;
    let id = key(&run_id, sequence);
    let decoder = decoder(&id);
    Ok(Model {
        created_at: decoder.take(&mut row, Column::CreatedAt)?,
        event_type: decoder.take(&mut row, Column::EventType)?,
        payload: decoder.take(&mut row, Column::Payload)?,
        run_id,
        sequence,
    })
}

/// Decodes a row.
pub(crate) fn decode_log(row: Row) -> Result<SkillRunLog> {
    let row = read_log(row)?;
    let id = key(&row.run_id, row.sequence);
    let decoder = decoder(&id);
    let sequence = decoder.count(row.sequence, Column::Sequence)?;
    let payload = decoder.json(&row.payload, Column::Payload)?;
    let created_at = decoder.time(row.created_at, Column::CreatedAt)?;
    Ok(SkillRunLog::new(row.run_id, sequence, row.event_type, payload).created_at(created_at))
}

/// Whether two rows with the same key are the same event; their times may differ.
pub(crate) fn is_same_event(left: &Model, right: &Model) -> bool {
    left.event_type == right.event_type && is_same_json(&left.payload, &right.payload)
}

fn key(run_id: &str, sequence: i64) -> String {
    format!("{run_id}/{sequence}")
}

fn decoder(id: &str) -> RowDecoder<'_> {
    RowDecoder {
        table: Entity.table_name(),
        id,
    }
}
