use std::env;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use runtrail::{AuditStore, DatabaseOptions, Error, Limits, SchemaName, Storage};
use runtrail_migration::command::{self, Command};

use crate::database_environment::{
    self, DatabaseEnvironment, URL, WITHOUT_PREPARED_STATEMENTS, variable,
};
use crate::failure::{Failure, Result};

const SCHEMA: &str = "DATABASE_SCHEMA";

#[derive(Args, Clone)]
pub(crate) struct DatabaseArguments {
    /// The database [default: $DATABASE_URL, else sqlite://runtrail.db?mode=rwc].
    ///
    /// Inside a recorded program, the default is the database that records it, unless the program
    /// changes DATABASE_URL.
    ///
    /// `exec`, `serve`, `import`, `migrate up` and `copy --to` create and migrate a SQLite file. Every other
    /// command needs an existing one. Only `migrate up` and `copy --to` migrate a PostgreSQL
    /// database.
    #[arg(
        short = 'u',
        long,
        value_name = "URL",
        global = true,
        help_heading = "Database"
    )]
    database_url: Option<String>,

    /// The PostgreSQL schema [default: $DATABASE_SCHEMA, else the first one in search_path].
    #[arg(
        short = 's',
        long,
        value_name = "SCHEMA",
        global = true,
        help_heading = "Database"
    )]
    database_schema: Option<SchemaName>,

    /// Don't use prepared statements on PostgreSQL; for poolers that don't support them.
    #[arg(
        long,
        global = true,
        env = WITHOUT_PREPARED_STATEMENTS,
        value_parser = FalseyValueParser::new(),
        help_heading = "Database"
    )]
    without_prepared_statements: bool,

    /// The SQLite stores that the command has opened, and closes at its end.
    #[arg(skip)]
    opened: Arc<Mutex<Vec<AuditStore>>>,
}

/// How a command uses the history.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Reads an existing history.
    Read,
    /// Writes to an existing history.
    Change,
    /// Creates and migrates a SQLite file.
    Create,
}

impl DatabaseArguments {
    /// Opens the history for reading. Creates, migrates and writes nothing.
    pub(crate) async fn open_to_read(&self) -> Result<AuditStore> {
        self.open_for(Use::Read).await
    }

    /// Opens an existing history for writing.
    pub(crate) async fn open_existing(&self) -> Result<AuditStore> {
        self.open_for(Use::Change).await
    }

    /// Opens the history for recording. Creates and migrates a SQLite file.
    pub(crate) async fn open(&self) -> Result<AuditStore> {
        self.open_for(Use::Create).await
    }

    /// Opens the history for many concurrent writers. Creates and migrates a SQLite file.
    pub(crate) async fn open_shared(&self) -> Result<AuditStore> {
        self.open_with(Use::Create, |options| options).await
    }

    async fn open_for(&self, usage: Use) -> Result<AuditStore> {
        // A command needs only one connection, and some roles may have only one.
        self.open_with(usage, |options| options.max_connections(1))
            .await
    }

    async fn open_with(
        &self,
        usage: Use,
        adapt: impl FnOnce(DatabaseOptions) -> DatabaseOptions,
    ) -> Result<AuditStore> {
        self.ensure_known()?;
        let (url, schema) = (self.url(), self.schema()?);
        let options = adapt(DatabaseOptions::new(&url));
        let is_embedded = options.is_sqlite();
        if usage == Use::Create && options.is_in_memory() {
            let message = "an in-memory database is lost when the command ends; name a file";
            return Err(Failure::usage(message));
        }
        let options = match usage {
            Use::Read => options.read_only(),
            Use::Change => options.existing_only(),
            Use::Create => options,
        };
        let opened = async {
            // A host with larger limits may have stored larger values, which must be exported and
            // imported too.
            let limits = Limits::new(Limits::MAX_VALUE_BYTES)?;
            let store = self.adapted(connect(options, schema).await?.with_limits(limits));
            if is_embedded {
                // Set before the schema check, so that the store is closed even if the check fails.
                self.opened().push(store.clone());
            }
            match usage {
                Use::Create if is_embedded => store.initialize().await?,
                Use::Read | Use::Change | Use::Create => store.verify_schema().await?,
            }
            Ok(store)
        };
        opened.await.map_err(|err| opening(&url, err))
    }

    /// Returns the failure for this database when it can't be used.
    pub(crate) fn opening(&self, source: Error) -> Failure {
        opening(&self.url(), source)
    }

    /// Applies `--without-prepared-statements` to a store.
    pub(crate) fn adapted(&self, store: AuditStore) -> AuditStore {
        match self.without_prepared_statements {
            true => store.without_prepared_statements(),
            false => store,
        }
    }

    /// Closes the SQLite file that the command has used, which removes its `-wal` and `-shm` files.
    ///
    /// No acknowledged write depends on that, so the wait is bounded.
    pub(crate) async fn close(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);

        let opened = mem::take(&mut *self.opened());
        for store in opened {
            let _ = tokio::time::timeout(PATIENCE, store.close()).await;
        }
    }

    fn opened(&self) -> MutexGuard<'_, Vec<AuditStore>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn migrate(&self, command: Command) -> Result<()> {
        self.ensure_known()?;
        let options = DatabaseOptions::new(self.url());
        command::run(command, options, self.schema()?)
            .await
            .map_err(Failure::from_boxed)
    }

    /// Returns the path of the SQLite file, if the database is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let options = DatabaseOptions::new(self.url());
        options.sqlite_file().map(Path::to_owned)
    }

    /// Whether the command line names the database or the schema.
    pub(crate) fn is_given(&self) -> bool {
        self.database_url.is_some() || self.database_schema.is_some()
    }

    /// Fails if the inherited database is unknown, so that no other database is used instead.
    fn ensure_known(&self) -> Result<()> {
        match self.database_url {
            Some(_) => Ok(()),
            None => database_environment::ensure_known(),
        }
    }

    fn schema(&self) -> Result<Option<SchemaName>> {
        if self.database_schema.is_some() {
            return Ok(self.database_schema.clone());
        }
        // An inherited schema applies only to the inherited database.
        let inherited = match self.database_url {
            Some(_) => None,
            None => database_environment::schema(),
        };
        let schema = inherited.or_else(|| variable(SCHEMA));
        let parsed = schema.map(SchemaName::new).transpose();
        parsed.map_err(|err| Failure::usage(format!("{SCHEMA}: {err}")))
    }

    fn url(&self) -> String {
        let given = self.database_url.clone();
        let url = given
            .or_else(database_environment::url)
            .or_else(|| variable(URL))
            .unwrap_or_else(|| command::DEFAULT_URL.to_owned());
        created_on_first_use(&url)
    }

    /// Returns the environment that makes a nested `runtrail` use the same database.
    pub(crate) fn environment(&self) -> Result<DatabaseEnvironment> {
        let mut url = self.url();
        if let (Some(sqlite), Ok(folder)) = (SqliteUrl::parse(&url), env::current_dir()) {
            url = sqlite.absolute(&folder);
        }
        DatabaseEnvironment::new(&url, self.schema()?, self.without_prepared_statements)
    }
}

/// Returns a URL that creates a missing SQLite file; any other URL is returned unchanged.
pub(crate) fn created_on_first_use(url: &str) -> String {
    match SqliteUrl::parse(url) {
        Some(sqlite) => sqlite.created_on_first_use(),
        None => url.to_owned(),
    }
}

/// Connects to a database, and selects the schema.
pub(crate) async fn connect(
    options: impl Into<DatabaseOptions>,
    schema: Option<SchemaName>,
) -> Result<AuditStore, Error> {
    let store = AuditStore::connect(options).await?;
    Ok(match schema {
        Some(schema) => store.in_schema(schema),
        None => store,
    })
}

/// Returns the failure for a database that can't be used. Its message leaves out the password.
pub(crate) fn opening(url: &str, source: Error) -> Failure {
    Failure::Opening {
        database: DatabaseOptions::new(url).to_string(),
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
        let (scheme, rest) = url.split_once(':')?;
        if !scheme.eq_ignore_ascii_case("sqlite") {
            return None;
        }
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
        // Escape the characters of the path that have a meaning in a URL.
        let folder = folder
            .to_string_lossy()
            .replace('%', "%25")
            .replace('?', "%3F")
            .replace('#', "%23");
        format!("sqlite://{folder}/{path}?{parameters}")
    }
}
