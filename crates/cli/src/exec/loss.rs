use std::fmt;

use runtrail::Error;

use crate::failure::Failure;
use crate::output::counted;

/// The parts of a run that could not be stored.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) events: usize,
    pub(super) is_unfinished: bool,
    /// Whether the database file was moved or deleted, so that the whole run may be lost.
    pub(super) is_file_replaced: bool,
    /// The reason for the first loss.
    reason: String,
}

impl Loss {
    pub(super) fn new(reason: String) -> Self {
        Self {
            events: 0,
            is_unfinished: false,
            is_file_replaced: false,
            reason,
        }
    }

    /// Adds a loss to earlier ones.
    pub(super) fn add(before: &mut Option<Self>, events: usize, err: Error) -> &mut Self {
        let loss = before.get_or_insert_with(|| Self::new(Failure::from(err).in_one_line()));
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
            f.write_str("the run is not finished, ")?;
        }
        if self.is_file_replaced {
            f.write_str("the whole run may be lost, ")?;
        }
        write!(f, "because {}", self.reason)
    }
}
