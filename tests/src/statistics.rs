//! Statistics of random histories, compared with a simple model, and with damaged rows.
//!
//! `RUNTRAIL_TEST_SEED=… cargo xtask test statistics` repeats a failure.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use fastrand::Rng;
use runtrail_audit::{
    BucketWidth, Buckets, BulkStorage, CallStatistics, Dimension, RunQuery, RunStatistics,
    RunStatus, SkillRun, SkillRunLog, Statistics, StatisticsQuery, StatisticsRow, Storage, Usage,
};
use runtrail_store::AuditStore;

use crate::fixture::*;

const RUNS: usize = 600;
const QUERIES: usize = 60;

/// What identifies a row.
type Key = (Vec<Option<String>>, Option<DateTime<Utc>>, Option<u64>);

/// A time in the days in which the clocks of Berlin are set back.
fn time(rng: &mut Rng) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-10-23T00:00:00Z".parse().unwrap();
    start + TimeDelta::microseconds(rng.i64(0..5 * 86_400_000_000))
}

/// A number of any magnitude.
fn any_number(rng: &mut Rng) -> u64 {
    let bits = rng.u32(1..60);
    rng.u64(0..1 << bits)
}

fn a_run(number: usize, rng: &mut Rng) -> SkillRun {
    let name = |kind: &str, rng: &mut Rng| format!("{kind}-{}", rng.u8(0..4));
    let started_at = time(rng);
    let mut run = SkillRun::new(format!("run-{number:04}"), name("skill", rng), started_at)
        .caller(name("caller", rng))
        .channel(name("channel", rng));
    if rng.bool() {
        run = run.label("env", name("env", rng));
    }
    if rng.u8(0..10) > 0 {
        let statuses = [
            RunStatus::OK,
            RunStatus::ERROR,
            RunStatus::TIMEOUT,
            RunStatus::DRY_RUN,
        ];
        run.status = rng.choice(statuses).unwrap();
        run.finished_at = Some(started_at);
        run.tool_calls = any_number(rng);
        run.runtime_seconds = match rng.u8(0..4) {
            0 => rng.f64() * 10_f64.powi(rng.i32(-8..20)),
            1 => 0.000_000_5 * f64::from(rng.u32(0..20)),
            // Many equal ones.
            _ => f64::from(rng.u8(0..5)),
        };
    }
    run
}

fn a_call(run: &SkillRun, sequence: u64, rng: &mut Rng) -> SkillRunLog {
    let mut event = event(&run.id, sequence).created_at(time(rng));
    if rng.u8(0..5) == 0 {
        return event;
    }
    let any = |rng: &mut Rng| rng.bool().then(|| any_number(rng));
    let mut usage = Usage::new();
    usage.provider = rng.bool().then(|| format!("provider-{}", rng.u8(0..2)));
    usage.model = rng.bool().then(|| format!("model-{}", rng.u8(0..3)));
    usage.input_tokens = any(rng);
    usage.cache_read_tokens = usage.input_tokens.map(|tokens| rng.u64(0..=tokens / 2));
    usage.cache_write_tokens = usage.input_tokens.map(|tokens| rng.u64(0..=tokens / 2));
    usage.output_tokens = any(rng);
    usage.thinking_tokens = usage.output_tokens.map(|tokens| rng.u64(0..=tokens));
    usage.cost_micros = any(rng);
    event.usage = Some(usage).filter(|usage| !usage.is_empty());
    event.duration = rng.bool().then(|| Duration::from_micros(any_number(rng)));
    event
}

fn a_query(rng: &mut Rng, of_calls: bool) -> StatisticsQuery {
    let mut dimensions = vec![
        Dimension::Skill,
        Dimension::Caller,
        Dimension::Channel,
        Dimension::Status,
        Dimension::Label("env".into()),
    ];
    if of_calls {
        dimensions.extend([Dimension::Provider, Dimension::Model]);
    }
    rng.shuffle(&mut dimensions);
    dimensions.truncate(rng.usize(0..3));
    let mut runs = RunQuery::new();
    if rng.bool() {
        runs = runs.include_dry_run();
    }
    if rng.u8(0..4) == 0 {
        runs = runs.skills(["skill-0", "skill-1"]);
    }
    let mut query = StatisticsQuery::of(runs).group_by(dimensions);
    if rng.u8(0..4) > 0 {
        query = query.buckets(some_buckets(rng));
    }
    if rng.u8(0..4) == 0 {
        query = query.last_per_skill(rng.u64(0..40));
    }
    if of_calls && rng.bool() {
        query = query.input_tiers([1 << 20, 1 << 10, 1 << 40]);
    }
    query
}

fn some_buckets(rng: &mut Rng) -> Buckets {
    if rng.u8(0..3) == 0 {
        let times: Vec<_> = (0..rng.usize(1..20)).map(|_| time(rng)).collect();
        return Buckets::starting_at(times).unwrap();
    }
    let widths = [
        BucketWidth::Minutes(15),
        BucketWidth::Hours(1),
        BucketWidth::Hours(7),
        BucketWidth::Days(1),
        BucketWidth::Weeks(1),
        BucketWidth::Months(1),
    ];
    let zones = [
        Tz::UTC,
        Tz::Europe__Berlin,
        Tz::Asia__Kolkata,
        Tz::Australia__Lord_Howe,
    ];
    let mut bounds = [time(rng), time(rng)];
    bounds.sort();
    let [from, to] = bounds;
    Buckets::every(
        rng.choice(widths).unwrap(),
        &rng.choice(zones).unwrap(),
        from,
        to,
    )
    .unwrap()
}

/// The history in plain Rust.
struct Model {
    runs: Vec<SkillRun>,
    calls: Vec<SkillRunLog>,
}

impl Model {
    /// Returns the selected runs, newest first.
    fn selected(&self, query: &StatisticsQuery) -> Vec<&SkillRun> {
        let skills = &query.runs.skills.only;
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.retain(|run| query.runs.include_dry_run || run.status != RunStatus::DRY_RUN);
        runs.retain(|run| {
            skills
                .as_ref()
                .is_none_or(|only| only.contains(&run.skill_id))
        });
        runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        runs.retain(|run| {
            let seen = seen.entry(&run.skill_id).or_default();
            *seen += 1;
            query.last_per_skill.is_none_or(|count| *seen <= count)
        });
        runs
    }

    fn run_statistics(&self, query: &StatisticsQuery) -> Vec<StatisticsRow<RunStatistics>> {
        let mut groups: BTreeMap<Key, Vec<&SkillRun>> = BTreeMap::new();
        for run in self.selected(query) {
            let key = key(query, run, None, run.started_at);
            groups.entry(key).or_default().push(run);
        }
        rows(groups, |runs| {
            let finished: Vec<_> = runs
                .iter()
                .filter(|run| run.finished_at.is_some())
                .collect();
            let micros = |run: &&&SkillRun| {
                let seconds = run.runtime_seconds.min(9e12);
                (seconds * 1e6 + 0.5).floor() as u64
            };
            with(RunStatistics::default(), |statistics| {
                statistics.runs = runs.len() as u64;
                statistics.finished = finished.len() as u64;
                let failed = runs
                    .iter()
                    .filter(|run| RunStatus::FAILED.contains(&run.status));
                statistics.failed = failed.count() as u64;
                statistics.tool_calls = sum(runs.iter().map(|run| Some(run.tool_calls)));
                statistics.runtime = durations(finished.iter().map(micros).collect());
            })
        })
    }

    fn call_statistics(&self, query: &StatisticsQuery) -> Vec<StatisticsRow<CallStatistics>> {
        let mut groups: BTreeMap<Key, Vec<&SkillRunLog>> = BTreeMap::new();
        for run in self.selected(query) {
            let of_run = self.calls.iter().filter(|call| call.run_id == run.id);
            for call in of_run.filter(|call| call.usage.is_some()) {
                let key = key(query, run, call.usage.as_ref(), call.created_at.unwrap());
                groups.entry(key).or_default().push(call);
            }
        }
        rows(groups, |calls| {
            let usages: Vec<_> = calls
                .iter()
                .filter_map(|call| call.usage.as_ref())
                .collect();
            let total = |number: fn(&Usage) -> Option<u64>| sum(usages.iter().map(|it| number(it)));
            let micros = calls.iter().filter_map(|call| call.duration);
            with(CallStatistics::default(), |statistics| {
                statistics.calls = calls.len() as u64;
                statistics.input_tokens = total(|usage| usage.input_tokens);
                statistics.cache_read_tokens = total(|usage| usage.cache_read_tokens);
                statistics.cache_write_tokens = total(|usage| usage.cache_write_tokens);
                statistics.output_tokens = total(|usage| usage.output_tokens);
                statistics.thinking_tokens = total(|usage| usage.thinking_tokens);
                statistics.cost_micros = total(|usage| usage.cost_micros);
                let without = usages.iter().filter(|usage| usage.cost_micros.is_none());
                statistics.calls_without_cost = without.count() as u64;
                statistics.duration = durations(micros.map(|it| it.as_micros() as u64).collect());
            })
        })
    }
}

fn key(query: &StatisticsQuery, run: &SkillRun, usage: Option<&Usage>, time: DateTime<Utc>) -> Key {
    let value = |dimension: &Dimension| match dimension {
        Dimension::Skill => Some(run.skill_id.clone()),
        Dimension::Caller => Some(run.caller_id.clone()),
        Dimension::Channel => Some(run.channel_id.clone()),
        Dimension::Status => Some(run.status.to_string()),
        Dimension::Label(key) => run.labels.get(key).cloned(),
        Dimension::Provider => usage.and_then(|usage| usage.provider.clone()),
        Dimension::Model => usage.and_then(|usage| usage.model.clone()),
        other => panic!("{other:?}"),
    };
    let starts = query.buckets.iter().flat_map(|buckets| buckets.starts());
    let tokens = usage.and_then(|usage| usage.input_tokens);
    let tiers = query.input_tiers.iter().copied();
    (
        query.group_by.iter().map(value).collect(),
        starts.copied().filter(|start| *start <= time).max(),
        tiers
            .filter(|tier| tokens.is_some_and(|tokens| tokens >= *tier))
            .max(),
    )
}

fn rows<'a, R, T>(
    groups: BTreeMap<Key, Vec<&'a R>>,
    statistics: impl Fn(&[&'a R]) -> T,
) -> Vec<StatisticsRow<T>> {
    let row = |((group, bucket, tier), records): (Key, Vec<&'a R>)| {
        with(StatisticsRow::new(group, statistics(&records)), |row| {
            row.bucket = bucket;
            row.input_tier = tier;
        })
    };
    groups.into_iter().map(row).collect()
}

fn sum(numbers: impl Iterator<Item = Option<u64>>) -> u64 {
    let sum: u128 = numbers.flatten().map(u128::from).sum();
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// By sorting, in floating-point numbers: with so few durations, they are exact enough.
fn durations(mut micros: Vec<u64>) -> runtrail_audit::Durations {
    micros.sort();
    let mut durations = runtrail_audit::Durations::default();
    durations.count = micros.len() as u64;
    durations.sum_micros = sum(micros.iter().copied().map(Some));
    let nearest = |percent: f64| {
        let rank = (percent / 100.0 * micros.len() as f64 - 1e-9).ceil() as usize;
        micros[rank.max(1) - 1]
    };
    if !micros.is_empty() {
        // Each has a duration, so these are the right fields, whatever their values.
        let mut percentiles = runtrail_audit::Durations::of(vec![0]).percentiles.unwrap();
        percentiles.p50_micros = nearest(50.0);
        percentiles.p90_micros = nearest(90.0);
        percentiles.p95_micros = nearest(95.0);
        percentiles.p99_micros = nearest(99.0);
        durations.percentiles = Some(percentiles);
    }
    durations
}

async fn record(store: &AuditStore, model: &Model) {
    for run in &model.runs {
        store.start_run(run).await.unwrap();
    }
    store.append_logs(&model.calls).await.unwrap();
}

on_each_backend! {
    async fn statistics_of_random_histories_match_the_model(database) {
        let seed = env::var("RUNTRAIL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        eprintln!("RUNTRAIL_TEST_SEED={seed}");
        let mut rng = Rng::with_seed(seed);
        let runs: Vec<_> = (0..RUNS).map(|number| a_run(number, &mut rng)).collect();
        let mut calls = Vec::new();
        for run in &runs {
            for sequence in 0..rng.u64(0..4) {
                calls.push(a_call(run, sequence, &mut rng));
            }
        }
        let model = Model { runs, calls };
        let store = database.store().await;
        record(&store, &model).await;
        for _ in 0..QUERIES {
            let query = a_query(&mut rng, false);
            let found = store.run_statistics(&query).await.unwrap();
            assert_eq!(found, model.run_statistics(&query), "{query:?}");
            let query = a_query(&mut rng, true);
            let found = store.call_statistics(&query).await.unwrap();
            assert_eq!(found, model.call_statistics(&query), "{query:?}");
        }
        store.close().await.unwrap();
    }

    async fn damaged_rows_hide_no_others_from_statistics(database) {
        let store = database.store().await;
        let db = database.connection().await;
        for id in ["a", "b", "damaged"] {
            store.start_run(&finished_at(id, 5).label("env", "prod")).await.unwrap();
            let usage = Usage::new().provider("p").model("m").input_tokens(7);
            let call = event(id, 0).usage(usage).duration(Duration::from_secs(1));
            store.append_log(&call).await.unwrap();
        }
        let (values, columns) = match database.backend() {
            Backend::Sqlite => (
                vec!["X'FF00FF'", "'no number'", "-1"],
                vec!["skill_id", "status", "finished_at", "labels"],
            ),
            Backend::Postgres => (vec!["-1", "9223372036854775807"], vec!["finished_at"]),
        };
        let of_runs = ["started_at", "tool_calls", "runtime_seconds"].into_iter().chain(columns);
        let mut changes: Vec<_> = of_runs.map(|column| ("skill_runs", "id", column)).collect();
        for column in ["created_at", "duration_micros", "input_tokens", "cost_micros"] {
            changes.push(("skill_run_logs", "run_id", column));
        }
        let days = Buckets::starting_at([at(-1), at(0), at(1), at(2)]).unwrap();
        let runs = StatisticsQuery::of(RunQuery::new())
            .group_by([Dimension::Skill, Dimension::Status, Dimension::Label("env".into())])
            .buckets(days);
        let calls = runs.clone().input_tiers([1, 8]);
        for (table, id, column) in changes {
            for value in &values {
                execute(
                    &db,
                    &format!("UPDATE {table} SET {column} = {value} WHERE {id} = 'damaged'"),
                )
                .await;
                let context = format!("{column} = {value}");
                let rows = store.run_statistics(&runs).await.unwrap();
                let found = rows.iter().any(|row| row.values.runs >= 2);
                assert!(found, "{context}: {rows:?}");
                let rows = store.call_statistics(&calls).await.unwrap();
                let found = rows.iter().any(|row| row.values.calls >= 2);
                assert!(found, "{context}: {rows:?}");
            }
        }
        store.close().await.unwrap();
    }
}
