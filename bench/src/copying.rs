//! Copies from SQLite to PostgreSQL and back, compared with the databases' own tools.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use runtrail_audit::Storage;
use runtrail_store::AuditStore;

use crate::child::{Child, Outcome};
use crate::data::{self, History};
use crate::report::{Comparison, Unit};
use crate::rounds::{Baseline, compare, turn};
use crate::{Comparisons, Setup, postgres_by_hand, step};

const NAME: &str = "copy";
const LIMIT: f64 = 200.0;
/// A round takes a minute.
const MAX_ROUNDS: usize = 3;

// The scripts write into existing tables, in transactions, and stop at the first error.
const DUMP: &str = concat!(
    r#"sqlite3 "$FROM" '.dump --data-only skill_runs skill_run_logs' |"#,
    r#" grep '^INSERT' |
    psql --quiet --single-transaction --set ON_ERROR_STOP=1 "$TO""#,
);
const CSV: &str = r#"for table in skill_runs skill_run_logs; do
    sqlite3 -csv "$FROM" "SELECT * FROM $table" |
    psql --quiet "$TO" --command "COPY $table FROM STDIN (FORMAT csv)"; done"#;
const PG_DUMP: &str = r#"{ echo 'PRAGMA foreign_keys = ON; BEGIN;';
    pg_dump --data-only --inserts --table=skill_runs --table=skill_run_logs "$FROM" |
    sed -n 's/^INSERT INTO [a-z_]*[.]/INSERT INTO /p'; echo 'COMMIT;'; } | sqlite3 -bail "$TO""#;

pub(crate) async fn measure(setup: &Setup) -> Result<Comparisons> {
    if !setup.may_be_selected(NAME) {
        return Ok(Vec::new());
    }
    let (source, returned) = (setup.file("copied.db"), setup.file("returned.db"));
    let outward = Route {
        from: &data::sqlite_url(&source),
        to: &setup.postgres,
        history: setup.written,
    };
    let back = Route {
        from: &setup.postgres,
        to: &data::sqlite_url(&returned),
        history: setup.written,
    };
    let fill = data::fill_sqlite(&source, setup.written, &setup.payloads);
    step("a history to copy", fill).await?;

    let rounds = setup.rounds.min(MAX_ROUNDS);
    let mut comparisons = Vec::new();
    let workload = format!("{NAME}, SQLite to PostgreSQL");
    let copied = compare(
        rounds,
        &workload,
        turn(|| outward.by_runtrail()),
        vec![
            Baseline::new(
                "sqlite3 .dump, psql",
                None,
                turn(|| outward.by_script(DUMP)),
            ),
            Baseline::new(
                "sqlite3 -csv, psql COPY",
                None,
                turn(|| outward.by_script(CSV)),
            ),
        ],
    );
    comparisons.extend(step(&workload, copied).await?);

    // The target still contains the rows that the last script wrote.
    outward.clear().await?;
    let first = outward.copy(false)?;
    let again = outward.copy(false)?;
    let last = outward.copy(true)?;
    for (name, outcome) in [("again", &again), ("again and verified", &last)] {
        comparisons.push(Comparison::of_rates(
            format!("{NAME}, {name}, with nothing new"),
            outward.rate(outcome.seconds),
            "the first time",
            outward.rate(first.seconds),
        ));
    }

    let workload = format!("{NAME}, PostgreSQL to SQLite");
    let copied = compare(
        rounds,
        &workload,
        turn(|| back.by_runtrail()),
        vec![Baseline::new(
            "pg_dump --inserts, sqlite3",
            None,
            turn(|| back.by_script(PG_DUMP)),
        )],
    );
    comparisons.extend(step(&workload, copied).await?);

    back.clear().await?;
    let returned_copy = back.copy(false)?;
    let round_trip = Route {
        to: back.to,
        ..outward
    };
    let round_trip = round_trip.copy(true)?;
    let digests = [&last.digests, &round_trip.digests];
    let [Some((source, target)), Some((source_again, returned))] = digests else {
        bail!("nothing was verified");
    };
    ensure!(
        source == target && source == source_again && source == returned,
        "the digests differ"
    );
    eprintln!("copied there and back: all digests are {source}");
    let memory = [&first, &again, &last, &returned_copy, &round_trip].map(|it| it.mebibytes);
    let memory = memory.into_iter().fold(0.0, f64::max);
    comparisons.push(Comparison::with_limit(
        format!("{NAME}, memory"),
        Unit::Mebibytes,
        memory,
        "a limit",
        LIMIT,
    ));
    Ok(comparisons)
}

/// The source and target of a copy.
#[derive(Clone, Copy)]
struct Route<'a> {
    from: &'a str,
    to: &'a str,
    history: History,
}

impl Route<'_> {
    /// Copies with Runtrail; returns rows per second.
    async fn by_runtrail(&self) -> Result<f64> {
        self.clear().await?;
        Ok(self.rate(self.copy(false)?.seconds))
    }

    fn copy(&self, verifies: bool) -> Result<Outcome> {
        let child = Child::Copy {
            from: self.from.to_owned(),
            to: self.to.to_owned(),
            verifies,
        };
        child.measure()
    }

    /// Copies with a script into existing tables, with their indexes and constraints; returns rows
    /// per second.
    async fn by_script(&self, script: &str) -> Result<f64> {
        self.clear().await?;
        let begun = Instant::now();
        let status = Command::new("bash")
            .args(["-c", &format!("set -o pipefail; {script}")])
            .env("FROM", file_or_url(self.from))
            .env("TO", file_or_url(self.to))
            .status()?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(status.success(), "{script} failed");
        // A tool that ignores errors must not look fast.
        let rows = self.rows_copied().await?;
        ensure!(rows == self.rows(), "{rows} rows were copied");
        Ok(self.rate(seconds))
    }

    fn rate(&self, seconds: f64) -> f64 {
        self.rows() as f64 / seconds
    }

    fn rows(&self) -> i64 {
        (self.history.runs * (1 + self.history.events)) as i64
    }

    async fn rows_copied(&self) -> Result<i64> {
        const COUNT: &str =
            "SELECT (SELECT count(*) FROM skill_runs) + (SELECT count(*) FROM skill_run_logs)";

        if self.to.starts_with("sqlite:") {
            let db = rusqlite::Connection::open(file_or_url(self.to))?;
            return Ok(db.query_row(COUNT, [], |row| row.get(0))?);
        }
        let client = postgres_by_hand::connect(self.to).await?;
        Ok(client.query_one(COUNT, &[]).await?.get(0))
    }

    /// Creates an empty target with Runtrail's schema.
    async fn clear(&self) -> Result<()> {
        let is_sqlite = self.to.starts_with("sqlite:");
        if is_sqlite && Path::new(file_or_url(self.to)).exists() {
            // Closing the database has already removed the write-ahead log.
            fs::remove_file(file_or_url(self.to))?;
        }
        let store = AuditStore::connect(self.to).await?;
        store.initialize().await?;
        store.close().await?;
        if !is_sqlite {
            let client = postgres_by_hand::connect(self.to).await?;
            client.batch_execute("TRUNCATE skill_runs CASCADE").await?;
            client.batch_execute("CHECKPOINT").await?;
        }
        Ok(())
    }
}

/// Converts a URL to the form that the databases' own tools accept.
fn file_or_url(url: &str) -> &str {
    let file = url.strip_prefix("sqlite://").unwrap_or(url);
    file.split_once("?mode").map_or(file, |(file, _)| file)
}
