use std::env;
use std::path::Path;

use clap::Args;
use runtrail_migration::command::{self, Command};
use runtrail_store::audit::{Error, Limits, Storage};
use runtrail_store::{AuditStore, ConnectOptions, SchemaName};
use sea_orm::DbBackend;

use crate::failure::{Failure, Result};
use crate::handed_down::{self, HandedDown, variable};

pub(crate) const URL: &str = "DATABASE_URL";
const SCHEMA: &str = "DATABASE_SCHEMA";

#[derive(Args, Clone)]
pub(crate) struct DatabaseArguments {
    /// The database [default: $DATABASE_URL, else sqlite://runtrail.db?mode=rwc].
    ///
    /// Within a program that is recorded, the default is the database that records it, unless DATABASE_URL has been
    /// changed in there.
    /// A SQLite file is created and migrated when it is first used. A PostgreSQL database is migrated by
    /// `runtrail migrate`, and by `runtrail copy --to`.
    #[arg(
        short = 'u',
        long,
        value_name = "URL",
        global = true,
        help_heading = "Database"
    )]
    database_url: Option<String>,

    /// The PostgreSQL schema [default: $DATABASE_SCHEMA, else the first one of the search_path].
    #[arg(
        short = 's',
        long,
        value_name = "SCHEMA",
        global = true,
        help_heading = "Database"
    )]
    database_schema: Option<SchemaName>,
}

impl DatabaseArguments {
    /// The history, fit for use.
    pub(crate) async fn open(&self) -> Result<AuditStore> {
        self.ensure_known()?;
        let (url, schema) = (self.url(), self.schema()?);
        let is_embedded = ConnectOptions::new(&url)
            .backend()
            .is_ok_and(|kind| kind == DbBackend::Sqlite);
        let opened = async {
            // What was stored by a host with larger limits has to be exported and imported too.
            let limits = Limits::new(Limits::MAX_VALUE_BYTES)?;
            let store = connect(&url, schema).await?.with_limits(limits);
            if is_embedded {
                store.initialize().await?;
            } else {
                store.verify_schema().await?;
            }
            Ok(store)
        };
        opened.await.map_err(|err| opening(&url, err))
    }

    /// It can't be used.
    pub(crate) fn opening(&self, source: Error) -> Failure {
        opening(&self.url(), source)
    }

    pub(crate) async fn migrate(&self, command: Command) -> Result<()> {
        self.ensure_known()?;
        let options = ConnectOptions::new(self.url());
        command::run(command, options, self.schema()?)
            .await
            .map_err(Failure::from_boxed)
    }

    /// Whether the command line names it.
    pub(crate) fn is_given(&self) -> bool {
        self.database_url.is_some() || self.database_schema.is_some()
    }

    /// No other database is used instead of one that was handed down in a file that has gone.
    fn ensure_known(&self) -> Result<()> {
        match self.database_url {
            Some(_) => Ok(()),
            None => handed_down::ensure_known(),
        }
    }

    fn schema(&self) -> Result<Option<SchemaName>> {
        if self.database_schema.is_some() {
            return Ok(self.database_schema.clone());
        }
        // A schema goes with its database.
        let inherited = match self.database_url {
            Some(_) => None,
            None => handed_down::schema(),
        };
        let schema = inherited.or_else(|| variable(SCHEMA));
        let parsed = schema.map(SchemaName::new).transpose();
        parsed.map_err(|err| Failure::usage(format!("{SCHEMA}: {err}")))
    }

    fn url(&self) -> String {
        let given = self.database_url.clone();
        let url = given
            .or_else(handed_down::url)
            .or_else(|| variable(URL))
            .unwrap_or_else(|| command::DEFAULT_URL.to_owned());
        created_on_first_use(&url)
    }

    /// What a program has to find in its environment, so that `runtrail` in there uses the same database.
    pub(crate) fn hand_down(&self) -> Result<HandedDown> {
        let mut url = self.url();
        if let (Some(sqlite), Ok(folder)) = (SqliteUrl::parse(&url), env::current_dir()) {
            url = sqlite.absolute(&folder);
        }
        HandedDown::new(&url, self.schema()?)
    }
}

/// The same database, which is created if it is a SQLite file that isn't there.
pub(crate) fn created_on_first_use(url: &str) -> String {
    match SqliteUrl::parse(url) {
        Some(sqlite) => sqlite.created_on_first_use(),
        None => url.to_owned(),
    }
}

/// A store on this database, and in this schema.
pub(crate) async fn connect(url: &str, schema: Option<SchemaName>) -> Result<AuditStore, Error> {
    let store = AuditStore::connect(url).await?;
    Ok(match schema {
        Some(schema) => store.in_schema(schema),
        None => store,
    })
}

/// Where a database is, however its URL is written: the file of SQLite's.
pub(crate) fn place(url: &str) -> String {
    let file = SqliteUrl::parse(url).and_then(|sqlite| Path::new(sqlite.path).canonicalize().ok());
    file.map_or_else(
        || url.to_owned(),
        |file| file.to_string_lossy().into_owned(),
    )
}

/// A database can't be used; its password isn't told.
pub(crate) fn opening(url: &str, source: Error) -> Failure {
    Failure::Opening {
        database: ConnectOptions::new(url).to_string(),
        source,
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
