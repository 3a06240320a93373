use std::env;
use std::path::Path;

use clap::Args;
use runtrail_migration::command::{self, Command};
use runtrail_store::audit::{Limits, Storage};
use runtrail_store::{AuditStore, ConnectOptions, SchemaName};
use sea_orm::DbBackend;

use crate::failure::{Failure, Result};

/// What `exec` tells the program it runs, so that `runtrail` in there uses the same history, wherever it stands.
pub(crate) const INHERITED_URL: &str = "RUNTRAIL_DATABASE_URL";

#[derive(Args)]
pub(crate) struct DatabaseArguments {
    /// The database [default: $DATABASE_URL, else sqlite://runtrail.db?mode=rwc; in a recorded program, the one
    /// that records it].
    ///
    /// A SQLite file is created and migrated when it is first used. A PostgreSQL database is migrated by
    /// `runtrail migrate` only.
    #[arg(
        short = 'u',
        long,
        value_name = "URL",
        global = true,
        help_heading = "Database"
    )]
    database_url: Option<String>,

    /// The PostgreSQL schema; by default the one that the connection's own queries use.
    #[arg(
        short = 's',
        long,
        value_name = "SCHEMA",
        global = true,
        env = "DATABASE_SCHEMA",
        help_heading = "Database"
    )]
    pub(crate) database_schema: Option<SchemaName>,
}

impl DatabaseArguments {
    /// The history, fit for use.
    pub(crate) async fn open(&self) -> Result<AuditStore> {
        let options = ConnectOptions::new(self.url());
        let described = options.to_string();
        let is_embedded = options
            .backend()
            .is_ok_and(|kind| kind == DbBackend::Sqlite);
        let opened = async {
            // What was stored by a host with larger limits has to be exported and imported too.
            let limits = Limits::new(Limits::MAX_VALUE_BYTES)?;
            let mut store = AuditStore::connect(options).await?.with_limits(limits);
            if let Some(schema) = &self.database_schema {
                store = store.in_schema(schema.clone());
            }
            if is_embedded {
                store.initialize().await?;
            }
            Ok(store)
        };
        opened.await.map_err(|source| Failure::Opening {
            database: described,
            source,
        })
    }

    pub(crate) async fn migrate(&self, command: Command) -> Result<()> {
        let options = ConnectOptions::new(self.url());
        command::run(command, options, self.database_schema.clone())
            .await
            .map_err(Failure::from_boxed)
    }

    fn url(&self) -> String {
        let from_environment = |name| env::var(name).ok().filter(|url| !url.is_empty());
        let url = self
            .database_url
            .clone()
            .or_else(|| from_environment(INHERITED_URL))
            .or_else(|| from_environment("DATABASE_URL"))
            .unwrap_or_else(|| command::DEFAULT_URL.to_owned());
        match SqliteUrl::parse(&url) {
            Some(sqlite) => sqlite.created_on_first_use(),
            None => url,
        }
    }

    /// The same database, from whatever folder it is asked for.
    pub(crate) fn absolute_url(&self) -> String {
        let url = self.url();
        match (SqliteUrl::parse(&url), env::current_dir()) {
            (Some(sqlite), Ok(folder)) => sqlite.absolute(&folder),
            _ => url,
        }
    }
}

/// The URL of a SQLite file.
struct SqliteUrl<'a> {
    path: &'a str,
    parameters: &'a str,
}

impl<'a> SqliteUrl<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("sqlite:")?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let is_file = !path.is_empty() && path != ":memory:";
        is_file.then_some(Self { path, parameters })
    }

    fn created_on_first_use(&self) -> String {
        let Self { path, parameters } = self;
        let has_mode = parameters
            .split('&')
            .any(|parameter| parameter.starts_with("mode="));
        match (has_mode, parameters.is_empty()) {
            (true, _) => format!("sqlite://{path}?{parameters}"),
            (false, true) => format!("sqlite://{path}?mode=rwc"),
            (false, false) => format!("sqlite://{path}?{parameters}&mode=rwc"),
        }
    }

    fn absolute(&self, folder: &Path) -> String {
        let Self { path, parameters } = self;
        if path.starts_with('/') {
            return format!("sqlite://{path}?{parameters}");
        }
        // What is a path here is part of a URL there.
        let folder = folder
            .to_string_lossy()
            .replace('%', "%25")
            .replace('?', "%3F")
            .replace('#', "%23");
        format!("sqlite://{folder}/{path}?{parameters}")
    }
}
