mod queries;
mod values;

use std::fmt::Debug;

use runtrail_audit::{Error, Result};
use runtrail_store::AuditStore;

use crate::fixture::*;

/// Runs a test with a database for each kind of connection.
fn on_each_connection_kind(test: impl AsyncFnOnce(&ConnectionKinds)) {
    on_databases(
        [Backend::Sqlite, Backend::Postgres, Backend::Postgres],
        async |[sqlite, postgres, unprepared]| {
            let each = ConnectionKinds {
                sqlite: sqlite.store().await,
                postgres: postgres.store().await,
                unprepared: unprepared.store().await.without_prepared_statements(),
                urls: [sqlite.url(), postgres.url(), unprepared.url()],
            };
            test(&each).await;
            for store in [each.sqlite, each.postgres, each.unprepared] {
                store.close().await.unwrap();
            }
        },
    );
}

/// The same history on SQLite, on PostgreSQL, and on PostgreSQL with the simple protocol, the only
/// connection on which values are part of the statement's text.
struct ConnectionKinds {
    sqlite: AuditStore,
    postgres: AuditStore,
    unprepared: AuditStore,
    urls: [String; 3],
}

impl ConnectionKinds {
    /// Makes the same call on each, and asserts that the answers are equal.
    async fn call<T: PartialEq + Debug>(
        &self,
        call: impl AsyncFn(&AuditStore) -> Result<T>,
    ) -> Result<T, String> {
        let (of_sqlite, of_postgres, of_unprepared) = futures_util::future::join3(
            call(&self.sqlite),
            call(&self.postgres),
            call(&self.unprepared),
        )
        .await;
        let of_sqlite = of_sqlite.map_err(describe);
        assert_eq!(of_sqlite, of_postgres.map_err(describe));
        assert_eq!(of_sqlite, of_unprepared.map_err(describe));
        of_sqlite
    }
}

/// Returns the kind and the message of an error.
fn describe(err: Error) -> String {
    format!("{:?}: {err}", err.kind())
}
