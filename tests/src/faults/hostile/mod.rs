mod queries;
mod values;

use std::fmt::Debug;

use runtrail_audit::{Error, Result};
use runtrail_store::AuditStore;

use crate::fixture::*;

/// Runs a test with a database of each kind.
fn on_both(test: impl AsyncFnOnce(&Both)) {
    on_databases(
        [Backend::Sqlite, Backend::Postgres],
        async |[sqlite, postgres]| {
            let both = Both {
                sqlite: sqlite.store().await,
                postgres: postgres.store().await,
                urls: [sqlite.url(), postgres.url()],
            };
            test(&both).await;
            both.sqlite.close().await.unwrap();
            both.postgres.close().await.unwrap();
        },
    );
}

/// The same history on both backends.
struct Both {
    sqlite: AuditStore,
    postgres: AuditStore,
    urls: [String; 2],
}

impl Both {
    /// Asks both the same; the answers are the same, too.
    async fn ask<T: PartialEq + Debug>(
        &self,
        call: impl AsyncFn(&AuditStore) -> Result<T>,
    ) -> Result<T, String> {
        let (of_sqlite, of_postgres) =
            futures_util::future::join(call(&self.sqlite), call(&self.postgres)).await;
        let of_sqlite = of_sqlite.map_err(words);
        assert_eq!(of_sqlite, of_postgres.map_err(words));
        of_sqlite
    }
}

/// Which error it is, and what it says.
fn words(err: Error) -> String {
    format!("{:?}: {err}", err.kind())
}
