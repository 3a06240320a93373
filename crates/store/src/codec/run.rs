use std::collections::BTreeMap;

use runtrail_audit::{Result, RunStatus, RunSummary, SkillRun, rules};
use runtrail_db::{Row, backend};
use runtrail_entity::skill_run::{Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{EntityName, IdenStatic};
use serde::Serialize;

use super::{Outcome, RowDecoder, is_same_json};
use crate::settings::Settings;

/// Encodes a run as a row. It belongs to the owner of the store, if there is one.
pub(crate) fn encode_run(run: &SkillRun, settings: &Settings) -> Result<Model> {
    let limits = &settings.limits;
    let owner_id = settings.owner_id().or(run.owner_id.as_deref());
    let outcome = Outcome::encode(&run.stats(), limits)?;
    let parent_run_id = run.parent_run_id.as_deref();
    let parent_run_id = parent_run_id.map(|id| rules::identifier("parent_run_id", id));
    Ok(Model {
        id: rules::run_id("id", &run.id)?.to_owned(),
        skill_id: rules::identifier("skill_id", &run.skill_id)?.to_owned(),
        caller_id: rules::identifier("caller_id", &run.caller_id)?.to_owned(),
        channel_id: rules::identifier("channel_id", &run.channel_id)?.to_owned(),
        parent_run_id: parent_run_id.transpose()?.map(str::to_owned),
        started_at: rules::micros(run.started_at),
        finished_at: run.finished_at.map(rules::micros),
        inputs: rules::json_object("inputs", &run.inputs, limits)?,
        status: outcome.status,
        output: outcome.output,
        error: outcome.error,
        tool_calls: outcome.tool_calls,
        runtime_seconds: outcome.runtime_seconds.unwrap_or_default(),
        total_input_tokens: outcome.total_input_tokens,
        total_output_tokens: outcome.total_output_tokens,
        total_thinking_tokens: outcome.total_thinking_tokens,
        owner_id: owner_id
            .map(rules::owner_id)
            .transpose()?
            .map(str::to_owned),
        labels: rules::labels(&run.labels)?,
    })
}

/// A row as a JSON object with the column names as keys, so that one parameter can carry many rows.
pub(crate) fn run_values(row: &Model) -> impl Serialize {
    #[derive(Serialize)]
    struct Values<'a> {
        id: &'a str,
        skill_id: &'a str,
        caller_id: &'a str,
        channel_id: &'a str,
        parent_run_id: Option<&'a str>,
        started_at: i64,
        finished_at: Option<i64>,
        status: &'a str,
        tool_calls: i64,
        #[serde(serialize_with = "backend::serialize_fraction")]
        runtime_seconds: f64,
        total_input_tokens: i64,
        total_output_tokens: i64,
        total_thinking_tokens: i64,
        inputs: &'a str,
        output: &'a str,
        error: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        owner_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        labels: Option<&'a str>,
    }

    Values {
        id: &row.id,
        skill_id: &row.skill_id,
        caller_id: &row.caller_id,
        channel_id: &row.channel_id,
        parent_run_id: row.parent_run_id.as_deref(),
        started_at: row.started_at,
        finished_at: row.finished_at,
        status: &row.status,
        tool_calls: row.tool_calls,
        runtime_seconds: row.runtime_seconds,
        total_input_tokens: row.total_input_tokens,
        total_output_tokens: row.total_output_tokens,
        total_thinking_tokens: row.total_thinking_tokens,
        inputs: &row.inputs,
        output: &row.output,
        error: &row.error,
        owner_id: row.owner_id.as_deref(),
        labels: row.labels.as_deref(),
    }
}

/// Reads the columns of a row; fails if one has the wrong type.
pub(crate) fn read_run(mut row: Row) -> Result<Model> {
    let id: String = decoder("?").take(&mut row, Column::Id)?;
    let decoder = decoder(&id);
    Ok(Model {
        skill_id: decoder.take(&mut row, Column::SkillId)?,
        caller_id: decoder.take(&mut row, Column::CallerId)?,
        channel_id: decoder.take(&mut row, Column::ChannelId)?,
        parent_run_id: decoder.take(&mut row, Column::ParentRunId)?,
        started_at: decoder.take(&mut row, Column::StartedAt)?,
        finished_at: decoder.take(&mut row, Column::FinishedAt)?,
        status: decoder.take(&mut row, Column::Status)?,
        tool_calls: decoder.take(&mut row, Column::ToolCalls)?,
        runtime_seconds: decoder.take(&mut row, Column::RuntimeSeconds)?,
        total_input_tokens: decoder.take(&mut row, Column::TotalInputTokens)?,
        total_output_tokens: decoder.take(&mut row, Column::TotalOutputTokens)?,
        total_thinking_tokens: decoder.take(&mut row, Column::TotalThinkingTokens)?,
        inputs: decoder.take(&mut row, Column::Inputs)?,
        output: decoder.take(&mut row, Column::Output)?,
        error: decoder.take(&mut row, Column::Error)?,
        owner_id: decoder.take(&mut row, Column::OwnerId)?,
        labels: decoder.take(&mut row, Column::Labels)?,
        id,
    })
}

/// Reads the id and the finish time of a finished run from a row with these two columns.
pub(crate) fn read_finish(row: &Row) -> Result<(String, i64)> {
    let corrupt =
        |id: &str, column, err| decoder(id).corrupt(column, format!("can't be read: {err}"));
    let id: String = row
        .get(Column::Id.as_str())
        .map_err(|err| corrupt("?", Column::Id, err))?;
    let finished_at = row
        .get(Column::FinishedAt.as_str())
        .map_err(|err| corrupt(&id, Column::FinishedAt, err))?;
    Ok((id, finished_at))
}

/// Whether the value of an integer column is an integer: SQLite accepts fractions and texts there
/// as well, and an index sorts them together with the integers.
pub(crate) fn is_whole_number(column: Column) -> Expr {
    let column = Expr::col((Entity, column));
    column.clone().eq(column.cast_as("bigint"))
}

/// The columns of a [`RunSummary`].
pub(crate) const SUMMARY: [Column; 13] = [
    Column::Id,
    Column::SkillId,
    Column::CallerId,
    Column::ChannelId,
    Column::ParentRunId,
    Column::StartedAt,
    Column::FinishedAt,
    Column::Status,
    Column::ToolCalls,
    Column::RuntimeSeconds,
    Column::TotalInputTokens,
    Column::TotalOutputTokens,
    Column::TotalThinkingTokens,
];

/// Decodes a row without the inputs, output and error.
pub(crate) fn decode_summary(mut row: Row) -> Result<RunSummary> {
    take_summary(&mut row)
}

fn take_summary(row: &mut Row) -> Result<RunSummary> {
    let id: String = decoder("?").take(row, Column::Id)?;
    let decoder = decoder(&id);
    let time = |micros, column| decoder.time(micros, column);
    let started_at = decoder.take(row, Column::StartedAt)?;
    let finished_at: Option<i64> = decoder.take(row, Column::FinishedAt)?;
    let finished_at = finished_at.map(|at| time(at, Column::FinishedAt));
    let runtime_seconds = decoder.take(row, Column::RuntimeSeconds)?;
    if rules::seconds("runtime_seconds", runtime_seconds).is_err() {
        return Err(decoder.corrupt(
            Column::RuntimeSeconds,
            "is not a finite number of at least 0",
        ));
    }
    let skill_id: String = decoder.take(row, Column::SkillId)?;
    let mut run = RunSummary::new(
        String::new(),
        skill_id,
        time(started_at, Column::StartedAt)?,
    );
    run.caller_id = decoder.take(row, Column::CallerId)?;
    run.channel_id = decoder.take(row, Column::ChannelId)?;
    run.parent_run_id = decoder.take(row, Column::ParentRunId)?;
    run.finished_at = finished_at.transpose()?;
    run.status = RunStatus::from(decoder.take::<String>(row, Column::Status)?);
    run.runtime_seconds = runtime_seconds;
    let mut count = |column| decoder.count(decoder.take(row, column)?, column);
    run.tool_calls = count(Column::ToolCalls)?;
    run.total_input_tokens = count(Column::TotalInputTokens)?;
    run.total_output_tokens = count(Column::TotalOutputTokens)?;
    run.total_thinking_tokens = count(Column::TotalThinkingTokens)?;
    run.id = id;
    Ok(run)
}

/// Decodes a row.
pub(crate) fn decode_run(mut row: Row) -> Result<SkillRun> {
    let summary = take_summary(&mut row)?;
    let decoder = decoder(&summary.id);
    let inputs: String = decoder.take(&mut row, Column::Inputs)?;
    let inputs = decoder.json(&inputs, Column::Inputs)?;
    let output = decoder.take(&mut row, Column::Output)?;
    let error = decoder.take(&mut row, Column::Error)?;
    let owner_id = decoder.take(&mut row, Column::OwnerId)?;
    let labels: Option<String> = decoder.take(&mut row, Column::Labels)?;
    let labels = read_labels(&decoder, labels.as_deref())?;
    let mut run = summary.with_texts(inputs, output, error);
    run.owner_id = owner_id;
    run.labels = labels;
    Ok(run)
}

fn read_labels(decoder: &RowDecoder<'_>, labels: Option<&str>) -> Result<BTreeMap<String, String>> {
    match labels {
        Some(labels) => decoder.json(labels, Column::Labels),
        None => Ok(BTreeMap::new()),
    }
}

/// Returns the labels of a run after some are added, as the text of a JSON object. An added label
/// replaces a stored one with the same key.
pub(crate) fn merge_labels(
    id: &str,
    stored: Option<&str>,
    added: Option<&str>,
) -> Result<Option<String>> {
    if added.is_none() {
        return Ok(stored.map(str::to_owned));
    }
    let decoder = decoder(id);
    let mut labels = read_labels(&decoder, stored)?;
    labels.extend(read_labels(&decoder, added)?);
    rules::labels(&labels)
}

/// Whether a row has labels with the keys of these.
pub(crate) fn has_keys(row: &Model, labels: Option<&str>) -> bool {
    let decoder = decoder(&row.id);
    let read = |labels| read_labels(&decoder, labels);
    match (read(labels), read(row.labels.as_deref())) {
        (Ok(labels), _) if labels.is_empty() => true,
        (Ok(labels), Ok(stored)) => labels.keys().all(|key| stored.contains_key(key)),
        _ => false,
    }
}

/// Whether two rows of one run have the same start, whoever owns them and whatever their labels.
pub(crate) fn is_same_start(left: &Model, right: &Model) -> bool {
    left.skill_id == right.skill_id
        && left.caller_id == right.caller_id
        && left.channel_id == right.channel_id
        && left.parent_run_id == right.parent_run_id
        && left.started_at == right.started_at
        && is_same_json(&left.inputs, &right.inputs)
}

/// Whether two rows of one run have the same start, the same finish time and the same outcome.
pub(crate) fn is_same_run(left: &Model, right: &Model) -> bool {
    is_same_start(left, right)
        && left.finished_at == right.finished_at
        && Outcome::of_row(left) == Outcome::of_row(right)
}

fn decoder(id: &str) -> RowDecoder<'_> {
    RowDecoder {
        table: Entity.table_name(),
        id,
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::Iterable;

    use super::*;

    #[test]
    fn a_summary_has_the_first_columns_in_order() {
        assert!(
            Column::iter()
                .zip(SUMMARY)
                .all(|(one, other)| one.as_str() == other.as_str())
        );
        let are_in_place = |(index, column)| column as usize == index;
        assert!(Column::iter().enumerate().all(are_in_place));
    }
}
