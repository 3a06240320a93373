use chrono::{DateTime, Utc};
use runtrail_audit::{BulkStorage, RunStatus, Storage, Usage};
use serde_json::{Value, json};

use crate::fixture::*;

/// Runs of two skills on three days in Berlin. The second one has 25 hours there.
async fn three_days(cli: &Cli) {
    for (number, skill, start) in [
        (0, "fetch", "2026-10-24T10:00:00Z"),
        // Both on the 25th in Berlin, and on the 24th and the 25th in UTC.
        (1, "fetch", "2026-10-24T22:30:00Z"),
        (2, "send", "2026-10-25T22:30:00Z"),
        (3, "fetch", "2026-10-26T10:00:00Z"),
        (4, "fetch", "2026-10-26T11:00:00Z"),
    ] {
        let start: DateTime<Utc> = start.parse().unwrap();
        let run = with(finished_at(&format!("run-{number}"), 0), |run| {
            run.skill_id = skill.into();
            run.started_at = start;
            run.finished_at = Some(start);
            run.runtime_seconds = f64::from(number);
        });
        let run = match number {
            1 => run.status(RunStatus::ERROR),
            2 => run.label("env", "prod"),
            _ => run,
        };
        cli.store.start_run(&run).await.unwrap();
        let usage = Usage::new()
            .model("large")
            .provider("p")
            .input_tokens(1_000);
        let usage = match number {
            4 => usage.cost_micros(2_500_000),
            _ => usage,
        };
        let call = event(&run.id, 0).usage(usage).created_at(start);
        cli.store.append_logs(&[call]).await.unwrap();
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

on_each_backend! {
    async fn stats_show_runs_calls_and_a_trend_for_each_group(database) {
        let cli = Cli::on(database).await;
        three_days(&cli).await;
        let stats = |arguments: &[&str]| {
            let shown = cli.succeeds(&[&["stats"], arguments].concat());
            let lines = shown.lines().map(|line| words(line).join(" "));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(
            stats(&["--by", "skill"]),
            [
                "GROUP RUNS FAILED TOOLS P50 P90 P95 P99 CALLS INPUT CACHED OUTPUT COST",
                "fetch 4 1 16 1.0s 4.0s 4.0s 4.0s 4 4.0k 0 0 $2.50",
                "send 1 0 4 2.0s 2.0s 2.0s 2.0s 1 1.0k 0 0",
            ]
        );
        // Midnight in Berlin is at 22:00 UTC, and then at 23:00.
        let by_day = [
            "--by", "skill", "--every", "1d", "--time-zone", "Europe/Berlin", "--since",
            "2026-10-24", "--until", "2026-10-26T20:00:00Z",
        ];
        let trends: Vec<_> = stats(&by_day)
            .iter()
            .map(|line| words(line).last().unwrap().to_string())
            .collect();
        assert_eq!(trends, ["TREND", "▅▅█", "▁█▁"]);
        assert_eq!(stats(&[])[1], "all 5 1 20 2.0s 4.0s 4.0s 4.0s 5 5.0k 0 0 $2.50");
        assert_eq!(
            stats(&["--by", "model,provider"]),
            ["GROUP CALLS INPUT CACHED OUTPUT COST", "large, p 5 5.0k 0 0 $2.50"]
        );
        let by_label = stats(&["--by", "label:env", "--by", "status"]);
        let groups: Vec<_> = by_label[1..].iter().map(|line| words(line)[..3].join(" ")).collect();
        assert_eq!(groups, ["–, ok 3", "–, error 1", "prod, ok 1"]);
        assert_eq!(stats(&["--by", "skill", "--top", "1"])[1..].len(), 1);
        assert_eq!(stats(&["--by", "skill", "--skill", "send"])[1..].len(), 1);
        assert!(stats(&["--by", "skill", "--last", "2"])[1].starts_with("fetch 2 0"));
        assert_eq!(stats(&["--caller", "nobody", "--every", "1h"]).len(), 1);
    }

    async fn json_has_a_line_for_each_group_and_period(database) {
        let cli = Cli::on(database).await;
        three_days(&cli).await;
        let lines = cli.json(&["stats", "--json", "--by", "skill"]);
        let percentiles = |micros: [u64; 4]| {
            let [p50, p90, p95, p99] = micros;
            json!({"p50_micros": p50, "p90_micros": p90, "p95_micros": p95, "p99_micros": p99})
        };
        let expected = json!({
            "group": {"skill": "send"},
            "bucket": null,
            "runs": 1,
            "finished": 1,
            "failed": 0,
            "tool_calls": 4,
            "runtime": {
                "count": 1,
                "sum_micros": 2_000_000,
                "percentiles": percentiles([2_000_000; 4]),
            },
            "calls": 1,
            "input_tokens": 1_000,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "output_tokens": 0,
            "thinking_tokens": 0,
            "cost_micros": 0,
            "calls_without_cost": 1,
            "duration": {"count": 0, "sum_micros": 0, "percentiles": null},
        });
        assert_eq!(lines[1], expected);
        let millions = |number: u64| number * 1_000_000;
        assert_eq!(lines[0]["runtime"]["percentiles"], percentiles([1, 4, 4, 4].map(millions)));

        let buckets = |arguments: &[&str]| {
            let lines = cli.json(&[&["stats", "--json"], arguments].concat());
            let bucket = |line: &Value| {
                let start = line["bucket"].as_str().unwrap();
                (start.to_owned(), line["runs"].as_u64().unwrap())
            };
            lines.iter().map(bucket).collect::<Vec<_>>()
        };
        let bucket = |start: &str, runs: u64| (format!("2026-10-{start}:00:00.000000Z"), runs);
        assert_eq!(
            buckets(&["--every", "1d", "--time-zone", "Europe/Berlin"]),
            [bucket("23T22", 1), bucket("24T22", 2), bucket("25T23", 2)]
        );
        assert_eq!(
            buckets(&["--every", "1d"]),
            [bucket("24T00", 2), bucket("25T00", 1), bucket("26T00", 2)]
        );
        assert_eq!(buckets(&["--every", "1month"]), [("2026-10-01T00:00:00.000000Z".into(), 5)]);
        let local = ["stats", "--json", "--every", "1d", "--time-zone", "local"];
        let output = cli.command(&local).env("TZ", "America/New_York").output().unwrap();
        let first: Value = serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap();
        assert_eq!(first["bucket"], "2026-10-24T04:00:00.000000Z");
        let by_model = cli.json(&["stats", "--json", "--by", "model"]);
        assert_eq!(by_model[0]["group"], json!({"model": "large"}));
        assert_eq!(by_model[0]["calls"], 5);
        assert_eq!(by_model[0].get("runs"), None);
    }

    async fn invalid_statistics_are_usage_errors(database) {
        let cli = Cli::on(database).await;
        three_days(&cli).await;
        for arguments in [
            &["--by", "moon"][..],
            &["--by", "label:"],
            &["--every", "1"],
            &["--every", "d"],
            &["--every", "1 fortnight"],
            &["--time-zone", "Europe/Atlantis"],
        ] {
            let output = cli.output(&[&["stats"], arguments].concat());
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        }
        for (every, reason) in [("1m", "10,000"), ("0d", "out of range"), ("25h", "out of range")] {
            let message = cli.fails(2, &["stats", "--every", every]);
            assert!(message.contains(reason), "{message}");
        }
        let message = cli.fails(2, &["stats", "--every", "1d", "--since", "1000000y"]);
        assert!(message.contains("years 0 to 9999"), "{message}");
    }
}
