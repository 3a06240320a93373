//! Converts rows of the legacy store into runs and events.

use chrono::{DateTime, Utc};
use runtrail_audit::{Error, Limits, Result, rules};
use runtrail_db::{Row, error, keyset};
use sea_orm::{IdenStatic, Value};
use serde_json::json;

use super::{skill_run, skill_run_log};
use crate::history::{CopiedRow, ScannedRow};

/// The member of a run's inputs that holds legacy inputs other than a JSON object.
const LEGACY_INPUTS: &str = "legacy_inputs";

/// A legacy row, and descriptions of the values that were converted.
pub(super) struct LegacyRow<'a> {
    row: &'a Row,
    limits: &'a Limits,
    adapted: Vec<String>,
}

impl<'a> LegacyRow<'a> {
    pub(super) fn new(row: &'a Row, limits: &'a Limits) -> Self {
        Self {
            row,
            limits,
            adapted: Vec::new(),
        }
    }

    pub(super) fn scan<M: CopiedRow>(
        mut self,
        read: impl Fn(&mut Self) -> Result<M>,
    ) -> ScannedRow<M> {
        ScannedRow {
            key: M::read_key(self.row),
            content: read(&mut self),
            adapted: self.adapted,
        }
    }

    pub(super) fn run(&mut self) -> Result<runtrail_entity::skill_run::Model> {
        use skill_run::Column;

        let parent_run_id = self.identifier(Column::ParentRunId)?;
        Ok(runtrail_entity::skill_run::Model {
            id: self.run_id(Column::Id)?,
            skill_id: self.identifier(Column::SkillId)?,
            caller_id: self.identifier(Column::CallerId)?,
            channel_id: self.identifier(Column::ChannelId)?,
            parent_run_id: Some(parent_run_id).filter(|id| !id.is_empty()),
            started_at: self.time(Column::StartedAt),
            finished_at: self.optional_time(Column::FinishedAt),
            status: self.identifier(Column::Status)?,
            tool_calls: self.count(Column::ToolCalls),
            runtime_seconds: self.seconds(Column::RuntimeSeconds)?,
            total_input_tokens: self.count(Column::TotalInputTokens),
            total_output_tokens: self.count(Column::TotalOutputTokens),
            total_thinking_tokens: self.count(Column::TotalThinkingTokens),
            inputs: self.json_object(Column::Inputs)?,
            output: self.free_text(Column::Output)?,
            error: self.free_text(Column::Error)?,
            owner_id: None,
            labels: None,
        })
    }

    pub(super) fn event(&mut self) -> Result<runtrail_entity::skill_run_log::Model> {
        use skill_run_log::Column;

        let sequence = self.row.get(Column::Seq.as_str());
        let sequence: i64 = sequence.map_err(error::database)?;
        if sequence < 0 {
            let reason = format!("is {sequence}, less than 0");
            return Err(Error::invalid(Column::Seq.as_str(), reason));
        }
        Ok(runtrail_entity::skill_run_log::Model {
            run_id: self.run_id(Column::RunId)?,
            sequence,
            created_at: self.time(Column::CreatedAt),
            event_type: self.identifier(Column::EventType)?,
            payload: self.json(Column::Payload)?,
            duration_micros: None,
            provider: None,
            model: None,
            input_tokens: None,
            cache_read_tokens: None,
            cache_write_tokens: None,
            output_tokens: None,
            thinking_tokens: None,
            cost_micros: None,
        })
    }

    /// Reads the skill and status of a group of runs.
    pub(super) fn skill_and_status(&mut self) -> (String, String) {
        use skill_run::Column;

        (self.name(Column::SkillId), self.name(Column::Status))
    }

    fn run_id(&self, column: impl IdenStatic) -> Result<String> {
        let id = self.row.get::<String>(column.as_str());
        let id = id.map_err(|_| Error::invalid(column.as_str(), "is not UTF-8 text"))?;
        rules::run_id(column.as_str(), &id)?;
        Ok(id)
    }

    fn identifier(&mut self, column: impl IdenStatic) -> Result<String> {
        let name = self.name(column);
        rules::identifier(column.as_str(), &name)?;
        Ok(name)
    }

    fn name(&mut self, column: impl IdenStatic) -> String {
        let text = self.text(column);
        self.without_nul(column, text)
    }

    fn free_text(&mut self, column: impl IdenStatic) -> Result<String> {
        let text = self.text(column);
        self.within_limits(column, &text)?;
        Ok(self.without_nul(column, text))
    }

    /// Returns valid JSON unchanged, and other text as a JSON string.
    fn json(&mut self, column: impl IdenStatic) -> Result<String> {
        let Some(text) = self.optional_text(column) else {
            return Ok(json!(null).to_string());
        };
        let text = match self.parse_storable(column, &text) {
            Some(_) => text,
            None => {
                let problem = invalid_json(&text);
                self.adapt(column, format!("{problem}; stored as a JSON string"));
                json!(text).to_string()
            }
        };
        self.within_limits(column, &text)?;
        Ok(text)
    }

    fn json_object(&mut self, column: impl IdenStatic) -> Result<String> {
        let Some(text) = self.optional_text(column) else {
            return Ok(json!({}).to_string());
        };
        let text = match self.parse_storable(column, &text) {
            Some(serde_json::Value::Object(_)) => text,
            // How Go writes a nil map.
            Some(serde_json::Value::Null) => {
                self.adapt(column, "was null; stored as an empty object");
                json!({}).to_string()
            }
            parsed => {
                let problem =
                    parsed.map_or_else(|| invalid_json(&text), |_| "was not a JSON object");
                self.adapt(
                    column,
                    format!("{problem}; stored in the member {LEGACY_INPUTS:?}"),
                );
                json!({LEGACY_INPUTS: text}).to_string()
            }
        };
        self.within_limits(column, &text)?;
        Ok(text)
    }

    /// Returns `None` if the text isn't JSON that can be stored.
    fn parse_storable(&self, column: impl IdenStatic, text: &str) -> Option<serde_json::Value> {
        let value = serde_json::from_str(text).ok()?;
        let is_storable = match rules::json(column.as_str(), &value, self.limits) {
            // A JSON string of the same text would be too large as well.
            Ok(_) | Err(Error::TooLarge { .. }) => true,
            Err(_) => false,
        };
        is_storable.then_some(value)
    }

    fn count(&mut self, column: impl IdenStatic) -> i64 {
        match self.value(column) {
            None => 0,
            Some(Value::BigInt(Some(number))) if number >= 0 => number,
            Some(Value::Double(Some(number))) if number >= 0.0 => {
                let whole = number as i64;
                if whole as f64 != number {
                    self.adapt(column, format!("was {number}; stored as {whole}"));
                }
                whole
            }
            Some(other) => self.replace_invalid(column, &other, 0),
        }
    }

    fn seconds(&mut self, column: impl IdenStatic) -> Result<f64> {
        let seconds = match self.value(column) {
            None => 0.0,
            Some(Value::BigInt(Some(number))) if number >= 0 => number as f64,
            Some(Value::Double(Some(number))) if number >= 0.0 && number.is_finite() => number,
            Some(other) => self.replace_invalid(column, &other, 0.0),
        };
        rules::seconds(column.as_str(), seconds)
    }

    /// Reads a required time.
    fn time(&mut self, column: impl IdenStatic) -> i64 {
        self.optional_time(column).unwrap_or_else(|| {
            self.adapt(column, "has no usable time; stored as 1970-01-01");
            0
        })
    }

    /// Converts seconds since the epoch to microseconds; 0 means no time.
    fn optional_time(&mut self, column: impl IdenStatic) -> Option<i64> {
        let value = self.value(column)?;
        let micros = match value {
            Value::BigInt(Some(seconds)) => seconds.checked_mul(1_000_000),
            Value::Double(Some(seconds)) => Some((seconds * 1e6).round() as i64),
            _ => None,
        };
        let in_range = micros.filter(|it| DateTime::<Utc>::from_timestamp_micros(*it).is_some());
        if in_range.is_none() {
            self.adapt(column, format!("was {value}, which is not a time"));
        }
        in_range.filter(|micros| *micros != 0)
    }

    fn text(&mut self, column: impl IdenStatic) -> String {
        self.optional_text(column).unwrap_or_default()
    }

    fn optional_text(&mut self, column: impl IdenStatic) -> Option<String> {
        let (text, was) = match self.value(column)? {
            Value::String(Some(text)) => return Some(text),
            Value::BigInt(Some(number)) => (number.to_string(), "was a number"),
            Value::Double(Some(number)) => (number.to_string(), "was a number"),
            Value::Bytes(Some(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => (text, "was bytes"),
                Err(err) => {
                    let text = String::from_utf8_lossy(err.as_bytes()).into_owned();
                    (text, "was not UTF-8 (invalid bytes became U+FFFD)")
                }
            },
            other => (other.to_string(), "was of another type"),
        };
        self.adapt(column, format!("{was}; stored as text"));
        Some(text)
    }

    fn without_nul(&mut self, column: impl IdenStatic, text: String) -> String {
        if !text.contains('\0') {
            return text;
        }
        self.adapt(column, "had NUL characters; stored as U+FFFD");
        text.replace('\0', "\u{FFFD}")
    }

    fn within_limits(&self, column: impl IdenStatic, text: &str) -> Result<()> {
        rules::free_text(column.as_str(), text, self.limits).map(drop)
    }

    fn replace_invalid<T: Into<Value> + Copy>(
        &mut self,
        column: impl IdenStatic,
        value: &Value,
        default: T,
    ) -> T {
        self.adapt(column, format!("was {value}; stored as {}", default.into()));
        default
    }

    fn adapt(&mut self, column: impl IdenStatic, change: impl AsRef<str>) {
        let change = change.as_ref();
        self.adapted.push(format!("{} {change}", column.as_str()));
    }

    /// Returns `None` for NULL.
    fn value(&self, column: impl IdenStatic) -> Option<Value> {
        if let Ok(None) = self.row.get::<Option<i64>>(column.as_str()) {
            return None;
        }
        keyset::raw_values(self.row, &[column]).ok()?.pop()
    }
}

fn invalid_json(text: &str) -> &'static str {
    match text {
        "" => "was empty",
        _ => "was not usable JSON",
    }
}
