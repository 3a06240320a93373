//! What happens to a program whose run can't be recorded.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use runtrail_audit::Storage;

use crate::fixture::*;

/// No server listens on this port.
const UNREACHABLE: &str = "postgres://me:secret@127.0.0.1:1/app";

#[test]
fn nothing_is_run_when_it_cannot_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    for url in [
        UNREACHABLE,
        "sqlite:///no/such/folder/runtrail.db",
        "mysql://me:secret@db/app",
    ] {
        let mut command = runtrail_command(folder.path());
        let output = command
            .args(["exec", "-u", url, "--", "touch", "ran"])
            .output()
            .unwrap();
        let message = stderr(&output);
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{url}: {message}"
        );
        let lines: Vec<_> = message.lines().collect();
        let last = lines.last().unwrap();
        assert!(
            last.starts_with("error: the program was not started: the database "),
            "{message}"
        );
        // Only a server is worth waiting for.
        match url {
            UNREACHABLE => assert!(lines[0].ends_with("retrying for up to 15 s"), "{message}"),
            _ => assert_eq!(lines.len(), 1, "{message}"),
        }
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(!folder.path().join("ran").exists());
}

#[test]
fn exec_waits_for_a_server_to_come_up() {
    on_database(Backend::Postgres, async |database| {
        database.store().await.close().await.unwrap();
        let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let reserved = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let mut url = url::Url::parse(&database.url()).unwrap();
        let server = (
            url.host_str().unwrap().to_owned(),
            url.port().unwrap_or(5432),
        );
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(address.port())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut child = runtrail_command(folder.path())
            .args(["exec", "-u", url.as_str(), "--id", "r", "echo", "hi"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = tokio::net::TcpStream::connect(&server).await.unwrap();
                tokio::spawn(async move {
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        let status = tokio::task::spawn_blocking(move || ended(&mut child))
            .await
            .unwrap();
        assert_eq!(status.code(), Some(0));
        serving.abort();
        let store = database.store().await;
        assert!(!store.get_run("r").await.unwrap().is_running());
    });
}

#[test]
fn an_inaccessible_folder_is_not_reported_as_a_deleted_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let mut command = runtrail_command(folder.path());
    command.args([
        "exec",
        "-u",
        "sqlite://inner/runs.db",
        "--",
        "chmod",
        "0",
        "inner",
    ]);
    let output = command.output().unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
    let message = stderr(&output);
    assert!(!message.contains("moved or deleted"), "{message}");
}

#[test]
fn with_keep_going_the_program_runs_if_the_url_cannot_be_inherited() {
    on_database(Backend::Postgres, async |database| {
        database.store().await.close().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = |keep_going: Option<&str>| {
            let mut command = runtrail_command(folder.path());
            command
                .env("TMPDIR", "/nonexistent")
                .env_remove("XDG_RUNTIME_DIR");
            command
                .args(["exec", "-u", &database.url()])
                .args(keep_going);
            command.args(["--", "echo", "ran"]).output().unwrap()
        };
        let output = run(None);
        assert_eq!(
            (output.status.code(), stdout(&output).as_str()),
            (Some(1), "")
        );
        let output = run(Some("--keep-going"));
        assert_eq!(
            (output.status.code(), stdout(&output).as_str()),
            (Some(0), "ran\n")
        );
        assert!(
            stderr(&output).contains("can't be passed to the program"),
            "{}",
            stderr(&output)
        );
        let store = database.store().await;
        assert_eq!(store.count_runs_by_skill("echo", false).await.unwrap(), 1);
    });
}

#[test]
fn a_file_that_disappears_during_the_run_is_reported() {
    for (way, keep_going, code) in [("rm", false, 1), ("mv", false, 1), ("rm", true, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let script = match way {
            "rm" => "rm runs.db*; echo out",
            _ => "mv runs.db other.db; echo out",
        };
        let mut command = runtrail_command(folder.path());
        command.args(["exec", "-u", "sqlite://runs.db"]);
        command.args(keep_going.then_some("--keep-going"));
        let output = command.args(["--", "sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{way}");
        assert_eq!(stdout(&output), "out\n");
        let reason = "runs.db was moved or deleted while the program ran";
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn with_keep_going_the_program_runs_and_the_loss_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    for url in [UNREACHABLE, "sqlite:///no/such/folder/runtrail.db"] {
        let mut command = runtrail_command(folder.path());
        let arguments = [
            "exec",
            "--keep-going",
            "-u",
            url,
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 6",
        ];
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(6));
        assert_eq!(stdout(&output), "out\n");
        // After one second of waiting, `exec` starts the program and keeps trying.
        let printed = stderr(&output);
        let (rest, report): (Vec<_>, Vec<_>) = printed.lines().partition(|line| *line == "err");
        let report = report.join("\n");
        assert!(
            report.starts_with("runtrail: this run is not recorded: the database "),
            "{report}"
        );
        assert!(!report.contains("secret"), "{report}");
        assert_eq!((rest.len(), report.lines().count()), (1, 1), "{printed}");
    }
}

/// A program prints to the same stderr, and nothing it prints may end up within a message.
#[test]
fn a_message_is_printed_in_one_write() {
    let folder = tempfile::tempdir().unwrap();
    // Each write arrives as a datagram of its own.
    let (reader, writer) = UnixDatagram::pair().unwrap();
    let mut command = runtrail_command(folder.path());
    command.args(["-u", "sqlite:///no/such/folder/runtrail.db"]);
    command.args(["exec", "--keep-going", "--", "true"]);
    command.stderr(OwnedFd::from(writer));
    assert_eq!(command.status().unwrap().code(), Some(0));
    let mut buffer = [0; 4096];
    let length = reader.recv(&mut buffer).unwrap();
    let first = String::from_utf8_lossy(&buffer[..length]);
    assert!(first.starts_with("runtrail: "), "{first:?}");
    assert!(first.ends_with('\n'), "{first:?}");
}

#[test]
fn an_unwritable_stderr_is_not_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = runtrail_command(folder.path());
        command.args(arguments).stderr(full()).output().unwrap()
    };
    let url = "sqlite:///no/such/folder/runtrail.db";
    let output = run(&[
        "-u",
        url,
        "exec",
        "--keep-going",
        "--",
        "sh",
        "-c",
        "echo out; exit 3",
    ]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(3), "out\n")
    );
    assert_eq!(run(&["migrate"]).status.code(), Some(0));
    assert_eq!(run(&["show", "nope"]).status.code(), Some(4));
    assert_eq!(run(&["export"]).status.code(), Some(0));
    assert_eq!(run(&["migrate", "status"]).status.code(), Some(0));
}

on_each_backend! {
    async fn a_database_that_is_lost_during_the_run_is_reported(database) {
        let cli = Cli::on(database).await;
        let db = database.connection().await;
        for (keep_going, own_code, code) in
            [(false, 0, 1), (true, 0, 0), (false, 8, 8), (true, 8, 8)]
        {
            let id = format!("r-{keep_going}-{own_code}");
            let script = format!(
                "echo first; while ! test -e {id}; do sleep 0.02; done; echo second; exit \
                {own_code}"
            );
            let mut arguments = vec!["--id", &id];
            if keep_going {
                arguments.push("--keep-going");
            }
            arguments.extend(["--", "sh", "-c", &script]);
            let mut child = cli.spawn_exec(&arguments);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "first");
            cli.wait_for_events(&id, 1).await;
            execute(&db, "ALTER TABLE skill_run_logs RENAME TO elsewhere").await;
            fs::write(cli.path(&id), "").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), "second");
            assert_eq!(ended(&mut child).code(), Some(code), "{id}");
            let mut report = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut report).unwrap();
            // The second line and the exit event.
            assert!(
                report.starts_with(&format!(
                    "runtrail: run {id} is recorded incompletely: 2 events lost, "
                )),
                "{report}"
            );
            assert_eq!(report.lines().count(), 1, "{report}");
            execute(&db, "ALTER TABLE elsewhere RENAME TO skill_run_logs").await;

            let run = cli.run(&id).await;
            assert!(!run.is_running());
            assert!(
                run.error.contains("recorded incompletely: 2 events lost"),
                "{}",
                run.error
            );
            assert_eq!(cli.printed_by(&id, "stdout").await, b"first\n");
        }
    }

    async fn only_conflicting_events_are_lost(database) {
        use runtrail_audit::{SkillRunLog, Storage};
        let cli = Cli::on(database).await;
        let script = "echo first; while ! test -e go; do sleep 0.02; done; seq 200";
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", script]);
        cli.wait_for_events("r", 1).await;
        for sequence in [17, 40] {
            let taken = SkillRunLog::new("r", sequence, "note", serde_json::json!("taken"));
            cli.store.append_log(&taken).await.unwrap();
        }
        fs::write(cli.path("go"), "").unwrap();
        assert_eq!(ended(&mut child).code(), Some(1));
        let run = cli.run("r").await;
        assert!(
            run.error
                .starts_with("recorded incompletely: 2 events lost, because event "),
            "{}",
            run.error
        );
        assert_eq!(cli.events("r").await.len(), 202);
    }

    async fn a_busy_database_loses_nothing(database) {
        use sea_orm::TransactionTrait;
        let cli = Cli::on(database).await;
        let db = database.connection().await;
        let mut child = cli.spawn_exec(&[
            "--id",
            "r",
            "--",
            "sh",
            "-c",
            "echo first; while ! test -e go; do sleep 0.02; done; seq 1000",
        ]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        let lock = db.begin().await.unwrap();
        execute(&lock, "DELETE FROM skill_run_logs WHERE run_id = 'nobody'").await;
        if database.backend() == Backend::Postgres {
            execute(&lock, "LOCK TABLE skill_run_logs IN ACCESS EXCLUSIVE MODE").await;
        }
        fs::write(cli.path("go"), "").unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        lock.rollback().await.unwrap();
        assert_eq!(lines.count(), 1_000);
        assert!(ended(&mut child).success());
        assert_eq!(cli.events("r").await.len(), 1_002);
    }

    async fn a_transient_failure_of_the_database_loses_nothing(database) {
        let cli = Cli::on(database).await;
        let script = "echo first; while ! test -e go; do sleep 0.02; done; seq 1000";
        let mut child = cli.spawn_exec(&["--id", "r", "--", "sh", "-c", script]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        cli.wait_for_events("r", 1).await;
        let db = database.connection().await;
        // On SQLite a lock that outlasts the lock timeout, on PostgreSQL the end of the recorder's
        // connections.
        let failure = async {
            match database.backend() {
                Backend::Sqlite => {
                    execute(&db, "BEGIN IMMEDIATE").await;
                    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
                    execute(&db, "ROLLBACK").await;
                }
                Backend::Postgres => {
                    let others = "SELECT CAST(COUNT(pg_terminate_backend(pid)) AS bigint) \
                        FROM pg_stat_activity \
                        WHERE datname = current_database() AND pid <> pg_backend_pid() \
                        AND query LIKE 'INSERT%'";
                    assert!(fetch::<i64>(&db, others).await[0] > 0);
                }
            }
        };
        fs::write(cli.path("go"), "").unwrap();
        failure.await;
        assert_eq!(lines.count(), 1_000);
        assert!(ended(&mut child).success());
        assert_eq!(cli.events("r").await.len(), 1_002);
    }
}
