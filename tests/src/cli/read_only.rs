//! Commands that only read change nothing; commands that write leave one file that only its owner
//! can read.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

use runtrail_audit::Storage;
use runtrail_db::DatabaseOptions;
use runtrail_store::AuditStore;

use crate::fixture::*;

/// The commands that don't create a history: they only read, or only change an existing one.
const NON_CREATING_COMMANDS: &[&[&str]] = &[
    &["list"],
    &["list", "--json"],
    &["count"],
    &["show", "r"],
    &["tree", "r"],
    &["logs", "r"],
    &["chain", "r"],
    &["last", "skill"],
    &["export"],
    &["purge", "--older-than", "1d", "--dry-run"],
    &["purge", "--older-than", "1d", "--yes"],
];

fn run(folder: &Path, url: &str, arguments: &[&str]) -> Output {
    runtrail_command(folder)
        .args(["--database-url", url])
        .args(arguments)
        .output()
        .unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_mistyped_file_name_is_an_error_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let more: &[&[&str]] = &[
        &["migrate", "status"],
        &["migrate", "down"],
        &[
            "copy",
            "--from",
            "sqlite://typo.db?mode=rwc",
            "--to",
            "sqlite://to.db",
        ],
    ];
    for url in ["sqlite://typo.db", "sqlite://typo.db?mode=rwc"] {
        for arguments in NON_CREATING_COMMANDS.iter().chain(more) {
            let mut command = runtrail_command(folder.path());
            if arguments[0] != "copy" {
                command.args(["--database-url", url]);
            }
            let output = command.args(*arguments).output().unwrap();
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
            assert!(
                message.contains("there is no such file"),
                "{arguments:?}: {message}"
            );
            assert!(
                names_in(folder.path()).is_empty(),
                "{arguments:?}: {:?}",
                names_in(folder.path())
            );
        }
    }
}

#[test]
fn a_file_of_another_program_is_left_unchanged() {
    on_database(Backend::Sqlite, async |database| {
        let file = database.file();
        let db = database.connection().await;
        execute(&db, "CREATE TABLE theirs (id integer)").await;
        db.close().await.unwrap();
        let before = fs::read(&file).unwrap();
        let folder = file.parent().unwrap();
        for arguments in NON_CREATING_COMMANDS
            .iter()
            .chain(&[&["migrate", "status"][..]])
        {
            let output = run(folder, &database.url(), arguments);
            let message = stderr(&output);
            if arguments[0] != "migrate" {
                assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
                assert!(
                    message.contains("has no Runtrail tables"),
                    "{arguments:?}: {message}"
                );
            }
            assert_eq!(fs::read(&file).unwrap(), before, "{arguments:?}");
            assert_eq!(names_in(folder), ["runtrail.db"], "{arguments:?}");
        }

        // A read-only store changes nothing either.
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.get_run("r").await.unwrap_err();
        store.close().await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), before);
        assert_eq!(names_in(folder), ["runtrail.db"]);

        // Only a migration changes the file.
        assert!(run(folder, &database.url(), &["migrate"]).status.success());
        let db = database.connection().await;
        assert_eq!(fetch::<String>(&db, "PRAGMA journal_mode").await, ["wal"]);
    });
}

#[test]
fn an_older_schema_is_reported_and_left_alone() {
    on_database(Backend::Sqlite, async |database| {
        let file = database.file();
        let folder = file.parent().unwrap();
        let migrated = run(folder, &database.url(), &["migrate", "up", "-n", "1"]);
        assert!(migrated.status.success(), "{}", stderr(&migrated));
        let before = fs::read(&file).unwrap();
        for arguments in NON_CREATING_COMMANDS {
            let output = run(folder, &database.url(), arguments);
            let message = stderr(&output);
            assert!(
                message.contains("older than this version"),
                "{arguments:?}: {message}"
            );
            assert!(
                message.contains("`runtrail migrate`"),
                "{arguments:?}: {message}"
            );
            assert_eq!(fs::read(&file).unwrap(), before, "{arguments:?}");
        }
    });
}

/// Drops root's right to ignore file permissions.
const WITHOUT_PRIVILEGES: &[&str] = &["setpriv", "--bounding-set=-dac_override,-dac_read_search"];

#[test]
fn a_file_in_a_read_only_folder_is_read_with_a_warning() {
    on_database(Backend::Sqlite, async |database| {
        let cli = Cli::on(database).await;
        cli.store.start_run(&finished_at("r", 5)).await.unwrap();
        cli.store.clone().close().await.unwrap();
        let file = database.file();
        let folder = file.parent().unwrap();
        assert_eq!(names_in(folder), ["runtrail.db"]);

        let permissions = fs::metadata(folder).unwrap().permissions();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
        let output = cli.command_by(WITHOUT_PRIVILEGES, &["count"]).output();
        fs::set_permissions(folder, permissions).unwrap();
        let output = output.unwrap();
        assert_eq!(stdout(&output), "1\n", "{}", stderr(&output));
        assert!(
            stderr(&output).contains("its folder can't be written"),
            "{}",
            stderr(&output)
        );
        assert_eq!(names_in(folder), ["runtrail.db"]);
    });
}

#[test]
fn a_read_only_store_cannot_write() {
    on_database(Backend::Sqlite, async |database| {
        let store = database.store().await;
        store.start_run(&finished_at("r", 5)).await.unwrap();
        let options = DatabaseOptions::new(database.url()).read_only();
        for read_only in [
            AuditStore::connect(options).await.unwrap(),
            AuditStore::connect(database.url().replace("rwc", "ro"))
                .await
                .unwrap(),
        ] {
            assert_eq!(read_only.get_run("r").await.unwrap(), finished_at("r", 5));
            let refused = read_only.start_run(&running("other")).await.unwrap_err();
            assert_eq!(
                refused.kind(),
                runtrail_audit::ErrorKind::ReadOnly,
                "{refused:?}"
            );
            read_only.close().await.unwrap();
        }
    });
}

#[test]
fn a_new_file_is_accessible_only_to_its_owner() {
    on_database(Backend::Sqlite, async |database| {
        let file = database.file();
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        let folder = file.parent().unwrap();
        assert_eq!(
            names_in(folder),
            ["runtrail.db", "runtrail.db-shm", "runtrail.db-wal"]
        );
        for name in names_in(folder) {
            let mode = fs::metadata(folder.join(&name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        store.close().await.unwrap();

        // An existing file keeps its mode.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            run(folder, &database.url(), &["exec", "true"])
                .status
                .success()
        );
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
    });
}

#[test]
fn a_command_leaves_one_file_that_can_be_copied() {
    on_database(Backend::Sqlite, async |database| {
        let file = database.file();
        let folder = file.parent().unwrap();
        let copy = tempfile::tempdir().unwrap();
        for (number, arguments) in [
            &["exec", "--id", "r", "echo", "hi"][..],
            &["list"],
            &["logs", "r"],
            &["count", "--skill", "no such"],
            &["show", "no such"],
            &["exec", "false"],
            &["purge", "--older-than", "1d", "--yes"],
            &["migrate"],
            &["migrate", "status"],
        ]
        .iter()
        .enumerate()
        {
            run(folder, &database.url(), arguments);
            assert_eq!(names_in(folder), ["runtrail.db"], "{arguments:?}");
            let elsewhere = copy.path().join(format!("{number}.db"));
            fs::copy(&file, &elsewhere).unwrap();
            let url = format!("sqlite://{}", elsewhere.display());
            let shown = run(copy.path(), &url, &["logs", "r"]);
            assert!(
                stdout(&shown).contains("hi"),
                "{arguments:?}: {}",
                stderr(&shown)
            );
        }
    });
}
