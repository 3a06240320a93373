use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sea_orm::Statement;

use super::file::SqliteFile;
use super::statements::Statements;
use crate::{Plan, Row};

/// A connection that reads a file, one query at a time.
pub(super) struct Reader {
    statements: Statements,
    guard: Arc<QueryGuard>,
    /// The number of the last query.
    query: u64,
}

/// Stops a connection's query when its time is over or its caller has given up.
#[derive(Debug, Default)]
struct QueryGuard {
    /// The current query.
    query: AtomicU64,
    /// When to stop it, as [`nanos`]; `u64::MAX` is never.
    stop_at: AtomicU64,
    /// The last query whose caller has given up.
    abandoned: AtomicU64,
}

impl QueryGuard {
    fn must_stop(&self) -> bool {
        let stop_at = self.stop_at.load(Ordering::Relaxed);
        self.abandoned.load(Ordering::Relaxed) >= self.query.load(Ordering::Relaxed)
            || (stop_at != u64::MAX && nanos() >= stop_at)
    }
}

/// Stops a query when it is dropped, even if the query hasn't begun yet.
pub(super) struct StopOnDrop {
    guard: Arc<QueryGuard>,
    query: u64,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.guard
            .abandoned
            .fetch_max(self.query, Ordering::Relaxed);
    }
}

impl Reader {
    /// Opens a connection. It fails instead of waiting for a lock.
    pub(super) fn open(file: &SqliteFile) -> rusqlite::Result<Self> {
        /// SQLite calls the progress handler after this many instructions, which take a few
        /// microseconds. More frequent calls would slow queries down.
        const INSTRUCTIONS: i32 = 50;

        let connection = file.open()?;
        let guard = Arc::new(QueryGuard::default());
        let handler = Arc::clone(&guard);
        connection.progress_handler(INSTRUCTIONS, Some(move || handler.must_stop()))?;
        Ok(Self {
            statements: Statements::new(connection),
            guard,
            query: 0,
        })
    }

    /// Returns a value that stops the next query when it is dropped.
    pub(super) fn stop_next_on_drop(&self) -> StopOnDrop {
        StopOnDrop {
            guard: Arc::clone(&self.guard),
            query: self.query + 1,
        }
    }

    /// Whether the connection must not be used again. When SQLite loads a changed schema, it also
    /// loads the planner's statistics. If this is interrupted, SQLite ignores the error and never
    /// loads them again.
    pub(super) fn is_suspect(&self) -> bool {
        self.statements.has_failed_to_load()
    }

    /// How the last query was planned.
    pub(super) fn plan(&self) -> Plan {
        self.statements.plan()
    }

    /// Fetches all rows of a query. Stops with an error when the budget is used up.
    pub(super) fn fetch(
        &mut self,
        statement: &Statement,
        plan: Plan,
        budget: Option<Duration>,
    ) -> rusqlite::Result<Vec<Row>> {
        self.query += 1;
        let stop_at = budget.map_or(u64::MAX, |budget| {
            nanos().saturating_add(u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX))
        });
        self.guard.stop_at.store(stop_at, Ordering::Relaxed);
        self.guard.query.store(self.query, Ordering::Relaxed);
        self.statements.fetch(statement, plan)
    }
}

/// The time since the first call, in nanoseconds.
fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();

    let elapsed = START.get_or_init(Instant::now).elapsed();
    // 2^64 nanoseconds are 584 years.
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
