use serde::{Deserialize, Serialize};

/// Selects events of a run; the default matches all events.
///
/// An event must match every part that is set.
///
/// ```
/// use runtrail_audit::LogFilter;
///
/// let filter = LogFilter::new().event_type("tool_call").after(41);
/// assert_eq!(filter.after, Some(41));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[must_use]
pub struct LogFilter {
    /// Matches only events of this type.
    pub event_type: Option<String>,
    /// Matches only events with a larger sequence than this.
    pub after: Option<u64>,
}

impl LogFilter {
    /// Creates a filter that matches all events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restricts the filter to events of this type.
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Restricts the filter to events with a larger sequence than this.
    pub fn after(mut self, sequence: u64) -> Self {
        self.after = Some(sequence);
        self
    }
}
