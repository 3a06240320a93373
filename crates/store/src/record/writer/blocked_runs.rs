use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtrail_audit::{Error, Result};
use runtrail_db::{Pool, Retry, Timing};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{GRACE_PERIOD, task_ended};
use crate::error;
use crate::record::write::Request;
use crate::settings::{Session, Settings};

/// Runs whose rows another transaction has locked on PostgreSQL.
///
/// Calls about these runs are written outside the groups, one at a time for each run, so a lock
/// delays only the calls that need the row. They wait for the lock in short statements, so they
/// don't occupy a connection for long after their callers have given up.
#[derive(Default)]
pub(super) struct BlockedRuns(Mutex<HashMap<String, BlockedRun>>);

#[derive(Default)]
struct BlockedRun {
    /// Locked while one of the calls is being written.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The number of calls that are being written or wait for their turn.
    calls: usize,
    /// Until then the row counts as locked, even if no call waits for it.
    until: Option<Instant>,
}

impl BlockedRun {
    /// How long a row counts as locked after the last call gave up, in case its caller retries.
    const COOLDOWN: Duration = Duration::from_secs(5);

    fn is_blocked(&self) -> bool {
        self.calls > 0 || self.until.is_some_and(|until| Instant::now() < until)
    }
}

impl BlockedRuns {
    pub(super) fn has(&self, run_id: &str) -> bool {
        self.runs().get(run_id).is_some_and(BlockedRun::is_blocked)
    }

    /// Writes a call when it is its turn among the calls about its run. Like a group, it continues
    /// for at most a second after the caller has given up.
    pub(super) async fn write(
        self: &Arc<Self>,
        pool: &Pool,
        settings: &Settings,
        write: Arc<Request>,
    ) -> Result<()> {
        let runtime = Handle::try_current().map_err(error::runtime)?;
        let visit = self.enter(write.run_id());
        let settings = Settings {
            timing: Timing {
                retry: Retry::never(),
                call_timeout: None,
            },
            ..settings.clone()
        };
        let pool = pool.clone();
        let (answer, answered) = oneshot::channel();
        runtime.spawn(async move { visit.write(&pool, &settings, &write, answer).await });
        answered.await.map_err(|_| error::database(task_ended()))?
    }

    /// Marks a run as blocked after its row was locked: calls about it stay out of the groups for a
    /// while.
    pub(super) fn remember(&self, run_id: &str) {
        let mut runs = self.runs();
        runs.retain(|_, run| run.is_blocked());
        let run = runs.entry(run_id.to_owned()).or_default();
        run.until = Some(Instant::now() + BlockedRun::COOLDOWN);
    }

    fn enter(self: &Arc<Self>, run_id: &str) -> Visit {
        let mut runs = self.runs();
        runs.retain(|_, run| run.is_blocked());
        let run = runs.entry(run_id.to_owned()).or_default();
        run.calls += 1;
        Visit {
            blocked: Arc::clone(self),
            run_id: run_id.to_owned(),
            turn: Arc::clone(&run.turn),
            is_locked: true,
        }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<String, BlockedRun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call about a blocked run.
struct Visit {
    blocked: Arc<BlockedRuns>,
    run_id: String,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether the row was locked at the last attempt; initially true.
    is_locked: bool,
}

impl Visit {
    async fn write(
        mut self,
        pool: &Pool,
        settings: &Settings,
        write: &Request,
        mut answer: oneshot::Sender<Result<()>>,
    ) {
        /// The pause between two attempts, since the database may report a lock without waiting for
        /// it.
        const PAUSE: Duration = Duration::from_millis(5);

        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().await;
        while !answer.is_closed() {
            let session = Session::shared(pool, settings);
            let given_up = async {
                answer.closed().await;
                sleep(GRACE_PERIOD).await;
            };
            let written = tokio::select! {
                biased;
                written = write.execute(&session) => written,
                () = given_up => return,
            };
            if !matches!(written, Err(Error::Busy { .. })) {
                self.is_locked = written.as_ref().is_err_and(Error::is_transient);
                // The caller may have given up at this moment.
                let _ = answer.send(written);
                return;
            }
            sleep(PAUSE).await;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut runs = self.blocked.runs();
        if let Some(run) = runs.get_mut(&self.run_id) {
            run.calls -= 1;
            run.until = self
                .is_locked
                .then(|| Instant::now() + BlockedRun::COOLDOWN);
        }
    }
}
