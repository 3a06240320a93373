mod questions;
mod values;

use runtrail_audit::{Error, Result, Storage};
use runtrail_store::AuditStore;

use crate::fixture::*;

/// Runs a test with a database of each kind.
fn on_both(test: impl AsyncFnOnce(&Both)) {
    on_database(Backend::Sqlite, async |sqlite| {
        let postgres = TestDatabase::create(Backend::Postgres).await;
        let both = Both {
            sqlite: open(&sqlite.url()).await,
            postgres: open(&postgres.url()).await,
            urls: [sqlite.url(), postgres.url()],
        };
        test(&both).await;
        both.sqlite.close().await.unwrap();
        both.postgres.close().await.unwrap();
        postgres.drop().await;
    });
}

async fn open(url: &str) -> AuditStore {
    let store = AuditStore::connect(url).await.unwrap();
    store.initialize().await.unwrap();
    store
}

/// The same history on both backends.
struct Both {
    sqlite: AuditStore,
    postgres: AuditStore,
    urls: [String; 2],
}

impl Both {
    /// Asks both the same; the answers are the same, too.
    async fn ask<T: PartialEq + std::fmt::Debug>(
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
