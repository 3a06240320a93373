use serde::{Deserialize, Serialize};

/// Which events of a run a stream or a page takes; the default takes all.
///
/// All parts that are set must hold.
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
    /// Only events of this type.
    pub event_type: Option<String>,
    /// Only events with a larger sequence than this.
    pub after: Option<u64>,
}

impl LogFilter {
    /// Every event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only events of this type.
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Only events with a larger sequence than this.
    pub fn after(mut self, sequence: u64) -> Self {
        self.after = Some(sequence);
        self
    }
}
