//! `exec` waits for a hanging database for 15 s in total, or until it gets a signal.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use runtrail_test_servers::Cluster;
use sea_orm::{DatabaseTransaction, TransactionTrait};

use crate::fixture::*;

/// 15 s, plus a margin for a busy machine.
const MAX_WAIT: Duration = Duration::from_secs(22);

/// The outcome of a `runtrail exec`.
struct Outcome {
    status: ExitStatus,
    after: Duration,
    stderr: String,
}

impl Outcome {
    fn wait(child: &mut Child, begun: Instant) -> Self {
        let status = ended(child);
        let after = begun.elapsed();
        let mut stderr = String::new();
        let mut stream = child.stderr.take().unwrap();
        stream.read_to_string(&mut stderr).unwrap();
        Self {
            status,
            after,
            stderr,
        }
    }
}

/// Starts a recorded program that runs the shell code `then` once the file `go` exists.
async fn waiting_program(cli: &Cli, id: &str, then: &str) -> Child {
    let script = format!("echo $$; while ! test -e go; do sleep 0.02; done; {then}");
    let child = cli.spawn_exec(&["--id", id, "--", "sh", "-c", &script]);
    cli.wait_for_events(id, 1).await;
    child
}

/// Checks every kind of wait for a database that hangs from `hang` to `resume`.
async fn assert_waits_are_bounded<T>(
    cli: &Cli,
    hang: impl AsyncFnOnce() -> T,
    resume: impl AsyncFnOnce(T),
) {
    let mut quiet = waiting_program(cli, "quiet", "exit 0").await;
    let mut chatty = waiting_program(cli, "chatty", "seq 3000; exit 0").await;
    let mut stopped = waiting_program(cli, "stopped", "exit 0").await;
    let mut program = String::new();
    BufReader::new(stopped.stdout.as_mut().unwrap())
        .read_line(&mut program)
        .unwrap();

    let hanging = hang().await;
    let begun = Instant::now();
    let mut new = cli.spawn_exec(&["--", "touch", "ran"]);
    let mut cancelled = cli.spawn_exec(&["--", "touch", "ran"]);
    let keep_going = [
        "--keep-going",
        "--",
        "sh",
        "-c",
        "touch ran-unrecorded; exit 3",
    ];
    let mut unrecorded = cli.spawn_exec(&keep_going);
    std::fs::write(cli.path("go"), "").unwrap();
    eventually(|| cli.path("ran-unrecorded").exists().then_some(()));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "--keep-going waited {:?}",
        begun.elapsed()
    );

    // By now the handlers are installed, and `exec` waits for the database.
    send("TERM", &cancelled.id().to_string());
    let cancelled = Outcome::wait(&mut cancelled, Instant::now());
    assert_eq!(cancelled.status.code(), Some(143));
    assert!(
        cancelled.after < Duration::from_secs(5),
        "{:?}",
        cancelled.after
    );
    assert!(
        cancelled
            .stderr
            .contains("error: the program was not started: "),
        "{}",
        cancelled.stderr
    );

    let program = format!("/proc/{}", program.trim());
    eventually(|| (!std::path::Path::new(&program).exists()).then_some(()));
    // A signal in the first second after the program's end would count as the cause of that end.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    send("TERM", &stopped.id().to_string());
    let stopped = Outcome::wait(&mut stopped, Instant::now());
    assert!(
        stopped.after < Duration::from_secs(5),
        "{:?}",
        stopped.after
    );
    assert!(stopped.stderr.contains("SIGTERM"), "{}", stopped.stderr);

    let new = Outcome::wait(&mut new, begun);
    assert_eq!(new.status.code(), Some(1));
    assert!(
        new.stderr.contains("error: the program was not started: "),
        "{}",
        new.stderr
    );
    assert!(new.after < MAX_WAIT, "{:?}", new.after);
    let quiet = Outcome::wait(&mut quiet, begun);
    let chatty = Outcome::wait(&mut chatty, begun);
    let unrecorded = Outcome::wait(&mut unrecorded, begun);
    resume(hanging).await;

    for (id, ended) in [("quiet", quiet), ("chatty", chatty)] {
        assert!(ended.after < MAX_WAIT, "{id}: {:?}", ended.after);
        assert_eq!(ended.status.code(), Some(1), "{id}");
        let report = format!("runtrail: run {id} is recorded incompletely: ");
        assert!(ended.stderr.starts_with(&report), "{}", ended.stderr);
    }
    assert!(unrecorded.after < MAX_WAIT, "{:?}", unrecorded.after);
    assert_eq!(unrecorded.status.code(), Some(3));
    assert!(
        unrecorded
            .stderr
            .starts_with("runtrail: this run is not recorded: "),
        "{}",
        unrecorded.stderr
    );
    assert!(!cli.path("ran").exists());
}

#[test]
fn the_wait_for_a_frozen_server_is_bounded() {
    runtime().block_on(async {
        let cluster = Cluster::start(&["fsync=off"]).unwrap();
        let cli = Cli::at(cluster.url()).await;
        let freeze = async || cluster.freeze().unwrap();
        assert_waits_are_bounded(&cli, freeze, async |()| cluster.thaw().unwrap()).await;
    });
}

on_each_backend! {
    async fn the_wait_for_a_locked_history_is_bounded(database) {
        let cli = Cli::on(database).await;
        let db = database.connection().await;
        let lock = async || -> DatabaseTransaction {
            let lock = db.begin().await.unwrap();
            execute(&lock, "DELETE FROM skill_run_logs WHERE run_id = 'none'").await;
            if database.backend() == Backend::Postgres {
                execute(
                    &lock,
                    "LOCK TABLE skill_runs, skill_run_logs IN ACCESS EXCLUSIVE MODE",
                )
                .await;
            }
            lock
        };
        assert_waits_are_bounded(&cli, lock, async |lock| lock.rollback().await.unwrap()).await;
    }
}
