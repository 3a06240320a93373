use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rfc3339;

/// One event of a run.
///
/// ```
/// use runtrail_audit::SkillRunLog;
/// use serde_json::json;
///
/// let event = SkillRunLog::new("run-1", 0, "tool_call", json!({"tool": "search"}));
/// assert_eq!(event.created_at, None);
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
        }
    }

    /// Sets the time at which the event happened.
    #[must_use]
    pub fn created_at(mut self, time: DateTime<Utc>) -> Self {
        self.created_at = Some(time);
        self
    }
}
