use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{Result, Storage};

/// Labels of stored runs. [`SkillRun::label`](crate::SkillRun::label) sets labels at the start, and
/// [`RunQuery`](crate::RunQuery) finds runs by them.
#[async_trait]
pub trait RunLabels: Storage {
    /// Adds labels to a running or finished run. If the run already has a label with the same key,
    /// its value is replaced. Labels can't be removed.
    ///
    /// The call is atomic, and can be repeated. If the future is dropped, all of the labels are
    /// stored, or none.
    ///
    /// ```
    /// use runtrail_audit::{Result, RunLabels};
    ///
    /// async fn mark_reviewed(store: &impl RunLabels, run_id: &str) -> Result<()> {
    ///     let labels = [("review".to_owned(), "passed".to_owned())];
    ///     store.add_labels(run_id, &labels.into()).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::Error::NotFound); [`InvalidInput`](crate::Error::InvalidInput) for an
    /// invalid [label](crate::SkillRun::labels), or if the run would have more than 32.
    async fn add_labels(&self, run_id: &str, labels: &BTreeMap<String, String>) -> Result<()>;
}

const _: fn(&dyn RunLabels) = |_| {};
