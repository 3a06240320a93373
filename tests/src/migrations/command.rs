use std::process::{Command, Output};

use runtrail_audit::Storage;

use super::golden::dump;
use crate::fixture::*;

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", printed(&output));
    printed(&output)
}

fn fails(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        !output.status.success(),
        "{command:?}: {}",
        printed(&output)
    );
    printed(&output)
}

fn migration_names() -> Vec<String> {
    let migrations = runtrail_migration::migrations();
    migrations.iter().map(|it| it.name().to_owned()).collect()
}

on_each_backend! {
    async fn the_command_reports_applied_and_pending_migrations(database) {
        let migrate = || migration_command(&database.url());
        let names = migration_names();
        let (first, last) = (&names[0], &names[names.len() - 1]);

        if database.backend() == Backend::Sqlite {
            // Status doesn't create a missing file.
            assert!(fails(migrate().arg("status")).contains("there is no such file"));
            std::fs::write(database.file(), "").unwrap();
        }
        let status = succeeds(migrate().arg("status"));
        assert!(status.contains(&format!("pending  {first}")), "{status}");
        let up = succeeds(migrate().arg("up"));
        assert!(
            up.contains(&format!("applied {first}")) && up.contains(&format!("applied  {last}")),
            "{up}"
        );
        let again = succeeds(&mut migrate());
        assert!(again.contains("nothing applied"), "{again}");
        let down = succeeds(migrate().arg("down"));
        assert!(down.contains(&format!("rolled back {last}")), "{down}");
        assert!(down.contains(&format!("applied  {first}")), "{down}");
        assert!(down.contains(&format!("pending  {last}")), "{down}");
        let rest = (migration_names().len() - 1).to_string();
        let down = succeeds(migrate().args(["down", &rest]));
        assert!(down.contains(&format!("rolled back {first}")), "{down}");
    }

    async fn a_dropped_index_is_detected_and_created_again(database) {
        let migrate = || migration_command(&database.url());
        let runs = runtrail_migration::migrations()[0].name().to_owned();
        let store = database.store().await;
        store.start_run(&running("r")).await.unwrap();
        store.close().await.unwrap();
        let db = database.connection().await;
        let whole = dump(database.backend(), &db).await;
        execute(&db, "DROP INDEX runtrail_skill_runs_by_status").await;
        assert!(succeeds(migrate().arg("status")).contains(&format!("pending  {runs}")));
        // A store's schema check relies on the records, not on the indexes.
        database.store().await.get_run("r").await.unwrap();
        assert!(succeeds(&mut migrate()).contains(&format!("applied {runs}")));
        assert_eq!(dump(database.backend(), &db).await, whole);
        database.store().await.get_run("r").await.unwrap();
    }

    async fn the_command_deletes_a_history_only_with_force(database) {
        let store = database.store().await;
        runtrail_audit::Storage::start_run(&store, &running("r"))
            .await
            .unwrap();
        store.close().await.unwrap();
        let all = migration_names().len();
        let down = |force: &[&str]| {
            let mut command = migration_command(&database.url());
            command.args(["down", &all.to_string()]).args(force);
            command
        };
        let message = fails(&mut down(&[]));
        assert!(
            message.contains("skill_runs has rows") && message.contains("--force"),
            "{message}"
        );
        let printed = succeeds(&mut down(&["--force"]));
        assert_eq!(printed.matches("rolled back").count(), all, "{printed}");
    }

    async fn rolling_back_reports_that_a_hosts_migrator_applied_the_migrations(database) {
        use sea_orm_migration::MigratorTrait;

        let db = database.connection().await;
        super::host::ComposedHost::up(&db, None).await.unwrap();
        db.close().await.unwrap();
        let all = migration_names().len().to_string();
        let down = succeeds(migration_command(&database.url()).args(["down", &all]));
        assert!(
            down.contains("nothing rolled back: the migrator of an application"),
            "{down}"
        );
        assert!(
            !down.contains("there was nothing to do") && !down.contains("pending"),
            "{down}"
        );
    }

    async fn the_command_accepts_the_arguments_that_sea_orm_cli_passes(database) {
        let migrate = || {
            let mut command = migration_command(&database.url());
            command.env("DATABASE_SCHEMA", "public");
            command
        };
        succeeds(migrate().args(["up", "-n", "1", "-v"]));
        succeeds(migrate().args(["up", "-v"]));
        succeeds(migrate().args(["status"]));
        let all = migration_names().len();
        let down = succeeds(migrate().args(["down", "-n", &all.to_string()]));
        assert_eq!(down.matches("rolled back").count(), all, "{down}");
    }

    async fn the_command_has_no_subcommand_that_drops_everything(database) {
        let db = database.connection().await;
        execute(&db, "CREATE TABLE host_things (id integer)").await;
        for name in ["fresh", "refresh", "reset"] {
            let message = fails(migration_command(&database.url()).arg(name));
            assert!(message.contains("unrecognized subcommand"), "{message}");
        }
        assert_eq!(count(&db, "host_things").await, 0);
    }

    async fn the_command_fails_on_a_foreign_table(database) {
        let db = database.connection().await;
        execute(&db, "CREATE TABLE skill_runs (id text)").await;
        for arguments in [["up"], ["status"], ["down"]] {
            let message = fails(migration_command(&database.url()).args(arguments));
            assert!(
                message.contains("skill_runs is not Runtrail's"),
                "{message}"
            );
        }
    }

    async fn the_command_prints_the_script(database) {
        let printed = succeeds(migration_command(&database.url()).arg("print-sql"));
        let db = database.connection().await;
        let backend = sea_orm::ConnectionTrait::get_database_backend(&db);
        assert_eq!(printed, runtrail_migration::script(backend, None));
    }
}

#[test]
fn the_command_creates_runtrail_db_in_the_current_folder() {
    let folder = tempfile::tempdir().unwrap();
    let template = migration_command("");
    let mut command = Command::new(template.get_program());
    command
        .current_dir(folder.path())
        .env_remove("DATABASE_URL")
        .env_remove("DATABASE_SCHEMA");
    let printed = succeeds(&mut command);
    assert!(
        printed.contains("Database sqlite://runtrail.db\n"),
        "{printed}"
    );
    assert!(folder.path().join("runtrail.db").exists());
}

#[test]
fn the_command_exits_quietly_when_its_output_is_closed() {
    let mut child = migration_command("sqlite::memory:")
        .arg("print-sql")
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(printed(&output).is_empty(), "{}", printed(&output));
}

#[test]
fn the_command_reads_the_url_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/other.db?mode=rwc", folder.path().display());
    let template = migration_command("");
    succeeds(Command::new(template.get_program()).env("DATABASE_URL", url));
    assert!(folder.path().join("other.db").exists());
}

#[test]
fn no_message_contains_a_password() {
    let urls = [
        "postgres://me:secret@127.0.0.1:1/app",
        "postgres://me@127.0.0.1:1/app?password=secret",
        "mysql://me:secret@127.0.0.1/app",
        "postgres://me:secret@127.0.0.1:99999999/app",
        "me:secret@127.0.0.1/app",
        "://secret",
    ];
    for url in urls {
        for arguments in [vec!["up"], vec!["status"], vec!["--help"]] {
            let mut command = migration_command(url);
            command.env("DATABASE_URL", url).args(arguments);
            let printed = printed(&run(&mut command));
            assert!(!printed.contains("secret"), "{url}: {printed}");
        }
    }
}

#[test]
fn no_description_of_a_mistyped_url_contains_a_password() {
    let urls = [
        "postgres://me:secret@db/app?password=secret#secret",
        "postgres:me:secret@db/app",
        "postgres://me:/secret@db/app",
        "postgres://me:#secret@db/app",
        "postgres://me:1/secret@db/app",
        "secret://me@db/app",
    ];
    for url in urls {
        let options = runtrail_db::DatabaseOptions::new(url);
        let described = format!("{options} {options:?}");
        assert!(!described.contains("secret"), "{url}: {described}");
    }
}

#[test]
fn a_url_that_cannot_be_used_is_explained() {
    for (url, reason) in [
        (
            "mysql://127.0.0.1/app",
            "has to begin with sqlite: or postgres:",
        ),
        ("runtrail.db", "has to begin with sqlite: or postgres:"),
        (
            "sqlite:///no/such/folder/runtrail.db?mode=rwc",
            "the file can't be created: No such file or directory",
        ),
    ] {
        let message = fails(migration_command(url).arg("up"));
        assert!(message.contains(reason), "{message}");
    }
}
