use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::DateTime;
use runtrail_audit::{Error, RunLabels, RunStatus, SkillRun, Storage};
use runtrail_copy::{CopySummary, Difference, DifferenceKind, HistoryCopy, LegacyStore, RowKey};
use serde_json::json;
use tempfile::TempDir;

use super::{difference, event_key, run_copy, run_key};
use crate::fixture::*;

const RUNS: &str = "id TEXT, skill_id TEXT, caller_id TEXT, channel_id TEXT, parent_run_id TEXT, \
     inputs TEXT, started_at INTEGER, finished_at INTEGER, status TEXT, output TEXT, error TEXT, \
     tool_calls INTEGER, runtime_seconds REAL, total_input_tokens INTEGER, \
     total_output_tokens INTEGER, total_thinking_tokens INTEGER";
const EVENTS: &str = "run_id TEXT, seq INTEGER, event_type TEXT, payload TEXT, created_at INTEGER";

/// A database with the tables of the legacy store, written by `sqlite3`.
struct Legacy {
    folder: TempDir,
}

impl Legacy {
    /// Creates the tables without keys or constraints, so that they accept any row.
    fn new() -> Self {
        Self::with_tables(&format!(
            "CREATE TABLE skill_runs ({RUNS}); CREATE TABLE skill_run_logs ({EVENTS});"
        ))
    }

    fn with_tables(tables: &str) -> Self {
        let legacy = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        legacy.sql(tables);
        legacy
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("old.db")
    }

    fn url(&self) -> String {
        format!("legacy+sqlite://{}", self.file().display())
    }

    fn sql(&self, sql: &str) {
        sqlite3(&self.file(), sql);
    }

    /// Inserts a run, then updates it with the assignments in `changes`.
    fn run(&self, id: &str, changes: &str) {
        self.sql(&format!(
            "INSERT INTO skill_runs VALUES ({id}, 'skill', 'caller', 'channel', '', '{{}}', \
             1700000000, 0, 'running', '', '', 0, 0, 0, 0, 0); \
             UPDATE skill_runs SET {changes} WHERE rowid = last_insert_rowid();"
        ));
    }

    fn event(&self, run_id: &str, seq: &str, payload: &str) {
        self.sql(&format!(
            "INSERT INTO skill_run_logs VALUES ({run_id}, {seq}, 'message', {payload}, 1700000001)"
        ));
    }

    async fn copied_to(&self, database: &TestDatabase) -> (CopySummary, Vec<Difference>) {
        let source = LegacyStore::connect(&self.url()).await.unwrap();
        run_copy(HistoryCopy::new(source, database.store().await).last()).await
    }
}

fn sqlite3(file: &Path, sql: &str) {
    let mut command = Command::new("sqlite3");
    command.arg("-bail").arg(file);
    let mut sqlite3 = Spawned::new(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    sqlite3.write(sql);
    sqlite3.close_stdin();
    sqlite3.wait_for_success();
}

fn adapted(row: RowKey, reason: &str) -> Difference {
    difference(row, DifferenceKind::Adapted(reason.into()))
}

on_each_backend! {
    async fn times_parents_and_texts_are_preserved(database) {
        let legacy = Legacy::new();
        legacy.run("'top'", "inputs = '{ \"x\": 1.0, \"y\": [] }', finished_at = 1700000010, \
            status = 'ok', output = 'out', error = 'err', tool_calls = 3, runtime_seconds = 1.5, \
            total_input_tokens = 4, total_output_tokens = 5, total_thinking_tokens = 6");
        legacy.run(
            "'child'",
            "parent_run_id = 'top', caller_id = NULL, output = NULL, runtime_seconds = 2",
        );
        legacy.event("'top'", "0", "'{\"b\":1,  \"a\":12345678901234567890123}'");
        legacy.event("'top'", "1", "'\"text\"'");
        let (summary, differences) = legacy.copied_to(database).await;
        assert!(summary.is_complete(), "{differences:?}");
        assert_eq!(differences, []);

        let store = database.store().await;
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let expected = with(SkillRun::new("top", "skill", at(1_700_000_000)), |run| {
            run.caller_id = "caller".into();
            run.channel_id = "channel".into();
            run.inputs = object(json!({"x": 1.0, "y": []}));
            run.finished_at = Some(at(1_700_000_010));
            run.status = RunStatus::OK;
            run.output = "out".into();
            run.error = "err".into();
            run.tool_calls = 3;
            run.runtime_seconds = 1.5;
            run.total_input_tokens = 4;
            run.total_output_tokens = 5;
            run.total_thinking_tokens = 6;
        });
        assert_eq!(store.get_run("top").await.unwrap(), expected);
        let child = store.get_run("child").await.unwrap();
        assert_eq!(child.parent_run_id.as_deref(), Some("top"));
        assert!(child.is_running() && child.caller_id.is_empty() && child.output.is_empty());
        assert_eq!(child.runtime_seconds, 2.0);
        let events = store.list_logs_by_run("top").await.unwrap();
        assert_eq!(events[1].payload, json!("text"));
        assert_eq!(events[1].created_at, Some(at(1_700_000_001)));

        // JSON is copied to the byte, even numbers that no program can represent.
        let db = database.connection().await;
        assert_eq!(
            fetch::<String>(&db, "SELECT inputs FROM skill_runs WHERE id = 'top'").await,
            ["{ \"x\": 1.0, \"y\": [] }"]
        );
        let payload =
            fetch::<String>(&db, "SELECT payload FROM skill_run_logs WHERE sequence = 0").await;
        assert_eq!(payload, ["{\"b\":1,  \"a\":12345678901234567890123}"]);
    }

    async fn text_that_is_not_json_is_preserved_and_reported(database) {
        let legacy = Legacy::new();
        let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
        for (id, inputs) in [
            ("a", ""),
            ("b", "{\"x\":"),
            ("c", "[1]"),
            ("d", "null"),
            ("e", "{\"deep\":1e999}"),
        ] {
            legacy.run(&format!("'{id}'"), &format!("inputs = '{inputs}'"));
        }
        legacy.run("'f'", "inputs = NULL");
        for (seq, payload) in ["", "{\"x\":", "\"\\ud800\"", &deep, "1 2", "1e999"]
            .iter()
            .enumerate()
        {
            legacy.event("'a'", &seq.to_string(), &format!("'{payload}'"));
        }
        legacy.event("'a'", "6", "NULL");
        let (summary, differences) = legacy.copied_to(database).await;
        assert!(summary.is_complete(), "{differences:?}");
        let of_run = |id, reason| adapted(run_key(id), reason);
        let mut expected = vec![
            of_run(
                "a",
                "inputs was empty; stored in the member \"legacy_inputs\"",
            ),
            of_run(
                "b",
                "inputs was not usable JSON; stored in the member \"legacy_inputs\"",
            ),
            of_run(
                "c",
                "inputs was not a JSON object; stored in the member \"legacy_inputs\"",
            ),
            of_run("d", "inputs was null; stored as an empty object"),
            of_run(
                "e",
                "inputs was not usable JSON; stored in the member \"legacy_inputs\"",
            ),
        ];
        expected.push(adapted(
            event_key("a", 0),
            "payload was empty; stored as a JSON string",
        ));
        expected.extend((1..6).map(|seq| {
            adapted(
                event_key("a", seq),
                "payload was not usable JSON; stored as a JSON string",
            )
        }));
        assert_eq!(differences, expected);
        assert_eq!(
            (summary.copied.runs.adapted, summary.copied.events.adapted),
            (5, 6)
        );

        let store = database.store().await;
        for (id, inputs) in [
            ("a", json!({"legacy_inputs": ""})),
            ("b", json!({"legacy_inputs": "{\"x\":"})),
            ("c", json!({"legacy_inputs": "[1]"})),
            ("d", json!({})),
            ("e", json!({"legacy_inputs": "{\"deep\":1e999}"})),
            ("f", json!({})),
        ] {
            assert_eq!(store.get_run(id).await.unwrap().inputs, object(inputs));
        }
        let events = store.list_logs_by_run("a").await.unwrap();
        let payloads: Vec<_> = events.into_iter().map(|event| event.payload).collect();
        assert_eq!(
            json!(payloads),
            json!(["", "{\"x\":", "\"\\ud800\"", deep, "1 2", "1e999", null])
        );
    }

    async fn an_event_without_a_run_is_reported_and_is_not_a_failure(database) {
        let legacy = Legacy::new();
        legacy.run("'run'", "status = 'ok'");
        for id in ["'gone'", "'run'", "'run too'", "'zzz'"] {
            legacy.event(id, "1", "'1'");
        }
        let (summary, differences) = legacy.copied_to(database).await;
        assert!(summary.is_complete(), "{differences:?}");
        let orphans = ["gone", "run too", "zzz"]
            .map(|id| difference(event_key(id, 1), DifferenceKind::Orphan));
        assert_eq!(differences, orphans);
        assert_eq!(
            (summary.copied.events.copied, summary.copied.events.orphans),
            (1, 3)
        );
        let verified = summary.verified.unwrap();
        assert_eq!(verified.source, verified.target);
    }

    async fn rows_with_values_of_any_type_in_any_column_are_copied(database) {
        let legacy = Legacy::new();
        legacy.run("'a'", "skill_id = CAST(x'ff41' AS TEXT), caller_id = x'42', \
            channel_id = 'x' || char(0), output = 'y' || char(0), started_at = 'soon', \
            finished_at = 9e300, tool_calls = -1, runtime_seconds = -2, \
            total_input_tokens = 'many', total_output_tokens = 2.5, total_thinking_tokens = x'00'");
        legacy.run(
            "'b'",
            "runtime_seconds = 9e999, started_at = 1.25, status = NULL, skill_id = NULL",
        );
        legacy.event("'a'", "1", "x'7b7d'");
        legacy.event("'a'", "2", "CAST(x'22ff22' AS TEXT)");
        let (summary, differences) = legacy.copied_to(database).await;
        assert!(summary.is_complete(), "{differences:?}");
        assert_eq!(
            (summary.copied.runs.adapted, summary.copied.events.adapted),
            (2, 2)
        );
        let reasons: Vec<String> = differences.iter().map(ToString::to_string).collect();
        for reason in [
            "run \"a\" was adapted: total_input_tokens was 'many'; stored as 0",
            "run \"a\" was adapted: tool_calls was -1; stored as 0",
            "run \"a\" was adapted: started_at was 'soon', which is not a time",
            "run \"a\" was adapted: started_at has no usable time; stored as 1970-01-01",
            "run \"a\" was adapted: caller_id was bytes; stored as text",
            "run \"a\" was adapted: output had NUL characters; stored as U+FFFD",
            "run \"a\" was adapted: skill_id was not UTF-8 (invalid bytes became U+FFFD); stored \
            as text",
            "event 2 of run \"a\" was adapted: payload was not UTF-8 (invalid bytes became \
            U+FFFD); stored as text",
        ] {
            assert!(
                reasons.iter().any(|found| found == reason),
                "{reason}: {reasons:#?}"
            );
        }
        let store = database.store().await;
        let a = store.get_run("a").await.unwrap();
        assert_eq!(
            (
                a.skill_id.as_str(),
                a.caller_id.as_str(),
                a.channel_id.as_str()
            ),
            ("\u{fffd}A", "B", "x\u{fffd}")
        );
        assert_eq!(
            (
                a.tool_calls,
                a.total_input_tokens,
                a.total_output_tokens,
                a.runtime_seconds
            ),
            (0, 0, 2, 0.0)
        );
        let b = store.get_run("b").await.unwrap();
        assert_eq!(
            b.started_at,
            DateTime::from_timestamp_millis(1_250).unwrap()
        );
        assert_eq!(
            (b.skill_id.as_str(), b.status.as_str(), b.runtime_seconds),
            ("", "", 0.0)
        );
        let events = store.list_logs_by_run("a").await.unwrap();
        assert_eq!(
            (&events[0].payload, &events[1].payload),
            (&json!({}), &json!("\u{fffd}"))
        );
    }

    async fn rows_that_cannot_be_converted_are_refused_and_the_others_copied(database) {
        let legacy = Legacy::new();
        for id in [
            "'a'",
            "''",
            "NULL",
            "x'62'",
            "CAST(x'62ff' AS TEXT)",
            "'c'",
            "'c'",
            "'d'",
        ] {
            legacy.run(id, "status = 'ok'");
        }
        legacy.sql(&format!(
            "UPDATE skill_runs SET skill_id = '{}' WHERE id = 'd'",
            "x".repeat(256)
        ));
        for (run_id, seq) in [
            ("'a'", "1"),
            ("'a'", "'x'"),
            ("NULL", "1"),
            ("'a'", "-1"),
            ("'a'", "1"),
            ("'d'", "1"),
        ] {
            legacy.event(run_id, seq, "'1'");
        }
        let (summary, differences) = legacy.copied_to(database).await;
        assert!(!summary.is_complete());
        let mut differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        differences.sort();
        assert_eq!(
            differences,
            [
                "a run without a usable id can't be copied: id is not UTF-8 text",
                "a run without a usable id can't be copied: key has the wrong type; affected \
                rows: 2",
                "an event without a usable key can't be copied: key has the wrong type; affected \
                rows: 2",
                "event -1 of run \"a\" can't be copied: seq is -1, less than 0",
                "event 1 of run \"a\" can't be copied: key is a duplicate",
                "event 1 of run \"d\" is missing from the target",
                "run \"\" can't be copied: id is empty",
                "run \"c\" can't be copied: key is a duplicate",
                "run \"d\" can't be copied: skill_id has 256 bytes, more than 255",
            ]
        );
        let store = database.store().await;
        let mut stored = store
            .list_runs_filtered(&Default::default(), Default::default())
            .await
            .unwrap();
        stored.sort_by(|left, right| left.id.cmp(&right.id));
        assert_eq!(ids(&stored), ["a", "c"]);
        assert_eq!(store.list_logs_by_run("a").await.unwrap().len(), 1);
    }

    async fn pages_lose_no_rows_whatever_keys_the_tables_have(database) {
        let with_keys = |options: &str| {
            format!(
                "CREATE TABLE skill_runs ({RUNS}, PRIMARY KEY (id)){options}; \
             CREATE TABLE skill_run_logs ({EVENTS}, PRIMARY KEY (run_id, seq)){options};"
            )
        };
        for tables in [
            with_keys(""),
            with_keys(" WITHOUT ROWID"),
            format!(
                "CREATE TABLE skill_runs (number INTEGER PRIMARY KEY, {RUNS}); \
                CREATE TABLE skill_run_logs (id INTEGER PRIMARY KEY, {EVENTS});"
            ),
        ] {
            let legacy = Legacy::with_tables(&tables);
            legacy.sql("WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
                WHERE value < 2500) \
                INSERT INTO skill_runs (id, skill_id, caller_id, channel_id, parent_run_id, \
                inputs, started_at, finished_at, status) \
                SELECT 'r' || (value * 7919 % 2503), 's', '', '', '', '{}', value, value, 'ok' \
                FROM n; \
                INSERT INTO skill_run_logs (run_id, seq, event_type, payload, created_at) \
                SELECT CASE WHEN rowid_ % 2 THEN 'r7' ELSE id END, rowid_, 'm', '1', 1 \
                FROM (SELECT id, row_number() OVER () AS rowid_ FROM skill_runs);");
            let target = TestDatabase::create(database.backend()).await;
            let (summary, differences) = legacy.copied_to(&target).await;
            assert!(summary.is_complete(), "{differences:?}");
            assert_eq!(
                (summary.copied.runs.copied, summary.copied.events.copied),
                (2_500, 2_500)
            );
            assert_eq!(summary.verified.unwrap().events.same, 2_500);
            target.drop().await;
        }
    }

    async fn duplicate_rows_are_reported_across_pages(database) {
        let legacy = Legacy::new();
        legacy.run("'r'", "status = 'ok'");
        // Some pairs are split by the end of a page.
        legacy.sql("WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
            WHERE value < 3000) \
            INSERT INTO skill_run_logs SELECT 'r', value / 2, 'm', value, 1 FROM n;");
        legacy.sql("WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
            WHERE value < 2001) \
            INSERT INTO skill_runs (id, status) SELECT 'x' || ((value + 1) / 2), 'ok' FROM n;");
        let (summary, _) = legacy.copied_to(database).await;
        assert_eq!(
            (summary.copied.events.copied, summary.copied.events.refused),
            (1_501, 1_499)
        );
        assert_eq!(
            (summary.copied.runs.copied, summary.copied.runs.refused),
            (1_002, 1_000)
        );
    }

    async fn a_page_that_ends_with_a_non_utf8_key_is_not_the_last(database) {
        let legacy = Legacy::new();
        legacy.sql("WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
            WHERE value < 1500) \
            INSERT INTO skill_runs (id, status, started_at) SELECT CASE value \
            WHEN 1000 THEN CAST(CAST('r01000' AS BLOB) || x'ff' AS TEXT) \
            ELSE printf('r%05d', value) END, 'ok', 1 FROM n;");
        let (summary, differences) = legacy.copied_to(database).await;
        let runs = summary.copied.runs;
        assert_eq!((runs.copied, runs.refused), (1_499, 1), "{differences:?}");
    }

    async fn a_text_that_is_too_long_is_refused(database) {
        let legacy = Legacy::new();
        legacy.run("'a'", "output = printf('%.*c', 16777217, 'x')");
        legacy.run("'b'", "output = printf('%.*c', 16777216, 'x')");
        let (summary, differences) = legacy.copied_to(database).await;
        assert_eq!(
            (summary.copied.runs.copied, summary.copied.runs.refused),
            (1, 1)
        );
        let expected =
            "run \"a\" can't be copied: output has 16777217 bytes, more than the limit of 16777216";
        assert_eq!(differences[0].to_string(), expected);
    }

    async fn a_transaction_of_a_killed_program_is_rolled_back(database) {
        let legacy = Legacy::new();
        legacy.run("'a'", "status = 'ok'");
        // Large enough for SQLite to write to the file before the commit.
        let program = Command::new("sqlite3")
            .arg(legacy.file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut program = program.unwrap();
        let uncommitted = "PRAGMA cache_size = 1; BEGIN; \
            WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
            WHERE value < 20000) \
            INSERT INTO skill_run_logs SELECT 'a', value, 'm', '1', 1 FROM n; SELECT 'written';\n";
        program
            .stdin
            .as_mut()
            .unwrap()
            .write_all(uncommitted.as_bytes())
            .unwrap();
        let mut written = String::new();
        BufReader::new(program.stdout.as_mut().unwrap())
            .read_line(&mut written)
            .unwrap();
        assert_eq!(written, "written\n");
        program.kill().unwrap();
        program.wait().unwrap();
        assert!(legacy.folder.path().join("old.db-journal").exists());
        let (summary, differences) = legacy.copied_to(database).await;
        assert!(summary.is_complete(), "{differences:?}");
        assert_eq!(
            (summary.copied.runs.copied, summary.copied.events.copied),
            (1, 0)
        );
    }

    async fn the_legacy_database_is_left_unchanged_and_may_stay_in_use(database) {
        for journal in ["delete", "wal"] {
            let legacy = Legacy::new();
            legacy.sql(&format!("PRAGMA journal_mode = {journal}"));
            legacy.run("'a'", "status = 'running'");
            legacy.event("'a'", "1", "'1'");
            let before = fs::read(legacy.file()).unwrap();
            let target = TestDatabase::create(database.backend()).await;
            let source = LegacyStore::connect(&legacy.url()).await.unwrap();
            let store = target.store().await;
            let copy = HistoryCopy::new(source.clone(), store.clone());
            run_copy(copy.clone()).await;
            assert_eq!(fs::read(legacy.file()).unwrap(), before);
            assert!(source.clone().close().await.is_ok());
            let left: Vec<_> = fs::read_dir(legacy.folder.path()).unwrap().collect();
            assert_eq!(left.len(), 1, "{left:?}");
            let copy = HistoryCopy::new(
                LegacyStore::connect(&legacy.url()).await.unwrap(),
                store.clone(),
            );

            legacy.sql(
                "UPDATE skill_runs SET finished_at = 1700000009, status = 'ok', output = 'done'",
            );
            legacy.event("'a'", "2", "'2'");
            legacy.run("'b'", "status = 'running'");
            let (summary, differences) = run_copy(copy.last()).await;
            assert!(summary.is_complete(), "{differences:?}");
            let tallies = (summary.copied.runs, summary.copied.events);
            assert_eq!(
                (tallies.0.finished, tallies.0.copied, tallies.1.copied),
                (1, 1, 1)
            );
            assert_eq!(store.get_run("a").await.unwrap().output, "done");
            target.drop().await;
        }
    }

    async fn labels_that_copied_runs_have_got_since_stay(database) {
        let legacy = Legacy::new();
        legacy.run("'r'", "status = 'running'");
        legacy.copied_to(database).await;
        let store = database.store().await;
        let labels = running("").label("env", "prod").labels;
        store.add_labels("r", &labels).await.unwrap();
        legacy.sql("UPDATE skill_runs SET finished_at = 1700000009, status = 'ok'");
        for finished in [1, 0] {
            let (summary, differences) = legacy.copied_to(database).await;
            assert!(summary.is_complete(), "{differences:?}");
            assert_eq!((summary.copied.runs.finished, summary.copied.runs.labelled), (finished, 0));
            assert_eq!(store.get_run("r").await.unwrap().labels, labels);
        }
    }

    async fn copied_runs_work_with_every_method(database) {
        let legacy = Legacy::new();
        legacy.run(
            "'a'",
            "started_at = 1700000001, finished_at = 1700000002, status = 'ok'",
        );
        legacy.run("'b'", "parent_run_id = 'a', started_at = 1700000003");
        legacy.copied_to(database).await;
        let store = database.store().await;
        assert_eq!(
            ids(&store.list_runs_by_skill("skill", None).await.unwrap()),
            ["b", "a"]
        );
        assert_eq!(
            ids(&store.walk_parent_chain("b").await.unwrap()),
            ["b", "a"]
        );
        store.finish_run("b", &stats()).await.unwrap();
        assert_eq!(store.purge_older_than(at(0)).await.unwrap(), 1);
        assert_eq!(
            ids(&store.list_runs_by_skill("skill", None).await.unwrap()),
            ["b"]
        );
    }
}

#[test]
fn a_database_without_legacy_tables_is_refused() {
    on_database(Backend::Sqlite, async |database| {
        database.store().await.close().await.unwrap();
        let url = database.url();
        let err = LegacyStore::connect(&url).await.unwrap_err();
        let expected = "url doesn't name a legacy database: skill_run_logs.seq doesn't exist";
        assert_eq!(err.to_string(), expected);
        let views = Legacy::with_tables(&format!(
            "CREATE TABLE r ({RUNS}); CREATE TABLE l ({EVENTS}); \
             CREATE VIEW skill_runs AS SELECT * FROM r; \
             CREATE VIEW skill_run_logs AS SELECT * FROM l;"
        ));
        let err = LegacyStore::connect(&views.url()).await.unwrap_err();
        assert_eq!(
            err.to_string(),
            "url doesn't name a legacy database: skill_runs is not a table"
        );
        for url in [
            "postgres://localhost/x",
            "legacy+postgres://localhost/x",
            "nonsense",
        ] {
            let err = LegacyStore::connect(url).await.unwrap_err();
            assert!(
                matches!(err, Error::InvalidInput { field: "url", .. }),
                "{err:?}"
            );
        }
        let missing = database.file().with_extension("nowhere");
        for mode in ["", "?mode=rwc"] {
            let url = format!("sqlite://{}{mode}", missing.display());
            assert!(LegacyStore::connect(&url).await.is_err());
            assert!(!missing.exists());
        }
    });
}

/// A copy compares keys in the order of their bytes, so another order would make rows appear to be
/// missing.
#[test]
fn keys_in_another_order_are_refused() {
    on_database(Backend::Sqlite, async |database| {
        let tables = |collation: &str| {
            format!(
                "CREATE TABLE skill_runs ({}); CREATE TABLE skill_run_logs ({EVENTS});",
                RUNS.replacen("TEXT", &format!("TEXT{collation}"), 1)
            )
        };
        for tables in [
            tables(" COLLATE NOCASE"),
            format!("PRAGMA encoding = 'UTF-16le'; {}", tables("")),
        ] {
            let legacy = Legacy::with_tables(&tables);
            for id in ["'b'", "'C'", "'Ā'"] {
                legacy.run(id, "status = 'ok'");
            }
            let source = LegacyStore::connect(&legacy.url()).await.unwrap();
            let copy = HistoryCopy::new(source, database.store().await);
            let err = copy.run(&|_| {}).await.unwrap_err();
            assert!(
                err.to_string().starts_with("keys aren't in byte order"),
                "{err}"
            );
        }
    });
}

#[test]
fn the_command_copies_a_legacy_database() {
    on_database(Backend::Sqlite, async |database| {
        let legacy = Legacy::with_tables(&format!(
            "CREATE TABLE skill_runs ({RUNS}, mood TEXT); CREATE TABLE skill_run_logs ({EVENTS});"
        ));
        legacy.sql(
            "INSERT INTO skill_runs (id, inputs, started_at, status) \
             VALUES ('a', '', 1, 'ok'), ('b', '{}', 2, 'ok'); \
             INSERT INTO skill_run_logs VALUES ('a', 1, 'm', '1', 1), ('gone', 1, 'm', '1', 1);",
        );
        let to = database.url();
        let copy = |from: &str| {
            let mut command = runtrail_command(legacy.folder.path());
            command.args(["copy", "--final", "--from", from, "--to", &to]);
            command.output().unwrap()
        };
        let output = copy(&legacy.url());
        assert!(output.status.success(), "{}", printed(&output));
        let report = stdout(&output);
        let expected = "copied 2 runs and 1 event\nleft out 1 event without a run\n\
            adapted 1 run and 0 events\n\
            compared 2 runs and 2 events\nsource ";
        assert!(report.starts_with(expected), "{report}");
        let warnings = stderr(&output);
        for part in [
            "mood",
            "run \"a\" was adapted: inputs was empty; stored in the member \"legacy_inputs\"\n",
            "event 1 of run \"gone\" has no run and is skipped\n",
        ] {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        assert_eq!(warnings.lines().count(), 3, "{warnings}");

        // Without the prefix the file is not changed, not even its journal mode.
        let before = fs::read(legacy.file()).unwrap();
        let output = copy(&format!("sqlite://{}", legacy.file().display()));
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("--from legacy+sqlite://FILE"),
            "{}",
            stderr(&output)
        );
        assert_eq!(fs::read(legacy.file()).unwrap(), before);
    });
}
