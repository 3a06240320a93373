//! The format of `export` and `import`: each line is a JSON object, a run with its events.

use std::time::Duration;

use chrono::{DateTime, Utc};
use runtrail::{SkillRunLog, Usage, micros, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The member of a run's object that contains its events. It comes last, so that a reader has the
/// run first.
pub(crate) const EVENTS: &str = "events";

/// An event inside the object of its run. It doesn't repeat the run's id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    pub(crate) sequence: u64,
    pub(crate) event_type: String,
    pub(crate) payload: Value,
    #[serde(serialize_with = "rfc3339::serialize")]
    pub(crate) created_at: DateTime<Utc>,
    #[serde(with = "micros", default, skip_serializing_if = "Option::is_none")]
    pub(crate) duration_micros: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
}

impl Event {
    pub(crate) fn of(event: SkillRunLog) -> Self {
        Self {
            sequence: event.sequence,
            event_type: event.event_type,
            payload: event.payload,
            // Every event from a store has a time.
            created_at: event.created_at.unwrap_or_default(),
            duration_micros: event.duration,
            usage: event.usage,
        }
    }

    pub(crate) fn of_run(self, run_id: &str) -> SkillRunLog {
        let mut event = SkillRunLog::new(run_id, self.sequence, self.event_type, self.payload)
            .created_at(self.created_at);
        event.duration = self.duration_micros;
        event.usage = self.usage;
        event
    }
}
