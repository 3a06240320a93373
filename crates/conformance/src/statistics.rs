//! Statistics of runs and of calls.

use std::time::Duration;

use chrono::{FixedOffset, TimeZone};
use runtrail_audit::{
    BucketWidth, Buckets, CallStatistics, Dimension, Durations, RunQuery, RunStatistics, RunStatus,
    SkillRun, StatisticsQuery, StatisticsRow, Usage,
};

use crate::support::*;

/// A run with this outcome, started at this second.
fn finished(id: &str, skill: &str, seconds: i64, status: RunStatus) -> SkillRun {
    with(finished_at(id, seconds + 9), |run| {
        run.skill_id = skill.into();
        run.started_at = at(seconds);
        run.status = status;
    })
}

fn all() -> StatisticsQuery {
    StatisticsQuery::of(RunQuery::new())
}

/// Each row's group, and a number of it.
fn by_group<T>(
    rows: &[StatisticsRow<T>],
    number: impl Fn(&T) -> u64,
) -> Vec<(Vec<Option<&str>>, u64)> {
    let mut groups = Vec::new();
    for row in rows {
        let group = row.group.iter().map(Option::as_deref).collect();
        groups.push((group, number(&row.values)));
    }
    groups
}

cases! {
    ($) History, statistics_cases: statistics

    async fn runs_are_counted_and_added_up(cx) {
        for run in [
            finished("a", "s", 0, RunStatus::OK),
            finished("b", "s", 1, RunStatus::ERROR),
            finished("c", "s", 2, RunStatus::TIMEOUT),
            with(finished("d", "s", 3, RunStatus::OK), |run| run.runtime_seconds = 0.000_000_5),
            with(running("e"), |run| run.skill_id = "s".into()),
            finished("hidden", "s", 4, RunStatus::DRY_RUN),
        ] {
            cx.store.start_run(&run).await.unwrap();
        }
        let expected = with(RunStatistics::default(), |statistics| {
            statistics.runs = 5;
            statistics.finished = 4;
            statistics.failed = 2;
            statistics.tool_calls = 16;
            statistics.runtime = Durations::of(vec![1_250_000, 1_250_000, 1_250_000, 1]);
        });
        let rows = cx.store.run_statistics(&all()).await.unwrap();
        assert_eq!(rows, [StatisticsRow::new(vec![], expected)]);
        let dry = StatisticsQuery::of(RunQuery::new().include_dry_run());
        assert_eq!(cx.store.run_statistics(&dry).await.unwrap()[0].values.runs, 6);
        let none = StatisticsQuery::of(RunQuery::new().skills(["unknown"]));
        assert_eq!(cx.store.run_statistics(&none).await.unwrap(), []);
        assert_eq!(cx.store.call_statistics(&none).await.unwrap(), []);
    }

    async fn runs_are_grouped_by_every_dimension_of_a_run(cx) {
        let run = |id: &str, skill: &str, caller: &str| {
            finished(id, skill, 0, RunStatus::OK).caller(caller)
        };
        for run in [
            run("a", "s", "x").label("env", "prod"),
            run("b", "s", "y").label("env", "dev").label("team", "blue"),
            run("c", "t", "x"),
            run("d", "\u{1F600}", "x").channel("cron").label("env", "prod"),
            run("e", "Z", "x").status(RunStatus::ERROR),
        ] {
            cx.store.start_run(&run).await.unwrap();
        }
        let by = async |dimensions: &[Dimension]| {
            let query = all().group_by(dimensions.iter().cloned());
            cx.store.run_statistics(&query).await.unwrap()
        };
        let rows = by(&[Dimension::Skill]).await;
        let groups = by_group(&rows, |runs| runs.runs);
        let skills = [("Z", 1), ("s", 2), ("t", 1), ("\u{1F600}", 1)];
        assert_eq!(groups, skills.map(|(skill, runs)| (vec![Some(skill)], runs)));
        let rows = by(&[Dimension::Caller, Dimension::Channel]).await;
        let groups = by_group(&rows, |runs| runs.runs);
        let expected = [("x", "channel", 3), ("x", "cron", 1), ("y", "channel", 1)];
        let expected = expected.map(|(caller, channel, runs)| {
            (vec![Some(caller), Some(channel)], runs)
        });
        assert_eq!(groups, expected);
        let rows = by(&[Dimension::Status]).await;
        assert_eq!(
            by_group(&rows, |runs| runs.failed),
            [(vec![Some("error")], 1), (vec![Some("ok")], 0)]
        );
        let rows = by(&[Dimension::Label("env".into()), Dimension::Label("team".into())]).await;
        let expected = [
            (vec![None, None], 2),
            (vec![Some("dev"), Some("blue")], 1),
            (vec![Some("prod"), None], 2),
        ];
        assert_eq!(by_group(&rows, |runs| runs.runs), expected);
    }

    async fn statistics_are_about_the_runs_that_a_list_would_have(cx) {
        for number in 0..40 {
            let status = match number % 4 {
                0 => RunStatus::ERROR,
                1 => RunStatus::DRY_RUN,
                _ => RunStatus::OK,
            };
            let run = finished(&format!("r-{number}"), &format!("s-{}", number % 3), number, status)
                .label("env", if number % 2 == 0 { "prod" } else { "dev" });
            cx.store.start_run(&run).await.unwrap();
            let call = event(&run.id, 0).usage(Usage::new().input_tokens(1));
            cx.store.append_log(&call).await.unwrap();
        }
        let query = RunQuery::new;
        for query in [
            query(),
            query().include_dry_run(),
            query().skills(["s-0", "s-1"]),
            query().statuses(["error", "ok"]).except_skills(["s-2"]),
            query().started(at(3)..=at(20)),
            query().label("env", "prod"),
            query().label_in("env", ["prod", "dev", "prod"]).skills(["s-1"]),
            query().except_label("env", ["prod"]),
            query().id_prefix("r-1"),
            query().top_level_only(),
            query().callers(Vec::<String>::new()),
        ] {
            let count = cx.store.count_runs_by_query(&query).await.unwrap();
            let statistics = StatisticsQuery::of(query.clone()).group_by([Dimension::Caller]);
            let rows = cx.store.run_statistics(&statistics).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.values.runs).sum::<u64>(), count, "{query:?}");
            let rows = cx.store.call_statistics(&statistics).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.values.calls).sum::<u64>(), count, "{query:?}");
        }
    }

    async fn runs_are_divided_by_their_start(cx) {
        const HOUR: i64 = 3_600;

        // In local time: 23:59 on the 1st, 0:00 and 23:59 on the 2nd, and the 5th.
        for (id, seconds) in [("a", 14 * HOUR - 60), ("b", 14 * HOUR), ("c", 38 * HOUR - 1)] {
            cx.store.start_run(&running_at(id, seconds)).await.unwrap();
        }
        cx.store.start_run(&running_at("d", 100 * HOUR)).await.unwrap();
        let zone = FixedOffset::east_opt(2 * 3_600).unwrap();
        let days = Buckets::every(BucketWidth::Days(1), &zone, at(HOUR), at(90 * HOUR)).unwrap();
        let counts = async |query: StatisticsQuery| {
            let rows = cx.store.run_statistics(&query).await.unwrap();
            let count = |row: &StatisticsRow<RunStatistics>| (row.bucket, row.values.runs);
            rows.iter().map(count).collect::<Vec<_>>()
        };
        let day = |day| Some(zone.with_ymd_and_hms(2026, 11, day, 0, 0, 0).unwrap().to_utc());
        assert_eq!(counts(all().buckets(days)).await, [(day(1), 1), (day(2), 2), (day(5), 1)]);

        // Buckets of any width. The first one doesn't include the oldest run.
        let starts = [at(14 * HOUR), at(14 * HOUR + 1), at(38 * HOUR - 1), at(200 * HOUR)];
        let buckets = Buckets::starting_at(starts).unwrap();
        assert_eq!(
            counts(all().buckets(buckets)).await,
            [(None, 1), (Some(starts[0]), 1), (Some(starts[2]), 2)]
        );
        let one = Buckets::starting_at([at(14 * HOUR)]).unwrap();
        assert_eq!(counts(all().buckets(one)).await, [(None, 1), (Some(starts[0]), 3)]);
    }

    async fn thousands_of_irregular_buckets_are_accepted(cx) {
        let mut starts = vec![at(0)];
        for number in 1..Buckets::MAX as i64 {
            starts.extend(starts.last().map(|last| *last + chrono::TimeDelta::seconds(number)));
        }
        let last = starts[Buckets::MAX - 1];
        cx.store.start_run(&running_at("a", 0)).await.unwrap();
        cx.store.start_run(&with(running("b"), |run| run.started_at = last)).await.unwrap();
        let buckets = Buckets::starting_at(starts).unwrap();
        let rows = cx.store.run_statistics(&all().buckets(buckets)).await.unwrap();
        let found: Vec<_> = rows.iter().map(|row| row.bucket).collect();
        assert_eq!(found, [Some(at(0)), Some(last)]);
    }

    async fn statistics_can_be_limited_to_the_newest_runs_of_each_skill(cx) {
        for (id, skill, seconds) in
            [("a", "s", 0), ("b", "s", 1), ("c", "s", 1), ("d", "s", 2), ("e", "t", 0)]
        {
            let run = with(finished(id, skill, seconds, RunStatus::OK), |run| {
                run.tool_calls = 10_u64.pow(u32::from(id.as_bytes()[0] - b'a'));
            });
            cx.store.start_run(&run).await.unwrap();
            let call = event(id, 0).usage(Usage::new().input_tokens(run.tool_calls));
            cx.store.append_log(&call).await.unwrap();
        }
        let of_newest = async |runs: RunQuery, count: u64| {
            let query = StatisticsQuery::of(runs).last_per_skill(count);
            let query = query.group_by([Dimension::Skill]);
            let calls = cx.store.call_statistics(&query).await.unwrap();
            let calls: Vec<_> = calls.iter().map(|row| row.values.input_tokens).collect();
            let runs = cx.store.run_statistics(&query).await.unwrap();
            let runs: Vec<_> = runs.iter().map(|row| row.values.tool_calls).collect();
            assert_eq!(calls, runs);
            runs
        };
        // Of runs with the same start, the one with the greater id is the newer one, as in lists.
        assert_eq!(of_newest(RunQuery::new(), 2).await, [1_100, 10_000]);
        assert_eq!(of_newest(RunQuery::new(), u64::MAX).await, [1_111, 10_000]);
        assert!(of_newest(RunQuery::new(), 0).await.is_empty());
        let older = RunQuery::new().started(..=at(1)).skills(["s", "t"]);
        assert_eq!(of_newest(older, 1).await, [100, 10_000]);
    }

    async fn calls_are_counted_and_added_up(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.start_run(&finished("dry", "s", 0, RunStatus::DRY_RUN)).await.unwrap();
        let usage = Usage::new()
            .provider("p")
            .model("m")
            .input_tokens(100)
            .cache_read_tokens(60)
            .cache_write_tokens(30)
            .output_tokens(20)
            .thinking_tokens(5);
        let events = [
            event("r", 0),
            event("r", 1).usage(usage.clone().cost_micros(7)).duration(Duration::from_millis(2)),
            event("r", 2).usage(usage.clone()).duration(Duration::from_millis(1)),
            event("r", 3).usage(Usage::new().cost_micros(0)),
            // Not a call of a model, and without a usage.
            event("r", 4).duration(Duration::from_secs(1)),
        ];
        cx.store.append_logs(&events).await.unwrap();
        cx.store.append_log(&event("dry", 0).usage(usage)).await.unwrap();
        let of_model = with(CallStatistics::default(), |calls| {
            calls.calls = 2;
            calls.input_tokens = 200;
            calls.cache_read_tokens = 120;
            calls.cache_write_tokens = 60;
            calls.output_tokens = 40;
            calls.thinking_tokens = 10;
            calls.cost_micros = 7;
            calls.calls_without_cost = 1;
            calls.duration = Durations::of(vec![1_000, 2_000]);
        });
        let unnamed = with(CallStatistics::default(), |calls| calls.calls = 1);
        let query = all().group_by([Dimension::Provider, Dimension::Model, Dimension::Skill]);
        let rows = cx.store.call_statistics(&query).await.unwrap();
        let group = |name: &str, model: &str| {
            vec![Some(name.to_owned()), Some(model.to_owned()), Some("skill".to_owned())]
        };
        let expected = [
            StatisticsRow::new(vec![None, None, Some("skill".into())], unnamed),
            StatisticsRow::new(group("p", "m"), of_model),
        ];
        assert_eq!(rows, expected);
    }

    async fn calls_are_divided_by_their_time_and_their_input_tokens(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let tokens = [Some(0), Some(199), Some(200), Some(999), Some(5_000), None];
        for (tokens, sequence) in tokens.into_iter().zip(0..) {
            let mut usage = Usage::new().model("m");
            usage.input_tokens = tokens;
            let event = event("r", sequence).usage(usage).created_at(at(sequence as i64));
            cx.store.append_log(&event).await.unwrap();
        }
        let query = all()
            .buckets(Buckets::starting_at([at(0), at(3)]).unwrap())
            .input_tiers([1_000, 200]);
        let rows = cx.store.call_statistics(&query).await.unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.bucket.unwrap(), row.input_tier, row.values.calls))
            .collect();
        let expected = [
            (at(0), None, 2),
            (at(0), Some(200), 1),
            (at(3), None, 1),
            (at(3), Some(200), 1),
            (at(3), Some(1_000), 1),
        ];
        assert_eq!(rows, expected);
    }

    async fn sums_are_exact_and_the_largest_numbers_can_be_added_up(cx) {
        let usage = |tokens| Usage::new().model("m").input_tokens(tokens);
        // A sum that a floating-point number can't represent.
        const ODD: u64 = (1 << 53) + 1;
        for (id, tokens) in [("a", ODD), ("b", i64::MAX as u64)] {
            let run = with(finished(id, id, 0, RunStatus::OK), |run| {
                run.tool_calls = tokens;
                run.runtime_seconds = f64::MAX;
            });
            cx.store.start_run(&run).await.unwrap();
            for sequence in 0..3 {
                let event = event(id, sequence)
                    .usage(usage(tokens))
                    .duration(Duration::from_micros(i64::MAX as u64));
                cx.store.append_log(&event).await.unwrap();
            }
        }
        let query = all().group_by([Dimension::Skill]);
        let calls = cx.store.call_statistics(&query).await.unwrap();
        let tokens: Vec<_> = calls.iter().map(|row| row.values.input_tokens).collect();
        assert_eq!(tokens, [3 * ODD, u64::MAX]);
        assert_eq!(calls[0].values.duration.sum_micros, u64::MAX);
        let of_a = StatisticsQuery::of(RunQuery::new().skills(["a"]));
        let calls = cx.store.call_statistics(&of_a).await.unwrap();
        assert_eq!(calls[0].values.input_tokens, 3 * ODD);
        let runs = cx.store.run_statistics(&all()).await.unwrap();
        assert_eq!(runs[0].values.tool_calls, ODD + i64::MAX as u64);
        assert!(runs[0].values.runtime.sum_micros > u64::MAX / 2);
    }

    async fn invalid_statistics_are_refused(cx) {
        let key = Dimension::Label("not a key".into());
        assert_invalid(cx.store.run_statistics(&all().group_by([key])).await, "label_key");
        let many = vec![Dimension::Skill; 17];
        assert_invalid(cx.store.run_statistics(&all().group_by(many)).await, "group_by");
        for of_calls in [Dimension::Model, Dimension::Provider] {
            let query = all().group_by([of_calls]);
            assert_invalid(cx.store.run_statistics(&query).await, "group_by");
        }
        assert_invalid(cx.store.run_statistics(&all().input_tiers([1])).await, "input_tiers");
        for tiers in [vec![u64::MAX], (0..101).collect()] {
            let query = all().input_tiers(tiers);
            assert_invalid(cx.store.call_statistics(&query).await, "input_tiers");
        }
        let query = StatisticsQuery::of(RunQuery::new().skills(["a\0"]));
        assert_invalid(cx.store.run_statistics(&query).await, "skill_id");
        assert_invalid(cx.store.call_statistics(&query.last_per_skill(1)).await, "skill_id");
    }
}
