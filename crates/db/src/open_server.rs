//! Connecting to a PostgreSQL server.

use std::pin::pin;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::{ConnectOptions as PoolOptions, Database, DatabaseConnection, DbErr, RuntimeErr};
use tokio::time::timeout;

use crate::database_url::DatabaseUrl;
use crate::{ConnectError, DatabaseOptions, Result};

impl DatabaseOptions {
    pub(crate) async fn open_server(&self, mut options: PoolOptions) -> Result<DatabaseConnection> {
        /// A server with a free connection accepts a client within this time.
        const CONNECT_TIME: Duration = Duration::from_millis(500);

        let DatabaseUrl::Postgres(url) = &self.url else {
            return Err(ConnectError::InvalidUrl {
                reason: "has to begin with postgres:",
            });
        };
        let driver = self.with_statement_log(url.options()?);
        let pool_driver = driver.clone();
        options.map_sqlx_postgres_opts(move |_| pool_driver.clone());
        let mut connecting = pin!(Database::connect(options));
        if let Ok(opened) = timeout(CONNECT_TIME, &mut connecting).await {
            return Ok(opened?);
        }

        // A pool whose connection is refused retries until its timeout, and then reports only the
        // timeout. A separate connection gets the server's reason.
        let refusal = tokio::select! {
            opened = &mut connecting => return Ok(opened?),
            probed = driver.connect() => match probed {
                Ok(probe) => {
                    drop(probe);
                    return Ok(connecting.await?);
                }
                Err(refusal) => refusal,
            },
        };
        // The separate connection is also refused if the pool has the only one that the role
        // allows.
        match timeout(CONNECT_TIME, connecting).await {
            Ok(Ok(opened)) => Ok(opened),
            _ => Err(DbErr::Conn(RuntimeErr::SqlxError(refusal.into())).into()),
        }
    }
}
