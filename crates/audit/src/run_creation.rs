use async_trait::async_trait;

use crate::{Result, SkillRun, Storage};

/// Starts runs under ids that must be unused.
#[async_trait]
pub trait RunCreation: Storage {
    /// Starts a run like [`start_run`](Storage::start_run), but fails if a different run has this
    /// id. If two callers start different runs under one id, one call succeeds and the other one
    /// fails.
    ///
    /// Repeating the call with the same run returns `Ok`, so it is safe to retry after any failure.
    ///
    /// # Errors
    ///
    /// [`RunExists`](crate::Error::RunExists) if a different run is stored under this id, running
    /// or finished, [`InvalidInput`](crate::Error::InvalidInput) and
    /// [`TooLarge`](crate::Error::TooLarge) for a field that can't be stored. These errors leave
    /// the history unchanged.
    async fn create_run(&self, run: &SkillRun) -> Result<()>;
}

const _: fn(&dyn RunCreation) = |_| {};
