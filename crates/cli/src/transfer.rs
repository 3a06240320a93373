//! The format of `export` and `import`: one JSON object a line, a run with its events.

use chrono::{DateTime, Utc};
use runtrail::{SkillRunLog, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The member of a run's object that holds its events. It comes last, so that a reader knows the run by then.
pub(crate) const EVENTS: &str = "events";

/// An event within the object of its run, whose id it needn't repeat.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    pub(crate) sequence: u64,
    pub(crate) event_type: String,
    pub(crate) payload: Value,
    #[serde(serialize_with = "rfc3339::serialize")]
    pub(crate) created_at: DateTime<Utc>,
}

impl Event {
    pub(crate) fn of(event: SkillRunLog) -> Self {
        Self {
            sequence: event.sequence,
            event_type: event.event_type,
            payload: event.payload,
            // One that was read from a store always has it.
            created_at: event.created_at.unwrap_or_default(),
        }
    }

    pub(crate) fn of_run(self, run_id: &str) -> SkillRunLog {
        SkillRunLog::new(run_id, self.sequence, self.event_type, self.payload)
            .created_at(self.created_at)
    }
}
