use std::fmt;

use runtrail_store::audit::Error;

use crate::failure::Failure;
use crate::output::counted;

/// What could not be stored of a run.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) events: usize,
    pub(super) is_unfinished: bool,
    /// Why, at first.
    reason: String,
}

impl Loss {
    pub(super) fn because(reason: String) -> Self {
        Self {
            events: 0,
            is_unfinished: false,
            reason,
        }
    }

    /// What is lost now beside what was lost before.
    pub(super) fn add(before: &mut Option<Self>, events: usize, err: Error) -> &mut Self {
        let loss = before.get_or_insert_with(|| Self::because(Failure::from(err).in_one_line()));
        loss.events += events;
        loss
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.events > 0 {
            write!(f, "{} lost, ", counted(self.events as u64, "event"))?;
        }
        if self.is_unfinished {
            f.write_str("it is not finished, ")?;
        }
        write!(f, "since {}", self.reason)
    }
}
