use std::time::Duration;

use runtrail::{
    AuditStore, Budgets, Error, Owner, ReservationRequest, RunCreation, SkillRun, Spending, Storage,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::report;
use super::reservation::Payer;
use super::retry_budget::{OUTAGE_TIMEOUT, unanswered};
use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};

/// The pause before a retry.
const PAUSE: Duration = Duration::from_millis(500);

/// A run whose start is to be stored.
pub(super) struct Start {
    pub(super) database: DatabaseArguments,
    pub(super) run: SkillRun,
    pub(super) owner: Owner,
    /// What to reserve before the start is stored.
    pub(super) reservation: Option<ReservationRequest>,
    /// Whom the runs around this one have reserved for. What they pay for isn't reserved again.
    pub(super) payers: Vec<Payer>,
    /// Whether the program runs even if it can't be recorded. If so, nothing waits for an
    /// unreachable database.
    pub(super) keep_going: bool,
}

/// A run whose start is stored.
pub(super) struct Stored {
    pub(super) store: AuditStore,
    /// What is reserved for it.
    pub(super) reservation: Option<ReservationRequest>,
}

impl Start {
    /// Stores the start within [`OUTAGE_TIMEOUT`]. Without `--keep-going` it retries transient
    /// failures, for example during a restart of the database.
    pub(super) async fn store(mut self) -> Result<Stored> {
        let deadline = Instant::now() + OUTAGE_TIMEOUT;
        let mut reason = None;
        loop {
            let failure = match timeout_at(deadline, self.store_once()).await {
                Ok(Err(failure)) if failure.is_transient() => failure,
                Ok(stored) => return stored,
                Err(_) => return Err(reason.unwrap_or_else(|| self.database.opening(unanswered()))),
            };
            if self.keep_going || Instant::now() + PAUSE >= deadline {
                return Err(failure);
            }
            if reason.is_none() {
                let seconds = OUTAGE_TIMEOUT.as_secs();
                report(format!(
                    "{}; retrying for up to {seconds} s",
                    failure.in_one_line()
                ));
            }
            reason = Some(failure);
            sleep(PAUSE).await;
        }
    }

    async fn store_once(&mut self) -> Result<Stored> {
        let store = self.database.open().await?.with_owner(self.owner.clone());
        if let Some(parent) = &self.run.parent_run_id {
            // If this database doesn't have the parent, the run becomes a top-level run.
            match store.get_run(parent).await {
                Ok(_) | Err(Error::Corrupt { .. }) => {}
                Err(Error::NotFound { .. }) => self.run.parent_run_id = None,
                Err(err) => return Err(err.into()),
            }
        }
        if self.run.parent_run_id.is_some()
            && let Some(reservation) = &self.reservation
            && Payer::of(reservation)
                .is_covered_by(&self.payers, &store)
                .await?
        {
            self.reservation = None;
        }
        if let Some(reservation) = &self.reservation {
            store.reserve(reservation).await?;
        }
        // If the id is already used, refuse the run before its program starts.
        let created = store.create_run(&self.run).await;
        if let (Err(err), Some(reservation)) = (&created, &self.reservation)
            && !err.is_transient()
        {
            // If this fails, a sweep releases it.
            let nothing = Spending::new();
            let _ = store.settle_reservation(&reservation.id, &nothing).await;
        }
        match created {
            Ok(()) => Ok(Stored {
                store,
                reservation: self.reservation.clone(),
            }),
            Err(Error::RunExists { run_id }) => Err(Failure::failed(format!(
                "run {run_id:?} already exists; give another --id"
            ))),
            Err(err) => Err(err.into()),
        }
    }
}
