//! Copies budgets: their limits, and what they have used.

use std::collections::{BTreeMap, HashSet};

use runtrail_audit::{BudgetStatus, Result};
use runtrail_store::AuditStore;

use crate::history::History;
use crate::report::DifferenceKind;
use crate::tracker::PassTracker;

/// Adds the budgets that the target lacks, and makes those of the target count at least what the
/// source has counted. Reservations stay behind: once a history has moved, the programs that made
/// them have ended.
pub(crate) async fn copy(
    source: &dyn History,
    target: &AuditStore,
    tracker: &mut PassTracker<'_>,
) -> Result<()> {
    let existing = History::budgets(target).await?.into_iter();
    let mut existing: BTreeMap<String, BudgetStatus> = existing
        .map(|status| (status.budget.name.clone(), status))
        .collect();
    let mut outdated = HashSet::new();
    for status in source.budgets().await? {
        tracker.summary.budgets.read += 1;
        let name = &status.budget.name;
        match existing.remove(name) {
            Some(other) if other.budget != status.budget => {
                tracker.budget(name, DifferenceKind::Conflict);
            }
            Some(other) if other.used >= status.used => tracker.summary.budgets.same += 1,
            Some(_) if !tracker.is_writing() => {
                tracker.budget(name, DifferenceKind::LessUsed);
            }
            None if !tracker.is_writing() => tracker.budget(name, DifferenceKind::Missing),
            other => {
                if other.is_none() {
                    target.stored_rows().insert_budget(&status.budget).await?;
                }
                tracker.summary.budgets.copied += 1;
                outdated.insert(status.budget.name);
            }
        }
    }
    for name in existing.keys() {
        tracker.budget(name, DifferenceKind::Extra);
    }
    if outdated.is_empty() {
        return Ok(());
    }
    let mut slots = source.budget_slots().await?;
    slots.retain(|slot| outdated.contains(&slot.budget));
    target.stored_rows().raise_budget_slots(&slots).await
}
