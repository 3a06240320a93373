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
    /// The run it belongs to; 1 to 255 bytes.
    pub run_id: String,
    /// Its place within the run: chosen by the host, unique there, at most [`i64::MAX`]; gaps are fine.
    pub sequence: u64,
    /// What kind of event; at most 255 bytes, may be empty.
    pub event_type: String,
    /// What happened: at most [`Limits`](crate::Limits) as JSON text, at most 64 levels deep.
    pub payload: Value,
    /// When it happened, kept to the microsecond; `None` lets the store's clock say.
    ///
    /// An event that was read from a store always has it.
    #[serde(serialize_with = "rfc3339::serialize_option")]
    pub created_at: Option<DateTime<Utc>>,
}

impl SkillRunLog {
    /// An event whose time the store's clock says.
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

    /// When it happened.
    #[must_use]
    pub fn created_at(mut self, time: DateTime<Utc>) -> Self {
        self.created_at = Some(time);
        self
    }
}
