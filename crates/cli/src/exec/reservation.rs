use std::time::Duration;

use runtrail::cost::Prices;
use runtrail::{AuditStore, BudgetScope, Budgets, ReservationRequest, RunTree, Spending, rules};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::report;
use super::retry_budget::{SHORT_TIMEOUT, unanswered};
use crate::failure::Result;
use crate::run_usage::{RunUsage, tokens};

/// How long settling may take.
const TIMEOUT: Duration = Duration::from_secs(14);

/// Whom an amount is reserved for. This decides which budgets it is reserved from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Payer {
    caller: String,
    skill: String,
    channel: String,
}

impl Payer {
    pub(super) fn of(request: &ReservationRequest) -> Self {
        Self {
            caller: request.caller_id.clone(),
            skill: request.skill_id.clone(),
            channel: request.channel_id.clone(),
        }
    }

    fn is_in(&self, scope: &BudgetScope) -> bool {
        match scope {
            BudgetScope::Everything => true,
            BudgetScope::Caller(id) => *id == self.caller,
            BudgetScope::Skill(id) => *id == self.skill,
            BudgetScope::Channel(id) => *id == self.channel,
            _ => false,
        }
    }

    /// Whether each budget that applies to this one also applies to one of the others.
    pub(super) async fn is_covered_by(&self, others: &[Self], store: &AuditStore) -> Result<bool> {
        if others.is_empty() {
            return Ok(false);
        }
        let budgets = store.list_budgets().await?;
        let mut scopes = budgets.iter().map(|status| &status.budget.scope);
        let is_covered = |scope| others.iter().any(|other| other.is_in(scope));
        Ok(scopes.all(|scope| !self.is_in(scope) || is_covered(scope)))
    }
}

/// What `--budget` has reserved for a run.
pub(super) struct Reservation {
    pub(super) store: AuditStore,
    pub(super) request: ReservationRequest,
    /// For calls whose cost the program doesn't report.
    pub(super) prices: Box<dyn Prices>,
}

impl Reservation {
    /// Replaces the reserved amount by what the run and its descendants have used. If that fails,
    /// it reports the reason, and returns false.
    pub(super) async fn settle(self, run_id: &str, is_interrupted: bool) -> bool {
        let wait = match is_interrupted {
            true => SHORT_TIMEOUT,
            false => TIMEOUT,
        };
        let settled = timeout(wait, self.settle_once(run_id)).await;
        let settled = settled.unwrap_or_else(|_| Err(unanswered().into()));
        let Err(failure) = settled else {
            return true;
        };
        report(format!(
            "the budget still counts what was reserved for run {run_id}: {}; `runtrail sweep` \
            releases it",
            failure.in_one_line()
        ));
        false
    }

    async fn settle_once(&self, run_id: &str) -> Result<()> {
        let spent = spent(&self.store, run_id, &*self.prices).await?;
        let settled = self.store.settle_reservation(&self.request.id, &spent);
        Ok(settled.await?)
    }
}

/// Returns the tokens and the costs of a run and all its descendants.
async fn spent(store: &AuditStore, run_id: &str, prices: &dyn Prices) -> Result<Spending> {
    let runs = store.list_subtree(run_id).await?;
    let usage = RunUsage::of_each(&runs, store, prices).await?;
    let (mut total, mut cost) = (0_u64, 0_u64);
    for run in &runs {
        let usage = usage.get(&run.id);
        total = total.saturating_add(tokens(run, usage));
        cost = cost.saturating_add(usage.map_or(0, |usage| usage.cost_micros));
    }
    Ok(Spending::new()
        .tokens(total.min(rules::MAX_AMOUNT))
        .cost_micros(cost.min(rules::MAX_AMOUNT)))
}
