use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "postgres")]
use std::time::Duration;
use std::time::Instant;

/// Records when a statement was last abandoned: its future was dropped before the database
/// answered.
///
/// Its connection returns to the pool, where the driver waits for the answer without a timeout. A
/// locked row or a dead network would use up one connection after another. A PostgreSQL pool that
/// is opened with this type therefore closes such a connection if it doesn't answer within a
/// second. The server may still complete the statement.
#[derive(Clone, Debug, Default)]
pub struct AbandonedStatements(Arc<Mutex<Option<Instant>>>);

impl AbandonedStatements {
    /// Awaits a statement, and records it as abandoned if this future is dropped first.
    pub async fn watch<T>(&self, statement: impl Future<Output = T>) -> T {
        let mut statement = std::pin::pin!(statement);
        // The guard is dropped before the statement, so the record precedes the return of the
        // connection.
        let mut guard = AbandonGuard(Some(self));
        let result = statement.as_mut().await;
        guard.0 = None;
        result
    }
}

#[cfg(feature = "postgres")]
impl AbandonedStatements {
    fn is_recent(&self) -> bool {
        /// An abandoned connection returns to the pool sooner than this, even on a busy machine.
        const RECENT: Duration = Duration::from_secs(10);

        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < RECENT)
    }

    /// Limits how long the pool waits for a returned connection.
    pub(crate) fn limit_release_wait(&self, options: &mut sea_orm::ConnectOptions) {
        use sea_orm::sqlx::{Connection, Error};

        const PING_TIMEOUT: Duration = Duration::from_secs(1);

        let abandoned = self.clone();
        options.map_sqlx_postgres_pool_opts(move |pool| {
            let abandoned = abandoned.clone();
            pool.after_release(move |connection, _| {
                let abandoned = abandoned.clone();
                Box::pin(async move {
                    // Without an abandoned statement, a ping would be a useless round trip.
                    if abandoned.is_recent() {
                        let pinged = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                        pinged.map_err(|_| Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
        });
    }
}

/// When dropped, records an abandoned statement, unless the guard is empty.
struct AbandonGuard<'a>(Option<&'a AbandonedStatements>);

impl Drop for AbandonGuard<'_> {
    fn drop(&mut self) {
        if let Some(AbandonedStatements(last)) = self.0 {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}
