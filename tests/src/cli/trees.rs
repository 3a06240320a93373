use runtrail_audit::Storage;
use runtrail_entity::skill_run;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::fixture::*;

/// Inserts a run `0` with this many descendants, in which run `n` has the parent `parent(n)`.
/// Bypasses the store, which would be slow.
async fn insert_tree(database: &TestDatabase, runs: u64, parent: impl Fn(u64) -> u64) {
    let db = database.connection().await;
    let row = |number: u64| skill_run::Model {
        id: number.to_string(),
        skill_id: "skill".into(),
        caller_id: String::new(),
        channel_id: String::new(),
        parent_run_id: (number > 0).then(|| parent(number).to_string()),
        started_at: at(0).timestamp_micros() + number as i64,
        finished_at: Some(at(5).timestamp_micros()),
        status: "ok".into(),
        tool_calls: 1,
        runtime_seconds: 0.5,
        total_input_tokens: 1,
        total_output_tokens: 2,
        total_thinking_tokens: 3,
        inputs: "{}".into(),
        output: "x".repeat(2_000),
        error: String::new(),
        owner_id: None,
        labels: None,
    };
    let rows: Vec<_> = (0..=runs)
        .map(|number| row(number).into_active_model())
        .collect();
    for chunk in rows.chunks(500) {
        skill_run::Entity::insert_many(chunk.to_vec())
            .exec_without_returning(&db)
            .await
            .unwrap();
    }
    // A server does this by itself after a while. Until then, PostgreSQL reads the whole table for
    // each level of a tree.
    execute(&db, "ANALYZE").await;
}

fn depths(lines: &[Value]) -> Vec<(&str, u64)> {
    let depth = |line: &Value| line["depth"].as_u64().unwrap();
    lines
        .iter()
        .map(|line| (line["id"].as_str().unwrap(), depth(line)))
        .collect()
}

on_each_backend! {
    async fn a_tree_shows_parents_before_children_and_siblings_by_start_time(database) {
        let cli = Cli::on(database).await;
        for (id, parent, second) in [
            ("top", "above", 0),
            ("b", "top", 3),
            ("a", "top", 4),
            ("b1", "b", 5),
            ("b2", "b", 6),
            ("a1", "a", 5),
        ] {
            let run = with(finished_at(id, 9), |run| {
                run.started_at = at(second);
                run.parent_run_id = Some(parent.into());
            });
            cli.store.start_run(&run).await.unwrap();
        }
        let tree = cli.json(&["tree", "--json", "top"]);
        assert_eq!(
            depths(&tree),
            [
                ("top", 0),
                ("b", 1),
                ("b1", 2),
                ("b2", 2),
                ("a", 1),
                ("a1", 2)
            ]
        );
        assert_eq!(
            tree[0]["subtree"],
            json!({
                "runs": 6, "tool_calls": 24, "runtime_seconds": 7.5, "total_input_tokens": 600,
                "total_output_tokens": 1200, "total_thinking_tokens": 1800, "cost_micros": 0,
                "calls_with_unknown_cost": 0,
            })
        );
        assert_eq!(tree[1]["subtree"]["runs"], 3);
        assert_eq!(tree[2]["subtree"]["tool_calls"], 4);
        assert_eq!(tree[2]["parent_run_id"], "b");
    }

    async fn a_tree_shows_each_run_of_a_cycle_once(database) {
        let cli = Cli::on(database).await;
        for (id, parent) in [("a", "c"), ("b", "a"), ("c", "b"), ("self", "self")] {
            cli.store.start_run(&child(id, parent)).await.unwrap();
        }
        assert_eq!(
            depths(&cli.json(&["tree", "--json", "b"])),
            [("b", 0), ("c", 1), ("a", 2)]
        );
        assert_eq!(
            depths(&cli.json(&["tree", "--json", "self"])),
            [("self", 0)]
        );
        assert_eq!(cli.succeeds(&["tree", "a"]).lines().count(), 4);
    }

    async fn descendants_of_a_damaged_run_stay_in_the_tree(database) {
        let cli = Cli::on(database).await;
        for run in [
            running("top"),
            child("damaged", "top"),
            child("below", "damaged"),
            child("deep", "below"),
        ] {
            cli.store.start_run(&run).await.unwrap();
        }
        let db = database.connection().await;
        execute(
            &db,
            "UPDATE skill_runs SET tool_calls = -1 WHERE id = 'damaged'",
        )
        .await;
        let output = cli.output(&["tree", "--json", "top"]);
        let lines: Vec<Value> = stdout(&output)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(depths(&lines), [("top", 0), ("below", 1), ("deep", 2)]);
        assert!(stderr(&output).contains("damaged"));
    }

    async fn ten_thousand_descendants_are_shown(database) {
        let cli = Cli::on(database).await;
        insert_tree(database, 10_000, |number| number / 3).await;
        for arguments in [&["tree", "0"][..], &["tree", "--json", "0"]] {
            let printed = cli.succeeds(arguments);
            assert_eq!(
                printed
                    .lines()
                    .filter(|line| !line.starts_with("RUN"))
                    .count(),
                10_001
            );
        }
        assert_eq!(
            cli.json(&["tree", "--json", "0"])[0]["subtree"]["tool_calls"],
            10_001
        );
    }

    async fn a_chain_of_ten_thousand_runs_is_shown_as_a_tree(database) {
        let cli = Cli::on(database).await;
        insert_tree(database, 10_000, |number| number - 1).await;
        let tree = cli.json(&["tree", "--json", "0"]);
        assert_eq!(tree[10_000]["depth"], 10_000);
        assert_eq!(tree[1]["subtree"]["runs"], 10_000);
        let screen = cli.succeeds(&["tree", "0"]);
        assert!(screen.len() < 2 << 20, "{} bytes", screen.len());
        assert!(screen.lines().last().unwrap().starts_with("(10000) 10000"));
    }
}
