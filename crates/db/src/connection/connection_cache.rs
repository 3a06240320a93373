use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{ConnAcquireErr, DatabaseConnection, DbErr};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::PooledConnection;
use crate::{DriverErrorKind, backend};

/// Connections of a pool that are in use all the time, cached from one statement to the next.
///
/// The pool asks each connection that comes back whether it still works, which on SQLite takes as long as reading a
/// row. Here one comes back unasked if its statement has succeeded. One whose statement failed, or was given up, goes
/// back to the pool; so does one that has been idle a while, since the pool knows what becomes of those.
pub(super) struct ConnectionCache {
    db: DatabaseConnection,
    /// As many as the pool has connections: more would wait for one that is cached here.
    permits: Semaphore,
    /// Half as many: writes may wait for locks, and must leave connections for readers.
    write_permits: Semaphore,
    acquire_timeout: Duration,
    /// The one used last at the end: it is the warmest.
    idle: Mutex<Vec<IdleConnection>>,
    /// How many want connections from the pool itself.
    pauses: AtomicUsize,
}

struct IdleConnection {
    connection: PooledConnection,
    since: Instant,
}

impl IdleConnection {
    /// To the pool, which asks it whether it still works; one that nobody may be listening to any more is closed, since
    /// the question could take as long as the network likes.
    fn go_back(self) {
        if self.since.elapsed() > LONG {
            self.connection.discard();
        }
    }
}

/// One of them in use.
pub(super) struct Checkout<'a> {
    pub(super) connection: PooledConnection,
    _permits: (SemaphorePermit<'a>, Option<SemaphorePermit<'a>>),
}

pub(super) struct CachePause<'a>(&'a ConnectionCache);

impl Drop for CachePause<'_> {
    fn drop(&mut self) {
        self.0.pauses.fetch_sub(1, Ordering::Relaxed);
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

impl ConnectionCache {
    /// Those of a pool that nobody else uses; none of a pool of another kind.
    pub(super) fn of(db: &DatabaseConnection) -> Option<Self> {
        let (connections, acquire_timeout) = backend::pool_size(db)?;
        Some(Self {
            db: db.clone(),
            permits: Semaphore::new(connections as usize),
            write_permits: Semaphore::new(connections.div_ceil(2) as usize),
            acquire_timeout,
            idle: Mutex::default(),
            pauses: AtomicUsize::new(0),
        })
    }

    /// For a statement that waits for no lock.
    pub(super) async fn checkout_for_read(
        &self,
        has_prepared_statements: bool,
    ) -> Result<Checkout<'_>, DbErr> {
        self.checkout(Purpose::Read, has_prepared_statements).await
    }

    /// For a statement that may wait for a lock.
    pub(super) async fn checkout_for_write(
        &self,
        has_prepared_statements: bool,
    ) -> Result<Checkout<'_>, DbErr> {
        self.checkout(Purpose::Write, has_prepared_statements).await
    }

    async fn checkout(
        &self,
        purpose: Purpose,
        has_prepared_statements: bool,
    ) -> Result<Checkout<'_>, DbErr> {
        // A permit is usually free, and a timer would cost as much as the rest.
        if purpose == Purpose::Read
            && let Ok(permit) = self.permits.try_acquire()
            && let Some(connection) = self.warm()
        {
            return Ok(Checkout {
                connection: connection.prepares_statements(has_prepared_statements),
                _permits: (permit, None),
            });
        }
        let take = async {
            let write_permit = match purpose {
                Purpose::Write => Some(permit(&self.write_permits).await?),
                Purpose::Read => None,
            };
            let permit = permit(&self.permits).await?;
            let connection = match self.warm() {
                Some(connection) => connection,
                None => PooledConnection::acquire(&self.db).await?,
            };
            Ok(Checkout {
                connection: connection.prepares_statements(has_prepared_statements),
                _permits: (permit, write_permit),
            })
        };
        timeout(self.acquire_timeout, take)
            .await
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
    }

    /// After a statement, to be cached if that has succeeded. One whose statement was given up is just dropped, and so goes
    /// to the pool.
    pub(super) fn check_in(&self, checkout: Checkout<'_>, failure: Option<&DbErr>) {
        match failure.map(DriverErrorKind::of) {
            None => {}
            // It has gone itself, or leads to where nothing can be written.
            Some(DriverErrorKind::Transient | DriverErrorKind::ReadOnly) => {
                return checkout.connection.discard();
            }
            Some(_) => return,
        }
        let mut idle = self.idle();
        let is_paused = self.pauses.load(Ordering::Relaxed) > 0;
        if !self.permits.is_closed() && !is_paused && !checkout.connection.is_old() {
            idle.push(IdleConnection {
                connection: checkout.connection,
                since: Instant::now(),
            });
        }
    }

    /// Gives up those that rest here, after a failure that may be theirs too.
    #[cfg(feature = "postgres")]
    pub(super) fn discard(&self) {
        for idle in self.idle().drain(..) {
            idle.connection.discard();
        }
    }

    /// Lets the pool have those that rest here.
    fn clear(&self) {
        for idle in self.idle().drain(..) {
            idle.go_back();
        }
    }

    /// Keeps none while this lives, for somebody who takes connections from the pool itself.
    pub(super) fn pause(&self) -> CachePause<'_> {
        self.pauses.fetch_add(1, Ordering::Relaxed);
        self.clear();
        CachePause(self)
    }

    /// Keeps none any more, and lends none.
    pub(super) fn close(&self) {
        self.permits.close();
        self.write_permits.close();
        self.clear();
    }

    fn warm(&self) -> Option<PooledConnection> {
        let mut idle = self.idle();
        let is_warm = |idle: &IdleConnection| idle.since.elapsed() < REST;
        for idle in idle.extract_if(.., |idle| !is_warm(idle)) {
            idle.go_back();
        }
        idle.pop().map(|idle| idle.connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<IdleConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn permit(permits: &Semaphore) -> Result<SemaphorePermit<'_>, DbErr> {
    let permit = permits.acquire().await;
    permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))
}

impl Drop for ConnectionCache {
    /// A connection that goes back to its pool needs the runtime for it, and panics without one.
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            for idle in self.idle().drain(..) {
                idle.connection.detach();
            }
        }
    }
}

impl fmt::Debug for ConnectionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionCache").finish_non_exhaustive()
    }
}
