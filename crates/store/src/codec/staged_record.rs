use chrono::{DateTime, Utc};
use runtrail_audit::{Error, Limits, Result, StagedRecord, rules};
use runtrail_db::Row;
use runtrail_entity::staged_record::{Column, Entity, Model};
use sea_orm::EntityName;
use serde_json::Value;

use super::RowDecoder;

/// Encodes a waiting record as a row; `now` is the time of its receipt.
pub(crate) fn encode_staged_record(record: &StagedRecord, now: DateTime<Utc>) -> Result<Model> {
    let limits = Limits::new(Limits::MAX_VALUE_BYTES)?;
    let Some(content) = &record.content else {
        return Err(Error::invalid("content", "is missing"));
    };
    let parent_id = record.parent_id.as_deref();
    Ok(Model {
        group_id: rules::run_id("group_id", &record.group_id)?.to_owned(),
        id: rules::run_id("id", &record.id)?.to_owned(),
        parent_id: parent_id
            .map(|id| rules::run_id("parent_id", id).map(str::to_owned))
            .transpose()?,
        kind: rules::identifier("kind", &record.kind)?.to_owned(),
        started_at: rules::micros(record.started_at),
        received_at: rules::micros(now),
        run_id: None,
        content: Some(rules::json("content", content, &limits)?),
    })
}

/// Decodes a row with all columns of a staged record.
pub(crate) fn decode_staged_record(mut row: Row) -> Result<StagedRecord> {
    let decoder = |id| RowDecoder {
        table: Entity.table_name(),
        id,
    };
    let id: String = decoder("?").take(&mut row, Column::Id)?;
    let decoder = decoder(&id);
    let started_at = decoder.take(&mut row, Column::StartedAt)?;
    let received_at = decoder.take(&mut row, Column::ReceivedAt)?;
    let content: Option<String> = decoder.take(&mut row, Column::Content)?;
    let content = content.map(|content| decoder.json(&content, Column::Content));
    let mut record = StagedRecord::new(
        decoder.take::<String>(&mut row, Column::GroupId)?,
        id.as_str(),
        decoder.take::<String>(&mut row, Column::Kind)?,
        decoder.time(started_at, Column::StartedAt)?,
        Value::Null,
    );
    record.parent_id = decoder.take(&mut row, Column::ParentId)?;
    record.received_at = Some(decoder.time(received_at, Column::ReceivedAt)?);
    record.run_id = decoder.take(&mut row, Column::RunId)?;
    record.content = content.transpose()?;
    Ok(record)
}
