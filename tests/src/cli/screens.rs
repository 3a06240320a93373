//! Compares screens with golden files, at two widths.
//!
//! After an intended change: `RUNTRAIL_UPDATE_GOLDEN=1 cargo xtask test screens`.

use std::fs;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use runtrail_audit::{BulkStorage, RunStatus, SkillRun, SkillRunLog, Storage, Usage, rfc3339};
use serde_json::json;

use crate::fixture::*;

/// A history of one morning. Every age is some minutes and 20 s, so no printed age changes during
/// the test.
struct Morning {
    now: DateTime<Utc>,
}

const TOP: &str = "01a20cf6-c87f-7512-a41b-d8e0257f01e1";
const CHILD: &str = "01a20cf7-0101-7abc-8f00-000000000001";

const PRICES: &str = r#"{"prices": [{"model": "claude-sonnet*", "input": 0.5, "output": 15}]}"#;

impl Morning {
    async fn record(cli: &Cli) -> Self {
        let now = Utc::now();
        let ago = |minutes: i64| now - TimeDelta::seconds(minutes * 60 + 20);
        let top = with(SkillRun::new(TOP, "", now), |run| {
            run.skill_id = "plan-trip".into();
            run.caller_id = "alice@example.com".into();
            run.channel_id = "cli".into();
            run.inputs = object(json!({
                "goal": "three days in Lisbon, with a museum on each of them and no more than two \
                    flights in total",
                "budget": 1200,
            }));
            run.started_at = ago(125);
            run.finished_at = Some(ago(122));
            run.status = RunStatus::OK;
            run.output = "Day 1: Museu do Azulejo\nDay 2: Gulbenkian\nDay 3: MAAT, and a walk \
                along the river to the tower, which is open until seven in the evening"
                .into();
            run.tool_calls = 14;
            run.runtime_seconds = 192.4;
            run.total_input_tokens = 1_204_311;
            run.total_output_tokens = 8_214;
            run.total_thinking_tokens = 22_000;
        });
        let child = with(SkillRun::new(CHILD, "", now), |run| {
            run.skill_id = "search-flights".into();
            run.parent_run_id = Some(TOP.into());
            run.started_at = ago(124);
            run.finished_at = Some(ago(123));
            run.status = RunStatus::ERROR;
            run.error = "exit code 3".into();
            run.tool_calls = 3;
            run.runtime_seconds = 0.482;
            run.total_input_tokens = 5_310;
            run.total_output_tokens = 120;
        });
        let others = [
            with(
                SkillRun::new("01a20cf7-0101-7abc-8f00-000000000002", "", now),
                |run| {
                    run.skill_id = "search-hotels-with-a-name-that-is-longer-than-most".into();
                    run.parent_run_id = Some(TOP.into());
                    run.started_at = ago(123);
                    run.finished_at = Some(ago(122));
                    run.status = RunStatus::TIMEOUT;
                    run.runtime_seconds = 3_725.0;
                },
            ),
            with(
                SkillRun::new("01a20cf7-0101-7abc-8f00-000000000003", "", now),
                |run| {
                    run.skill_id = "rank".into();
                    run.parent_run_id = Some(CHILD.into());
                    run.started_at = ago(123);
                    run.finished_at = Some(ago(123) + TimeDelta::milliseconds(1_540));
                    run.status = RunStatus::from("cancelled");
                },
            ),
            with(
                SkillRun::new("nightly/42", "back\u{1b}[31mup\u{202E}\n", now),
                |run| {
                    run.caller_id = "bob".into();
                    run.started_at = now - TimeDelta::days(800);
                },
            ),
        ];
        for run in [&top, &child].into_iter().chain(&others) {
            cli.store.start_run(run).await.unwrap();
        }
        let events = [
            ("user", json!({"text": "three days in Lisbon"})),
            (
                "tool_call",
                json!({
                    "tool": "search_flights",
                    "arguments": {"to": "LIS", "nights": [1, 2, 3], "class": "economy"},
                }),
            ),
            (
                "stdout",
                json!({"text": "\u{1b}[32mgreen\u{1b}[0m and\ttabbed\u{7}"}),
            ),
            ("stdout", json!({"base64": "//79", "newline": false})),
        ];
        let event = |(sequence, (event_type, payload)): (usize, (&str, serde_json::Value))| {
            SkillRunLog::new(TOP, sequence as u64, event_type, payload)
                .created_at(at(sequence as i64))
        };
        let mut events: Vec<_> = events.into_iter().enumerate().map(event).collect();
        let usage = Usage::new()
            .provider("anthropic")
            .model("claude-sonnet-4-5")
            .input_tokens(12_400)
            .cache_read_tokens(11_000)
            .output_tokens(310)
            .cost_micros(9_120);
        events.push(
            SkillRunLog::new(
                TOP,
                4,
                "model_call",
                json!({"text": "Day 1: Museu do Azulejo"}),
            )
            .created_at(at(4))
            .duration(Duration::from_millis(2_340))
            .usage(usage),
        );
        cli.store.append_logs(&events).await.unwrap();
        Self { now }
    }

    /// Returns a screen in which every full timestamp is replaced by a fixed one of the same
    /// length.
    fn screen(&self, cli: &Cli, width: u32, arguments: &[&str]) -> String {
        let mut command = cli.command(arguments);
        // The published prices change with time.
        let prices = cli.path("prices.json");
        fs::write(&prices, PRICES).unwrap();
        command.env("RUNTRAIL_PRICES", prices);
        let output = command.env("COLUMNS", width.to_string()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let mut screen = stdout(&output);
        for minutes in 0..200 {
            let time = self.now - TimeDelta::seconds(minutes * 60 + 20);
            screen = screen.replace(&rfc3339::text(time), "2026-11-24T09:30:00.123456Z");
        }
        screen
    }
}

on_each_backend! {
    async fn screens_match_the_golden_files(database) {
        let cli = Cli::on(database).await;
        let morning = Morning::record(&cli).await;
        for (name, arguments) in [
            ("list", &["list"][..]),
            ("show", &["show", TOP]),
            ("show-child", &["show", CHILD]),
            ("tree", &["tree", TOP]),
            ("logs", &["logs", TOP]),
            (
                "last",
                &["last", "plan-trip", "search-flights", "never-run"],
            ),
            ("chain", &["chain", "01a20cf7-0101-7abc-8f00-000000000003"]),
            ("stats", &["stats", "--by", "skill"]),
            ("stats-by-model", &["stats", "--by", "model,provider"]),
        ] {
            for width in [80, 140] {
                let screen = morning.screen(&cli, width, arguments);
                for line in screen.lines() {
                    assert!(
                        console::measure_text_width(line) <= width as usize,
                        "{name}, {width}: {line}"
                    );
                    assert!(
                        !line.contains(['\u{1b}', '\u{7}', '\u{202E}']),
                        "{name}: {line:?}"
                    );
                }
                assert_golden_file(&format!("screens/{name}-{width}.txt"), &screen);
            }
        }
    }

    async fn colours_are_off_in_a_pipe_unless_forced(database) {
        let cli = Cli::on(database).await;
        Morning::record(&cli).await;
        let list = |variables: &[(&str, &str)]| {
            let mut command = cli.command(&["list"]);
            stdout(&command.envs(variables.iter().copied()).output().unwrap())
        };
        let coloured = list(&[("CLICOLOR_FORCE", "1")]);
        for (status, colour) in [("ok", 32), ("error", 31), ("timeout", 33), ("running", 36)] {
            assert!(
                coloured.contains(&format!("\u{1b}[{colour}m{status}\u{1b}[0m")),
                "{coloured:?}"
            );
        }
        let plain = list(&[]);
        assert!(!plain.contains('\u{1b}'));
        assert_eq!(console::strip_ansi_codes(&coloured), plain);
        assert_eq!(list(&[("NO_COLOR", "1")]), plain);
    }

    async fn a_screen_of_any_width_is_printed(database) {
        let cli = Cli::on(database).await;
        let morning = Morning::record(&cli).await;
        for width in [1, 20, 60, 1_000] {
            for arguments in [
                &["list"][..],
                &["tree", TOP],
                &["show", TOP],
                &["logs", TOP],
            ] {
                morning.screen(&cli, width, arguments);
            }
        }
        for arguments in [&["list"][..], &["tree", TOP]] {
            let screen = morning.screen(&cli, 50, arguments);
            assert_golden_file(&format!("screens/{}-50.txt", arguments[0]), &screen);
        }
    }
}
