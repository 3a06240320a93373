use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{ConnAcquireErr, DatabaseConnection, DbErr};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::Held;
use crate::{DriverErrorKind, backend};

/// Connections of a pool that are in use all the time, kept from one statement to the next.
///
/// The pool asks each connection that comes back whether it still works, which on SQLite takes as long as reading a
/// row. Here one comes back unasked if its statement has succeeded. One whose statement failed, or was given up, goes
/// back to the pool; so does one that has rested a while, since the pool knows what becomes of those.
pub(super) struct Kept {
    db: DatabaseConnection,
    /// As many as the pool has connections: more would wait for one that is kept here.
    permits: Semaphore,
    /// Half as many: writes may wait for locks, and must leave connections for readers.
    write_permits: Semaphore,
    acquire_timeout: Duration,
    /// The one used last at the end: it is the warmest.
    idle: Mutex<Vec<Rested>>,
    /// How many want connections from the pool itself.
    others: AtomicUsize,
}

struct Rested {
    held: Held,
    since: Instant,
}

impl Rested {
    /// To the pool, which asks it whether it still works; one that nobody may be listening to any more is closed, since
    /// the question could take as long as the network likes.
    fn go_back(self) {
        if self.since.elapsed() > LONG {
            self.held.discard();
        }
    }
}

/// One of them in use.
pub(super) struct Lent<'a> {
    pub(super) held: Held,
    _permits: (SemaphorePermit<'a>, Option<SemaphorePermit<'a>>),
}

pub(super) struct GivenWay<'a>(&'a Kept);

impl Drop for GivenWay<'_> {
    fn drop(&mut self) {
        self.0.others.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection is taken for.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Read,
    Write,
}

/// How long a connection may rest and still be used unasked.
const REST: Duration = Duration::from_secs(1);

/// How long a network is trusted to remember a connection that says nothing.
const LONG: Duration = Duration::from_secs(30);

impl Kept {
    /// Those of a pool that nobody else uses; none of a pool of another kind.
    pub(super) fn of(db: &DatabaseConnection) -> Option<Self> {
        let (connections, acquire_timeout) = backend::pool_size(db)?;
        Some(Self {
            db: db.clone(),
            permits: Semaphore::new(connections as usize),
            write_permits: Semaphore::new(connections.div_ceil(2) as usize),
            acquire_timeout,
            idle: Mutex::default(),
            others: AtomicUsize::new(0),
        })
    }

    /// For a statement that waits for no lock.
    pub(super) async fn take(&self, has_prepared_statements: bool) -> Result<Lent<'_>, DbErr> {
        self.take_for(Purpose::Read, has_prepared_statements).await
    }

    /// For a statement that may wait for a lock.
    pub(super) async fn take_to_write(
        &self,
        has_prepared_statements: bool,
    ) -> Result<Lent<'_>, DbErr> {
        self.take_for(Purpose::Write, has_prepared_statements).await
    }

    async fn take_for(
        &self,
        purpose: Purpose,
        has_prepared_statements: bool,
    ) -> Result<Lent<'_>, DbErr> {
        // A permit is usually free, and a timer would cost as much as the rest.
        if purpose == Purpose::Read
            && let Ok(permit) = self.permits.try_acquire()
            && let Some(held) = self.warm()
        {
            return Ok(Lent {
                held: held.prepares_statements(has_prepared_statements),
                _permits: (permit, None),
            });
        }
        let take = async {
            let write_permit = match purpose {
                Purpose::Write => Some(permit(&self.write_permits).await?),
                Purpose::Read => None,
            };
            let permit = permit(&self.permits).await?;
            let held = match self.warm() {
                Some(held) => held,
                None => Held::acquire(&self.db).await?,
            };
            Ok(Lent {
                held: held.prepares_statements(has_prepared_statements),
                _permits: (permit, write_permit),
            })
        };
        timeout(self.acquire_timeout, take)
            .await
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
    }

    /// After a statement, to be kept if that has succeeded. One whose statement was given up is just dropped, and so goes
    /// to the pool.
    pub(super) fn take_back(&self, lent: Lent<'_>, failure: Option<&DbErr>) {
        match failure.map(DriverErrorKind::of) {
            None => {}
            // It has gone itself, or leads to where nothing can be written.
            Some(DriverErrorKind::Transient | DriverErrorKind::ReadOnly) => {
                return lent.held.discard();
            }
            Some(_) => return,
        }
        let mut idle = self.idle();
        let others_want_it = self.others.load(Ordering::Relaxed) > 0;
        if !self.permits.is_closed() && !others_want_it && !lent.held.is_old() {
            idle.push(Rested {
                held: lent.held,
                since: Instant::now(),
            });
        }
    }

    /// Gives up those that rest here, after a failure that may be theirs too.
    #[cfg(feature = "postgres")]
    pub(super) fn discard(&self) {
        for rested in self.idle().drain(..) {
            rested.held.discard();
        }
    }

    /// Lets the pool have those that rest here.
    fn clear(&self) {
        for rested in self.idle().drain(..) {
            rested.go_back();
        }
    }

    /// Keeps none while this lives, for somebody who takes connections from the pool itself.
    pub(super) fn give_way(&self) -> GivenWay<'_> {
        self.others.fetch_add(1, Ordering::Relaxed);
        self.clear();
        GivenWay(self)
    }

    /// Keeps none any more, and lends none.
    pub(super) fn close(&self) {
        self.permits.close();
        self.write_permits.close();
        self.clear();
    }

    fn warm(&self) -> Option<Held> {
        let mut idle = self.idle();
        let is_warm = |rested: &Rested| rested.since.elapsed() < REST;
        for rested in idle.extract_if(.., |rested| !is_warm(rested)) {
            rested.go_back();
        }
        idle.pop().map(|rested| rested.held)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Rested>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn permit(permits: &Semaphore) -> Result<SemaphorePermit<'_>, DbErr> {
    let permit = permits.acquire().await;
    permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))
}

impl Drop for Kept {
    /// A connection that goes back to its pool needs the runtime for it, and panics without one.
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            for rested in self.idle().drain(..) {
                rested.held.detach();
            }
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}
