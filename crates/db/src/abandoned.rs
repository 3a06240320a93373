use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "postgres")]
use std::time::Duration;
use std::time::Instant;

/// Knows when a statement was last abandoned: when its future was dropped before the answer was there.
///
/// Its connection goes back to the pool, and there the driver waits for the answer, for as long as that takes: a lock
/// that others hold, or a network that has gone silent, would use up one connection after the other. So a pool that
/// is opened with this gives such a connection a second, and closes it then. The database ends the statement by
/// itself.
#[derive(Clone, Debug, Default)]
pub struct AbandonedStatements(Arc<Mutex<Option<Instant>>>);

impl AbandonedStatements {
    /// Awaits a statement, and remembers if it is dropped instead.
    pub async fn watch<T>(&self, statement: impl Future<Output = T>) -> T {
        let mut statement = std::pin::pin!(statement);
        // It is dropped before the statement is, and so is known before the connection goes back.
        let mut watch = Watch(Some(self));
        let answer = statement.as_mut().await;
        watch.0 = None;
        answer
    }
}

#[cfg(feature = "postgres")]
impl AbandonedStatements {
    fn is_recent(&self) -> bool {
        /// A connection goes back at once, but perhaps on a busy machine.
        const RECENT: Duration = Duration::from_secs(10);

        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < RECENT)
    }

    pub(crate) fn bound_releases(&self, options: &mut sea_orm::ConnectOptions) {
        use sea_orm::sqlx::{Connection, Error};

        const PATIENCE: Duration = Duration::from_secs(1);

        let abandoned = self.clone();
        options.map_sqlx_postgres_pool_opts(move |pool| {
            let abandoned = abandoned.clone();
            pool.after_release(move |connection, _| {
                let abandoned = abandoned.clone();
                Box::pin(async move {
                    // Otherwise nobody is waiting for anything, and a ping would be a round trip for nothing.
                    if abandoned.is_recent() {
                        let answer = tokio::time::timeout(PATIENCE, connection.ping()).await;
                        answer.map_err(|_| Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
        });
    }
}

struct Watch<'a>(Option<&'a AbandonedStatements>);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(AbandonedStatements(last)) = self.0 {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}
