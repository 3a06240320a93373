use std::time::Duration;

use chrono::{DateTime, Utc};
use runtrail_audit::{Limits, Result, SkillRunLog, Usage, rules};
use runtrail_db::Row;
use runtrail_entity::skill_run_log::{Column, Entity, Model};
use sea_orm::{EntityName, Iterable, Value};
use serde::Serialize;

use super::{RowDecoder, is_same_json};

/// Encodes an event as a row; `now` is its time if it has none.
pub(crate) fn encode_log(
    event: &SkillRunLog,
    now: DateTime<Utc>,
    limits: &Limits,
) -> Result<Model> {
    let empty = Usage::default();
    let usage = event.usage.as_ref().unwrap_or(&empty);
    rules::usage(usage)?;
    let count = |field, number: Option<u64>| number.map(|it| rules::count(field, it)).transpose();
    let duration = event.duration;
    Ok(Model {
        run_id: rules::run_id("run_id", &event.run_id)?.to_owned(),
        sequence: rules::count("sequence", event.sequence)?,
        created_at: rules::micros(event.created_at.unwrap_or(now)),
        event_type: rules::identifier("event_type", &event.event_type)?.to_owned(),
        payload: rules::json("payload", &event.payload, limits)?,
        duration_micros: duration
            .map(|it| rules::duration("duration", it))
            .transpose()?,
        provider: usage.provider.clone(),
        model: usage.model.clone(),
        input_tokens: count("input_tokens", usage.input_tokens)?,
        cache_read_tokens: count("cache_read_tokens", usage.cache_read_tokens)?,
        cache_write_tokens: count("cache_write_tokens", usage.cache_write_tokens)?,
        output_tokens: count("output_tokens", usage.output_tokens)?,
        thinking_tokens: count("thinking_tokens", usage.thinking_tokens)?,
        cost_micros: count("cost_micros", usage.cost_micros)?,
    })
}

/// The number of columns that every event fills. The others are NULL unless it has a duration or a
/// usage.
const REQUIRED_COLUMNS: usize = 5;

/// Returns the columns to write for these events: only the required ones if no event has a duration
/// or a usage, which makes the statement faster.
pub(crate) fn written_columns<'a>(rows: impl IntoIterator<Item = &'a Model>) -> Vec<Column> {
    let optional = || Column::iter().skip(REQUIRED_COLUMNS);
    let has_usage = |row| !optional().all(|column| LogValue::of(row, column).is_null());
    match rows.into_iter().any(has_usage) {
        true => Column::iter().collect(),
        false => Column::iter().take(REQUIRED_COLUMNS).collect(),
    }
}

/// The value of a column of an event.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum LogValue<'a> {
    Number(Option<i64>),
    Text(Option<&'a str>),
}

impl<'a> LogValue<'a> {
    pub(crate) fn of(row: &'a Model, column: Column) -> Self {
        match column {
            Column::RunId => Self::Text(Some(&row.run_id)),
            Column::Sequence => Self::Number(Some(row.sequence)),
            Column::CreatedAt => Self::Number(Some(row.created_at)),
            Column::EventType => Self::Text(Some(&row.event_type)),
            Column::Payload => Self::Text(Some(&row.payload)),
            Column::DurationMicros => Self::Number(row.duration_micros),
            Column::Provider => Self::Text(row.provider.as_deref()),
            Column::Model => Self::Text(row.model.as_deref()),
            Column::InputTokens => Self::Number(row.input_tokens),
            Column::CacheReadTokens => Self::Number(row.cache_read_tokens),
            Column::CacheWriteTokens => Self::Number(row.cache_write_tokens),
            Column::OutputTokens => Self::Number(row.output_tokens),
            Column::ThinkingTokens => Self::Number(row.thinking_tokens),
            Column::CostMicros => Self::Number(row.cost_micros),
        }
    }

    fn is_null(self) -> bool {
        matches!(self, Self::Number(None) | Self::Text(None))
    }
}

impl From<LogValue<'_>> for Value {
    fn from(value: LogValue<'_>) -> Self {
        match value {
            LogValue::Number(number) => number.into(),
            LogValue::Text(text) => text.map(str::to_owned).into(),
        }
    }
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
        duration_micros: decoder.take(&mut row, Column::DurationMicros)?,
        provider: decoder.take(&mut row, Column::Provider)?,
        model: decoder.take(&mut row, Column::Model)?,
        input_tokens: decoder.take(&mut row, Column::InputTokens)?,
        cache_read_tokens: decoder.take(&mut row, Column::CacheReadTokens)?,
        cache_write_tokens: decoder.take(&mut row, Column::CacheWriteTokens)?,
        output_tokens: decoder.take(&mut row, Column::OutputTokens)?,
        thinking_tokens: decoder.take(&mut row, Column::ThinkingTokens)?,
        cost_micros: decoder.take(&mut row, Column::CostMicros)?,
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
    let count = |number: Option<i64>, column| match number {
        Some(number) => decoder.count(number, column).map(Some),
        None => Ok(None),
    };
    let duration = count(row.duration_micros, Column::DurationMicros)?;
    let mut usage = Usage::new();
    usage.provider = row.provider;
    usage.model = row.model;
    usage.input_tokens = count(row.input_tokens, Column::InputTokens)?;
    usage.cache_read_tokens = count(row.cache_read_tokens, Column::CacheReadTokens)?;
    usage.cache_write_tokens = count(row.cache_write_tokens, Column::CacheWriteTokens)?;
    usage.output_tokens = count(row.output_tokens, Column::OutputTokens)?;
    usage.thinking_tokens = count(row.thinking_tokens, Column::ThinkingTokens)?;
    usage.cost_micros = count(row.cost_micros, Column::CostMicros)?;

    let mut event =
        SkillRunLog::new(row.run_id, sequence, row.event_type, payload).created_at(created_at);
    event.duration = duration.map(Duration::from_micros);
    event.usage = Some(usage).filter(|usage| !usage.is_empty());
    Ok(event)
}

/// Whether two rows with the same key are the same event; their times may differ.
pub(crate) fn is_same_event(left: &Model, right: &Model) -> bool {
    Column::iter().all(|column| match column {
        Column::CreatedAt => true,
        Column::Payload => is_same_json(&left.payload, &right.payload),
        _ => LogValue::of(left, column) == LogValue::of(right, column),
    })
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
