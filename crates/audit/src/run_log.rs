use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Usage, micros, rfc3339};

/// One event of a run.
///
/// ```
/// use std::time::Duration;
///
/// use runtrail_audit::{SkillRunLog, Usage};
/// use serde_json::json;
///
/// let event = SkillRunLog::new("run-1", 0, "tool_call", json!({"tool": "search"}));
/// assert_eq!(event.created_at, None);
///
/// let usage = Usage::new().model("claude-sonnet-4-5").input_tokens(1_200).output_tokens(80);
/// let event = SkillRunLog::new("run-1", 1, "model_call", json!({"text": "…"}))
///     .duration(Duration::from_millis(840))
///     .usage(usage);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkillRunLog {
    /// The id of the run that the event belongs to; 1 to 255 bytes.
    pub run_id: String,
    /// The position within the run: chosen by the host, unique within the run, at most
    /// [`i64::MAX`]. Gaps are allowed.
    pub sequence: u64,
    /// The kind of event, such as `tool_call`; at most 255 bytes, may be empty.
    pub event_type: String,
    /// What happened, nested at most 64 levels deep; [`Limits`](crate::Limits) bounds the size of
    /// the JSON text.
    pub payload: Value,
    /// When the event happened, in whole microseconds; for `None`, the store uses its clock.
    ///
    /// Events read from a store always have a time.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub created_at: Option<DateTime<Utc>>,
    /// The duration of the model or tool call, in whole microseconds; `duration_micros` in JSON.
    #[serde(
        rename = "duration_micros",
        with = "micros",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub duration: Option<Duration>,
    /// The usage of the model or tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl SkillRunLog {
    /// Creates an event that gets its time from the store's clock.
    pub fn new(
        run_id: impl Into<String>,
        sequence: u64,
        event_type: impl Into<String>,
        payload: Value,
    ) -> Self {
        Self {
            run_id: run_id.into(),
            sequence,
            event_type: event_type.into(),
            payload,
            created_at: None,
            duration: None,
            usage: None,
        }
    }

    /// Sets the time at which the event happened.
    #[must_use]
    pub fn created_at(mut self, time: DateTime<Utc>) -> Self {
        self.created_at = Some(time);
        self
    }

    /// Sets the duration of the call.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Sets the usage of the call.
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }
}
