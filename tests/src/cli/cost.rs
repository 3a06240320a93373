//! `runtrail cost`, and costs in `show` and `tree`.

use runtrail_audit::{BulkStorage, RunStats, Storage, Usage};

use crate::fixture::*;

const PRICES: &str = r#"{"prices": [{"model": "large", "input": 3, "output": 15}]}"#;

fn words(text: &str) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect()
}

on_each_backend! {
    async fn costs_are_shown_as_reported_and_as_computed(database) {
        let cli = Cli::on(database).await;
        let store = database.store().await;
        store.start_run(&running("parent")).await.unwrap();
        store.start_run(&child("first", "parent")).await.unwrap();
        store.start_run(&child("second", "parent")).await.unwrap();
        let call = |model: &str| Usage::new().model(model).input_tokens(1_000).output_tokens(100);
        let events = [
            event("parent", 0).usage(call("large")),
            event("first", 0).usage(call("large").cost_micros(5_000)),
            event("second", 0).usage(call("unheard-of")),
        ];
        store.append_logs(&events).await.unwrap();
        for id in ["parent", "first", "second"] {
            store.finish_run(id, &RunStats::new("ok")).await.unwrap();
        }
        let file = cli.path("prices.json");
        std::fs::write(&file, PRICES).unwrap();
        let prices = ["--prices", file.to_str().unwrap()];
        let shown = |arguments: &[&str]| words(&cli.succeeds(&[arguments, &prices].concat()));

        assert_eq!(
            shown(&["cost"]),
            [
                "GROUP CALLS INPUT OUTPUT REPORTED COMPUTED UNPRICED",
                "large 2 2.0k 200 $0.005 $0.009",
                "unheard-of 1 1.0k 100 – – 1",
            ]
        );
        let by_day = shown(&["cost", "--by", "skill", "--every", "1d"]);
        assert!(by_day[0].ends_with("UNPRICED TREND"), "{by_day:?}");
        assert!(by_day[1].starts_with("skill 3 3.0k 300 $0.005 $0.009 1 "), "{by_day:?}");
        assert!(by_day[1].ends_with('█'), "{by_day:?}");
        let json = cli.json(&[&["cost", "--json"][..], &prices].concat());
        assert_eq!(json[0]["group"]["model"], "large");
        assert_eq!(json[0]["computed_micros"], 9_000);
        assert_eq!(json[1]["unpriced_calls"], 1);

        // Without a price file, `large` has no price either.
        assert_eq!(words(&cli.succeeds(&["cost"]))[1], "large 2 2.0k 200 $0.005 – 2");

        let usage = shown(&["show", "parent"]);
        assert!(usage.contains(&"large 1 1,000 0 100 0 $0.0045".to_owned()), "{usage:?}");
        let json = cli.json(&[&["show", "--json", "parent"][..], &prices].concat());
        assert_eq!(json[0]["usage"][0]["computed_micros"], 4_500);
        let tree = shown(&["tree", "parent"]);
        assert!(tree[0].ends_with("Σ COST"), "{tree:?}");
        // The reported cost of the first child takes precedence.
        assert!(tree[1].ends_with("≥$0.0095"), "{tree:?}");
        assert!(tree[2].ends_with("$0.005"), "{tree:?}");
        let json = cli.json(&[&["tree", "--json", "parent"][..], &prices].concat());
        assert_eq!(json[0]["subtree"]["cost_micros"], 9_500);
        assert_eq!(json[0]["subtree"]["calls_with_unknown_cost"], 1);
    }

    async fn a_price_file_that_cannot_be_used_is_refused(database) {
        let cli = Cli::on(database).await;
        let missing = cli.fails(1, &["cost", "--prices", "/nowhere/prices.json"]);
        assert!(missing.contains("/nowhere/prices.json"), "{missing}");
        let file = cli.path("prices.json");
        std::fs::write(&file, r#"{"prices": [{"model": "a", "input": -1, "output": 1}]}"#).unwrap();
        let refused = cli.fails(1, &["cost", "--prices", file.to_str().unwrap()]);
        assert!(refused.contains("the price file can't be read: a price must be"), "{refused}");
    }
}
