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

/// Caches a pool's connections between statements.
///
/// The pool pings each connection that is returned to it, which on SQLite takes as long as reading
/// a row. A connection whose statement has succeeded is cached without a ping. One whose statement
/// has failed or was abandoned returns to the pool, unless the failure may have broken it: then it
/// is discarded. A connection that has been idle for a while also returns to the pool, which
/// manages idle connections.
pub(super) struct ConnectionCache {
    db: DatabaseConnection,
    /// One per connection of the pool. Without them, a further checkout would wait in the pool for
    /// a connection that is cached here.
    permits: Semaphore,
    /// Half as many: writes may wait for locks, and must leave connections for reads.
    write_permits: Semaphore,
    acquire_timeout: Duration,
    /// The most recently used connection is last, and is reused first.
    idle: Mutex<Vec<IdleConnection>>,
    /// The number of existing [`CachePause`]s.
    pauses: AtomicUsize,
}

struct IdleConnection {
    connection: PooledConnection,
    since: Instant,
}

impl IdleConnection {
    /// Returns the connection to the pool, which pings it. After a long idle time it is closed
    /// instead, since an unanswered ping never times out.
    fn return_to_pool(self) {
        if self.since.elapsed() > MAX_SILENCE {
            self.connection.discard();
        }
    }
}

/// A checked-out connection.
pub(super) struct Checkout<'a> {
    pub(super) connection: PooledConnection,
    _permits: (SemaphorePermit<'a>, Option<SemaphorePermit<'a>>),
}

/// Suspends caching while it exists.
pub(super) struct CachePause<'a>(&'a ConnectionCache);

impl Drop for CachePause<'_> {
    fn drop(&mut self) {
        self.0.pauses.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection is checked out for.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Read,
    Write,
}

/// How long a connection may be idle and still be used without a ping.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// How long the cache trusts a network not to drop an idle connection.
const MAX_SILENCE: Duration = Duration::from_secs(30);

impl ConnectionCache {
    /// Creates a cache for a pool that only the store uses; `None` if the pool is of an unknown
    /// kind.
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

    /// Checks out a connection for a statement that waits for no lock.
    pub(super) async fn checkout_for_read(
        &self,
        has_prepared_statements: bool,
    ) -> Result<Checkout<'_>, DbErr> {
        self.checkout(Purpose::Read, has_prepared_statements).await
    }

    /// Checks out a connection for a statement that may wait for a lock.
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
        // A permit is usually free, and a timer would cost as much as the rest of the checkout.
        if purpose == Purpose::Read
            && let Ok(permit) = self.permits.try_acquire()
            && let Some(connection) = self.pop_idle()
        {
            return Ok(Checkout {
                connection: connection.prepares_statements(has_prepared_statements),
                _permits: (permit, None),
            });
        }
        let checkout = async {
            let write_permit = match purpose {
                Purpose::Write => Some(permit(&self.write_permits).await?),
                Purpose::Read => None,
            };
            let permit = permit(&self.permits).await?;
            let connection = match self.pop_idle() {
                Some(connection) => connection,
                None => PooledConnection::acquire(&self.db).await?,
            };
            Ok(Checkout {
                connection: connection.prepares_statements(has_prepared_statements),
                _permits: (permit, write_permit),
            })
        };
        timeout(self.acquire_timeout, checkout)
            .await
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
    }

    /// Caches the connection if its statement has succeeded. A checkout whose statement was
    /// abandoned is dropped instead, which returns the connection to the pool.
    pub(super) fn check_in(&self, checkout: Checkout<'_>, failure: Option<&DbErr>) {
        match failure.map(DriverErrorKind::of) {
            None => {}
            // The connection is broken, or its server is read-only.
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

    /// Discards the idle connections after a failure that may affect them too.
    #[cfg(feature = "postgres")]
    pub(super) fn discard(&self) {
        for idle in self.idle().drain(..) {
            idle.connection.discard();
        }
    }

    /// Returns the idle connections to the pool.
    fn clear(&self) {
        for idle in self.idle().drain(..) {
            idle.return_to_pool();
        }
    }

    /// Stops caching while the returned value exists, for a caller that uses the pool directly.
    pub(super) fn pause(&self) -> CachePause<'_> {
        self.pauses.fetch_add(1, Ordering::Relaxed);
        self.clear();
        CachePause(self)
    }

    /// Stops caching, and refuses further checkouts.
    pub(super) fn close(&self) {
        self.permits.close();
        self.write_permits.close();
        self.clear();
    }

    fn pop_idle(&self) -> Option<PooledConnection> {
        let mut idle = self.idle();
        let is_fresh = |idle: &IdleConnection| idle.since.elapsed() < MAX_IDLE;
        for idle in idle.extract_if(.., |idle| !is_fresh(idle)) {
            idle.return_to_pool();
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
    /// Returning a connection to its pool needs a runtime, and panics without one.
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
