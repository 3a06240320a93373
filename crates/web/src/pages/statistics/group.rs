use runtrail_audit::Dimension;

use crate::error::{Failure, Result};
use crate::filters::{CALLER, CHANNEL, Filters, SKILL, STATUS};

/// How runs are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Skill,
    Caller,
    Channel,
    Status,
}

impl Group {
    pub(super) const ALL: [Self; 4] = [Self::Skill, Self::Caller, Self::Channel, Self::Status];

    pub(super) fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text else {
            return Ok(Self::Skill);
        };
        let mut all = Self::ALL.into_iter();
        all.find(|group| group.name() == text).ok_or_else(|| {
            Failure::bad_request("Runs are grouped by skill, caller, channel or status.")
        })
    }

    /// The name, which is also that of the filter.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Skill => SKILL,
            Self::Caller => CALLER,
            Self::Channel => CHANNEL,
            Self::Status => STATUS,
        }
    }

    pub(super) fn dimension(self) -> Dimension {
        match self {
            Self::Skill => Dimension::Skill,
            Self::Caller => Dimension::Caller,
            Self::Channel => Dimension::Channel,
            Self::Status => Dimension::Status,
        }
    }

    /// Restricts a filter to the runs of one group.
    pub(super) fn filters(self, mut filters: Filters, value: &str) -> Filters {
        let only = match self {
            Self::Skill => &mut filters.skills,
            Self::Caller => &mut filters.callers,
            Self::Channel => &mut filters.channels,
            Self::Status => &mut filters.statuses,
        };
        *only = vec![value.to_owned()];
        filters
    }
}
