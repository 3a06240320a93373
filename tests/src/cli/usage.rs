//! The usage of models in `show` and `tree`.

use runtrail_audit::{BulkStorage, RunStats, Storage, Usage};

use crate::fixture::*;

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

on_each_backend! {
    async fn usage_is_shown_by_model_and_added_up_in_a_tree(database) {
        let cli = Cli::on(database).await;
        let store = database.store().await;
        store.start_run(&running("parent")).await.unwrap();
        store.start_run(&child("first", "parent")).await.unwrap();
        store.start_run(&child("second", "parent")).await.unwrap();
        let call = |model: &str, input, output| {
            let usage = Usage::new().provider("anthropic").model(model);
            usage.input_tokens(input).output_tokens(output)
        };
        let events = [
            event("parent", 0).usage(call("large", 1_000, 200).thinking_tokens(150)),
            event("first", 0).usage(call("large", 2_000, 100).cache_read_tokens(1_500)),
            event("first", 1).usage(call("large", 2_000, 100).cost_micros(12_300)),
            event("first", 2).usage(call("small", 10, 1).cost_micros(2_000_000)),
        ];
        store.append_logs(&events).await.unwrap();
        // The events count, not the totals that the host reports; without events, those count.
        for id in ["parent", "first", "second"] {
            let stats = RunStats::new("ok").input_tokens(7).output_tokens(8);
            store.finish_run(id, &stats).await.unwrap();
        }

        let shown = cli.succeeds(&["show", "first"]);
        let (_, table) = shown.split_once("Usage\n").unwrap();
        let lines: Vec<_> = table.lines().map(words).collect();
        assert_eq!(lines[1], ["large", "anthropic", "2", "4,000", "1,500", "200", "0", "$0.0123"]);
        assert_eq!(lines[2], ["small", "anthropic", "1", "10", "0", "1", "0", "$2.00"]);
        let shown = cli.succeeds(&["show", "parent"]);
        assert!(!shown.contains('$'), "no cost was reported: {shown}");
        assert!(!cli.succeeds(&["show", "second"]).contains("Usage"));
        let json = &cli.json(&["show", "--json", "first"])[0]["usage"];
        assert_eq!(json[0]["input_tokens"], 4_000);
        assert_eq!(json[0]["calls_without_cost"], 1);

        let tree = cli.json(&["tree", "--json", "parent"]);
        let sums = &tree[0]["subtree"];
        assert_eq!(sums["total_input_tokens"], 1_000 + 4_010 + 7);
        assert_eq!(sums["total_output_tokens"], 200 + 201 + 8);
        assert_eq!(sums["total_thinking_tokens"], 150);
        let tree = cli.succeeds(&["tree", "parent"]);
        let lines: Vec<_> = tree.lines().map(words).collect();
        assert!(lines[1].ends_with(&["5.4k", "≥$2.0123"]), "{tree}");
    }
}
