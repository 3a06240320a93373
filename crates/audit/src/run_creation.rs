use async_trait::async_trait;

use crate::{Result, SkillRun, Storage};

/// Starting a run under an id that must be free.
#[async_trait]
pub trait RunCreation: Storage {
    /// Starts a run as [`start_run`](Storage::start_run) does, unless another run has the id: of two callers with the
    /// same id and different runs, one gets the id and the other an error.
    ///
    /// Repeating the call with the same run is `Ok`, so the call can be repeated after any failure.
    ///
    /// # Errors
    ///
    /// [`RunExists`](crate::Error::RunExists) when another run is stored under this id, running or finished,
    /// [`InvalidInput`](crate::Error::InvalidInput) and [`TooLarge`](crate::Error::TooLarge) for a field that can't be
    /// stored. Nothing changes then.
    async fn create_run(&self, run: &SkillRun) -> Result<()>;
}

const _: fn(&dyn RunCreation) = |_| {};
