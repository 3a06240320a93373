//! `budget` and `exec --budget`.

use std::time::Duration;

use runtrail_audit::{
    Amount, BudgetStatus, Budgets, BulkStorage, ErrorKind, ReservationRequest, RunStatus, Spending,
    Storage, Usage,
};

use crate::fixture::*;

async fn status(cli: &Cli, name: &str) -> BudgetStatus {
    cli.store.find_budget(name).await.unwrap().unwrap()
}

/// What a budget has used and reserved.
async fn counted(cli: &Cli, name: &str) -> [u64; 2] {
    let status = status(cli, name).await;
    [status.used, status.reserved]
}

on_each_backend! {
    async fn budgets_are_set_listed_checked_and_removed(database) {
        let cli = Cli::on(database).await;
        cli.succeeds(&["budget", "set", "all", "--limit", "200000tokens", "--per", "24h"]);
        cli.succeeds(&[
            "budget", "set", "alice", "--limit", "5usd", "--per", "day", "--caller", "alice",
            "--utc-offset", "-02:00",
        ]);
        let request = ReservationRequest::new("1", Spending::new().tokens(1_500)).caller("alice");
        cli.store.reserve(&request).await.unwrap();
        let actual = Spending::new().tokens(1_200).cost_micros(1_250_000);
        cli.store.settle_reservation("1", &actual).await.unwrap();

        let lines = cli.json(&["budget", "list", "--json"]);
        let alice = &lines[0];
        assert_eq!(alice["name"], "alice");
        assert_eq!(alice["scope"], "caller alice");
        assert_eq!(alice["per"], "day at -02:00");
        assert_eq!(alice["unit"], "cost_micros");
        assert_eq!((&alice["limit"], &alice["left"]), (&5_000_000.into(), &3_750_000.into()));
        assert!(alice["renews_at"].as_str().unwrap().ends_with("T02:00:00.000000Z"));
        let all = &lines[1];
        assert_eq!((&all["per"], &all["unit"]), (&"1day".into(), &"tokens".into()));
        assert_eq!((&all["used"], &all["reserved"]), (&1_200.into(), &0.into()));
        let list = cli.succeeds(&["budget", "list"]);
        let words: Vec<_> = list.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..7], ["alice", "caller", "alice", "day", "at", "-02:00", "$5.00"]);

        let left = cli.succeeds(&["budget", "check", "all"]);
        let expected = "198,800 tokens of 200,000 tokens left; it renews at 2";
        assert!(left.starts_with(expected), "{left}");
        cli.succeeds(&["budget", "set", "all", "--limit", "1200tokens", "--per", "1day"]);
        let output = cli.output(&["budget", "check", "all"]);
        assert_eq!(output.status.code(), Some(5));
        assert!(stdout(&output).starts_with("0 tokens of 1,200 tokens left"));

        cli.succeeds(&["budget", "remove", "all"]);
        for command in ["check", "remove"] {
            let message = cli.fails(4, &["budget", command, "all"]);
            assert!(message.contains(r#"there is no budget "all""#), "{message}");
        }
        let set = ["budget", "set", "b", "--limit"];
        for wrong in [
            vec!["5", "--per", "day"],
            vec!["5eur", "--per", "day"],
            vec!["5usd", "--per", "never"],
            vec!["5usd", "--per", "24h", "--utc-offset", "+01:00"],
            vec!["5usd", "--per", "10ms"],
            vec!["5usd", "--per", "day", "--caller", "a", "--skill", "b"],
        ] {
            let output = cli.output(&[&set[..], &wrong].concat());
            assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        }
    }

    async fn exec_reserves_before_the_program_and_settles_what_it_has_used(database) {
        let cli = Cli::on(database).await;
        for (name, scope) in [("all", &[][..]), ("other", &["--skill", "other"])] {
            let set = ["budget", "set", name, "--limit", "1000tokens", "--per", "month"];
            cli.succeeds(&[&set[..], scope].concat());
        }
        cli.succeeds(&["budget", "set", "money", "--limit", "1usd", "--per", "day"]);
        let script = "echo started; while ! test -e go; do sleep 0.02; done";
        let mut program = cli.spawn_exec(&[
            "--id", "r", "--budget", "600tokens", "--", "sh", "-c", script,
        ]);
        cli.wait_for_events("r", 1).await;
        assert_eq!(counted(&cli, "all").await, [0, 600]);
        assert_eq!(counted(&cli, "other").await, [0, 0]);
        // The second one isn't started.
        let second = ["exec", "--id", "s", "--budget", "401tokens", "--", "touch", "run"];
        let message = cli.fails(5, &second);
        let expected = r#"the program was not started: budget "all" has only 400 tokens left"#;
        assert!(message.contains(expected), "{message}");
        assert!(!cli.path("run").exists());
        assert_kind(cli.store.get_run("s").await, ErrorKind::NotFound);

        let call = Usage::new().input_tokens(100).output_tokens(20).cost_micros(250_000);
        cli.store.start_run(&child("below", "r")).await.unwrap();
        let events = [event("below", 0).usage(call.clone()), event("below", 1).usage(call)];
        cli.store.append_logs(&events).await.unwrap();
        cli.store.finish_run("below", &stats()).await.unwrap();
        std::fs::write(cli.path("go"), "").unwrap();
        assert!(ended(&mut program).success());
        assert_eq!(counted(&cli, "all").await, [240, 0]);
        assert_eq!(counted(&cli, "money").await, [500_000, 0]);
        assert_eq!(status(&cli, "all").await.left(), Amount::Tokens(760));
    }

    async fn a_nested_exec_reserves_only_if_a_budget_applies_to_it_alone(database) {
        let cli = Cli::on(database).await;
        let per_month = ["--limit", "1000tokens", "--per", "month"];
        cli.succeeds(&[&["budget", "set", "all"][..], &per_month].concat());
        let start = |number: u64| {
            let script = format!(
                "runtrail exec --id inner-{number} --skill inner --budget 500tokens -- \
                sh -c 'echo started; while ! test -e go-{number}; do sleep 0.02; done'"
            );
            let id = format!("outer-{number}");
            cli.spawn_exec(&["--id", &id, "--budget", "450tokens", "--", "sh", "-c", &script])
        };
        let finish = async |number: u64, mut program: std::process::Child| {
            let (run, inner) = (format!("below-{number}"), format!("inner-{number}"));
            cli.store.start_run(&child(&run, &inner)).await.unwrap();
            let call = event(&run, 0).usage(Usage::new().input_tokens(20));
            cli.store.append_logs(&[call]).await.unwrap();
            cli.store.finish_run(&run, &stats()).await.unwrap();
            std::fs::write(cli.path(&format!("go-{number}")), "").unwrap();
            assert!(ended(&mut program).success());
        };
        let program = start(1);
        cli.wait_for_events("inner-1", 1).await;
        assert_eq!(counted(&cli, "all").await, [0, 450]);
        finish(1, program).await;
        assert_eq!(counted(&cli, "all").await, [20, 0]);

        let of_inner = ["budget", "set", "inner", "--skill", "inner"];
        cli.succeeds(&[&of_inner[..], &per_month].concat());
        let program = start(2);
        cli.wait_for_events("inner-2", 1).await;
        assert_eq!(counted(&cli, "all").await, [20, 950]);
        assert_eq!(counted(&cli, "inner").await, [0, 500]);
        finish(2, program).await;
        assert_eq!(counted(&cli, "inner").await, [20, 0]);
        // It counts twice here.
        assert_eq!(counted(&cli, "all").await, [60, 0]);
    }

    async fn a_run_that_cannot_start_reserves_nothing(database) {
        let cli = Cli::on(database).await;
        cli.succeeds(&["budget", "set", "all", "--limit", "2usd", "--per", "day"]);
        cli.store.start_run(&running("r")).await.unwrap();
        let message = cli.fails(1, &["exec", "--id", "r", "--budget", "1usd", "--", "true"]);
        assert!(message.contains("already exists"), "{message}");
        assert_eq!(counted(&cli, "all").await, [0, 0]);
        let both = cli.output(&["exec", "--keep-going", "--budget", "1usd", "--", "true"]);
        assert_eq!(both.status.code(), Some(2));
    }

    async fn a_sweep_releases_what_a_killed_exec_has_reserved(database) {
        let cli = Cli::on(database).await;
        cli.succeeds(&["budget", "set", "all", "--limit", "2usd", "--per", "day"]);
        let script = "echo started; sleep 20";
        let mut program =
            cli.spawn_exec(&["--id", "r", "--budget", "1usd", "--", "sh", "-c", script]);
        cli.wait_for_events("r", 1).await;
        cli.succeeds(&["sweep"]);
        assert_eq!(counted(&cli, "all").await, [0, 1_000_000]);
        program.kill().unwrap();
        program.wait().unwrap();
        let db = database.connection().await;
        for _ in 0..20 {
            // A heartbeat that was sent before the kill may still arrive.
            execute(&db, "UPDATE runtrail_owners SET last_seen_at = 1").await;
            cli.succeeds(&["sweep"]);
            if counted(&cli, "all").await == [0, 0] {
                assert_eq!(cli.run("r").await.status, RunStatus::INTERRUPTED);
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the reservation was never released");
    }
}
