use std::time::{Duration, Instant};

use tracing::{Level, event};

/// Logs a statement like SeaORM's driver, when it is dropped.
pub(super) struct StatementLog {
    sql: String,
    rows: usize,
    started: Instant,
}

impl StatementLog {
    pub(super) fn new(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            rows: 0,
            started: Instant::now(),
        }
    }

    /// Sets the number of rows that the statement has returned.
    pub(super) fn set_rows(&mut self, rows: usize) {
        self.rows = rows;
    }
}

impl Drop for StatementLog {
    fn drop(&mut self) {
        const SLOW: Duration = Duration::from_secs(1);

        let elapsed = self.started.elapsed();
        let elapsed_secs = elapsed.as_secs_f64();
        let (sql, rows_returned) = (&*self.sql, self.rows);
        if elapsed < SLOW {
            event!(
                target: "sqlx::query",
                Level::DEBUG,
                db.statement = sql,
                rows_returned,
                elapsed_secs
            );
        } else {
            event!(
                target: "sqlx::query",
                Level::WARN,
                db.statement = sql,
                rows_returned,
                elapsed_secs,
                "slow statement"
            );
        }
    }
}
