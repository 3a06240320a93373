//! Random sequences of calls, on the store and on a simple model of the contract.
//!
//! A failure prints the shortest failing sequence and the seed.
//! `RUNTRAIL_TEST_SEED=… cargo xtask test model` runs the same sequences again.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::hash::{BuildHasher, RandomState};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use runtrail_audit::{
    Clock, ErrorKind, ListOrder, Owner, Ownership, Page, PageRequest, PagedStorage, RunFilter,
    RunLabels, RunQuery, RunStats, RunStatus, SkillRun, SkillRunLog, Storage, Usage,
};
use runtrail_store::AuditStore;
use sea_orm::DatabaseConnection;
use serde_json::json;

use crate::fixture::*;

/// Sequences for each backend, unless `PROPTEST_CASES` is set.
const SEQUENCES: u32 = 100;

#[derive(Clone, Debug)]
enum Call {
    Start(SkillRun, Through),
    Finish(String, RunStats, Through),
    Append(SkillRunLog),
    Label(String, &'static str, &'static str),
    /// The last heartbeat of an owner was longer ago than its lease.
    Die(&'static str),
    Sweep,
    Purge(i64),
    Wait(i64),
}

/// The owner of the store that a call goes through, if any.
type Through = Option<&'static str>;

const OWNERS: [&str; 2] = ["o", "p"];

// Few distinct values, so that the calls collide.
fn id() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn status() -> impl Strategy<Value = RunStatus> {
    prop::sample::select(vec!["running", "dry_run", "error", "timeout", "ok"])
        .prop_map(RunStatus::from)
}

fn run() -> impl Strategy<Value = SkillRun> {
    let start = (
        id(),
        prop::sample::select(vec!["s", "t"]),
        prop::option::of(id()),
        0..4_i64,
        0..2_u64,
        prop::option::of(label()),
    );
    let end = (prop::option::of(0..6_i64), status(), 0..2_u64);
    (start, end).prop_map(
        |((id, skill, parent, start, input, label), (end, status, tool_calls))| {
            with(SkillRun::new(id, skill, at(start)), |run| {
                run.caller_id = skill.to_uppercase();
                run.parent_run_id = parent;
                run.inputs = object(json!({ "input": input }));
                run.finished_at = end.map(at);
                run.status = status;
                run.tool_calls = tool_calls;
                run.labels
                    .extend(label.map(|(key, value)| (key.into(), value.into())));
            })
        },
    )
}

fn label() -> impl Strategy<Value = (&'static str, &'static str)> {
    let key = prop::sample::select(vec!["k", "l"]);
    (key, prop::sample::select(vec!["1", "2"]))
}

fn through() -> impl Strategy<Value = Through> {
    prop::option::of(prop::sample::select(&OWNERS[..]))
}

fn call() -> impl Strategy<Value = Call> {
    let outcome = (status(), 0..2_u64)
        .prop_map(|(status, tool_calls)| RunStats::new(status).tool_calls(tool_calls));
    let event = (
        id(),
        0..3_u64,
        prop::sample::select(vec!["x", "y"]),
        0..2_u64,
        prop::option::of(0..2_u64),
    )
        .prop_map(|(run, sequence, event_type, payload, tokens)| {
            with(
                SkillRunLog::new(run, sequence, event_type, json!(payload)),
                |event| event.usage = tokens.map(|tokens| Usage::new().input_tokens(tokens)),
            )
        });
    prop_oneof![
        5 => (run(), through()).prop_map(|(run, owner)| Call::Start(run, owner)),
        3 => (id(), outcome, through()).prop_map(|(id, stats, owner)| Call::Finish(id, stats, owner)),
        5 => event.prop_map(Call::Append),
        3 => (id(), label()).prop_map(|(id, (key, value))| Call::Label(id, key, value)),
        1 => prop::sample::select(&OWNERS[..]).prop_map(Call::Die),
        1 => Just(Call::Sweep),
        1 => (0..8_i64).prop_map(Call::Purge),
        1 => (1..3_i64).prop_map(Call::Wait),
    ]
}

/// The contract in plain Rust.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) runs: BTreeMap<String, SkillRun>,
    events: BTreeMap<(String, u64), SkillRunLog>,
    /// Whether each owner is alive.
    owners: HashMap<String, bool>,
}

impl Model {
    fn start(&mut self, run: &SkillRun) -> Result<(), ErrorKind> {
        let Some(stored) = self.runs.get_mut(&run.id) else {
            self.runs.insert(run.id.clone(), run.clone());
            return Ok(());
        };
        let with_this_start = with(stored.clone(), |it| {
            it.skill_id = run.skill_id.clone();
            it.caller_id = run.caller_id.clone();
            it.channel_id = run.channel_id.clone();
            it.parent_run_id = run.parent_run_id.clone();
            it.inputs = run.inputs.clone();
            it.started_at = run.started_at;
            it.owner_id = run.owner_id.clone();
        });
        if stored.is_running() {
            let is_repeated = with_this_start == *stored;
            let added = std::mem::take(&mut stored.labels);
            // In a repeated start, the stored labels are newer.
            let (older, newer) = match is_repeated {
                true => (run.labels.clone(), added),
                false => (added, run.labels.clone()),
            };
            *stored = with_this_start;
            stored.labels = older;
            stored.labels.extend(newer);
            return Ok(());
        }
        // Their values may have been replaced since.
        let has_labels = run.labels.keys().all(|key| stored.labels.contains_key(key));
        // A finished run keeps its owner and its labels.
        let kept = |run: &SkillRun| {
            with(run.clone(), |run| {
                run.owner_id = stored.owner_id.clone();
                run.labels = stored.labels.clone();
            })
        };
        let is_same = has_labels
            && kept(&with_this_start) == *stored
            && (run.is_running() || kept(run) == *stored);
        if is_same {
            Ok(())
        } else {
            Err(ErrorKind::RunFinished)
        }
    }

    fn finish(
        &mut self,
        id: &str,
        stats: &RunStats,
        owner: Through,
        now: DateTime<Utc>,
    ) -> Result<(), ErrorKind> {
        if stats.status == RunStatus::RUNNING {
            return Err(ErrorKind::InvalidInput);
        }
        let stored = self.runs.get_mut(id).ok_or(ErrorKind::NotFound)?;
        // Its owner can replace an interruption by the real outcome.
        let is_replaced = stored.status == RunStatus::INTERRUPTED
            && owner.is_some()
            && stored.owner_id.as_deref() == owner
            && stats.status != RunStatus::INTERRUPTED;
        if !stored.is_running() && !is_replaced {
            let is_same = stored.stats().runtime_seconds(0.0) == *stats;
            return if is_same {
                Ok(())
            } else {
                Err(ErrorKind::RunFinished)
            };
        }
        stored.finished_at = Some(now);
        let runtime = (now - stored.started_at).max(chrono::TimeDelta::zero());
        stored.runtime_seconds = runtime.num_microseconds().unwrap() as f64 / 1e6;
        stored.status = stats.status.clone();
        stored.tool_calls = stats.tool_calls;
        stored.error.clear();
        Ok(())
    }

    fn append(&mut self, event: &SkillRunLog, now: DateTime<Utc>) -> Result<(), ErrorKind> {
        if !self.runs.contains_key(&event.run_id) {
            return Err(ErrorKind::NotFound);
        }
        let new = event.clone().created_at(now);
        let stored = self
            .events
            .entry((event.run_id.clone(), event.sequence))
            .or_insert(new);
        let is_same = *stored == with(event.clone(), |event| event.created_at = stored.created_at);
        if is_same {
            Ok(())
        } else {
            Err(ErrorKind::Conflict)
        }
    }

    fn label(&mut self, id: &str, key: &str, value: &str) -> Result<(), ErrorKind> {
        let run = self.runs.get_mut(id).ok_or(ErrorKind::NotFound)?;
        run.labels.insert(key.into(), value.into());
        Ok(())
    }

    /// Returns the runs that a sweep ends: those of dead owners and their descendants, except those
    /// of living owners and their descendants.
    fn interrupted(&self) -> Vec<String> {
        let owner_is = |run: &SkillRun, alive: bool| {
            let owner = run.owner_id.as_ref().and_then(|id| self.owners.get(id));
            owner == Some(&alive)
        };
        let ends = |run: &SkillRun| {
            // From the run to the first ancestor that has an owner.
            let line = self.chain(&run.id);
            let mut owned = line
                .iter()
                .filter(|it| owner_is(it, true) || it.is_running() && owner_is(it, false));
            run.is_running() && owned.next().is_some_and(|it| owner_is(it, false))
        };
        let runs = self.runs.values().filter(|run| ends(run));
        runs.map(|run| run.id.clone()).collect()
    }

    fn purge(&mut self, cutoff: DateTime<Utc>) -> u64 {
        let before = self.runs.len();
        self.runs
            .retain(|_, run| run.finished_at.is_none_or(|at| at >= cutoff));
        self.events
            .retain(|(run, _), _| self.runs.contains_key(run));
        (before - self.runs.len()) as u64
    }

    /// Returns the matching runs, newest first.
    pub(crate) fn list(&self, matches: impl Fn(&SkillRun) -> bool) -> Vec<SkillRun> {
        let mut runs: Vec<_> = self
            .runs
            .values()
            .filter(|run| matches(run))
            .cloned()
            .collect();
        runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        runs
    }

    pub(crate) fn chain(&self, id: &str) -> Vec<SkillRun> {
        let mut chain: Vec<SkillRun> = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(run) = next.and_then(|id| self.runs.get(&id)) {
            if chain.iter().any(|seen| seen.id == run.id) {
                break;
            }
            chain.push(run.clone());
            next = run.parent_run_id.clone();
        }
        chain
    }
}

fn kind<T>(result: Result<T, runtrail_audit::Error>) -> Result<T, ErrorKind> {
    result.map_err(|err| err.kind())
}

async fn play(store: &AuditStore, db: &DatabaseConnection, clock: &ManualClock, calls: &[Call]) {
    let mut model = Model::default();
    let owned = OWNERS.map(|id| store.clone().with_owner(Owner::new("test").id(id)));
    let through = |owner: Through| match owner {
        None => store,
        Some(id) => {
            owned
                .iter()
                .zip(OWNERS)
                .find(|(_, it)| *it == id)
                .unwrap()
                .0
        }
    };
    for call in calls {
        match call {
            Call::Start(run, owner) => {
                let store = through(*owner);
                if let Some(id) = owner {
                    store.heartbeat().await.unwrap();
                    model.owners.insert((*id).to_owned(), true);
                }
                let expected = model.start(&with(run.clone(), |run| {
                    run.owner_id = owner.map(str::to_owned);
                }));
                assert_eq!(kind(store.start_run(run).await), expected);
            }
            Call::Finish(id, stats, owner) => {
                let expected = model.finish(id, stats, *owner, clock.now());
                assert_eq!(kind(through(*owner).finish_run(id, stats).await), expected);
            }
            Call::Die(owner) => {
                let seen = format!(
                    "UPDATE runtrail_owners SET last_seen_at = last_seen_at - 60000000 \
                     WHERE id = '{owner}'"
                );
                execute(db, &seen).await;
                model
                    .owners
                    .entry((*owner).to_owned())
                    .and_modify(|alive| *alive = false);
            }
            Call::Sweep => {
                let expected = model.interrupted();
                let ended = store.sweep_interrupted().await.unwrap();
                assert_eq!(ended, expected.len() as u64, "{expected:?}");
                for id in expected {
                    let stored = store.get_run(&id).await.unwrap();
                    assert_eq!(stored.status, RunStatus::INTERRUPTED);
                    assert!(
                        stored.error.starts_with("interrupted: "),
                        "{}",
                        stored.error
                    );
                    // The time is the database's.
                    assert!(stored.finished_at.unwrap() >= stored.started_at);
                    let run = model.runs.get_mut(&id).unwrap();
                    run.status = stored.status.clone();
                    run.error = stored.error.clone();
                    run.finished_at = stored.finished_at;
                    run.runtime_seconds = stored.runtime_seconds;
                    assert_eq!(stored, *run);
                }
            }
            Call::Append(event) => {
                let expected = model.append(event, clock.now());
                assert_eq!(kind(store.append_log(event).await), expected);
            }
            Call::Label(id, key, value) => {
                let labels = BTreeMap::from([(key.to_string(), value.to_string())]);
                let expected = model.label(id, key, value);
                assert_eq!(kind(store.add_labels(id, &labels).await), expected);
            }
            Call::Purge(second) => {
                let purged = store.purge_older_than(at(*second)).await.unwrap();
                assert_eq!(purged, model.purge(at(*second)));
            }
            Call::Wait(seconds) => clock.advance(*seconds),
        }
    }
    compare(store, &model).await;
}

/// Compares the results of every query.
async fn compare(store: &AuditStore, model: &Model) {
    for id in ["a", "b", "c", "d"] {
        let expected = model.runs.get(id).cloned().ok_or(ErrorKind::NotFound);
        assert_eq!(kind(store.get_run(id).await), expected);
        let events: Vec<_> = model
            .events
            .values()
            .filter(|event| event.run_id == id)
            .cloned()
            .collect();
        assert_eq!(store.list_logs_by_run(id).await.unwrap(), events);
        let children = model.list(|run| run.parent_run_id.as_deref() == Some(id));
        assert_eq!(store.list_children_by_parent(id).await.unwrap(), children);
        assert_eq!(store.walk_parent_chain(id).await.unwrap(), model.chain(id));
    }
    for skill in ["s", "t"] {
        for dry in [false, true] {
            let matches =
                |run: &SkillRun| run.skill_id == skill && (dry || run.status != RunStatus::DRY_RUN);
            let expected = model.list(matches);
            for page in [
                Page::ALL,
                Page::first(2),
                Page::first(2).skip(1),
                Page::ALL.skip(2),
            ] {
                let runs = store
                    .list_runs_by_skill_paginated(skill, page, dry)
                    .await
                    .unwrap();
                assert_eq!(runs, paged(&expected, page));
            }
            let counted = store.count_runs_by_skill(skill, dry).await.unwrap();
            assert_eq!(counted, expected.len() as u64);
        }
        let expected = model
            .list(|run| run.caller_id == skill.to_uppercase() && run.status != RunStatus::DRY_RUN);
        let by_caller = store
            .list_runs_by_caller(&skill.to_uppercase(), None)
            .await
            .unwrap();
        assert_eq!(by_caller, expected);
        assert_eq!(
            store.list_runs_by_skill(skill, Some(1)).await.unwrap(),
            paged(&expected, Page::first(1))
        );
    }
    for second in 0..6 {
        let expected = model.list(|run| run.finished_at.is_some_and(|finish| finish < at(second)));
        assert_eq!(
            store
                .list_finished_runs_before(at(second), None)
                .await
                .unwrap(),
            expected
        );
        let filter = RunFilter::new()
            .since(at(second))
            .until(at(second + 1))
            .top_level_only()
            .include_dry_run();
        let expected = model.list(|run| {
            run.parent_run_id.is_none()
                && run.started_at >= at(second)
                && run.started_at <= at(second + 1)
        });
        assert_eq!(
            store.list_runs_filtered(&filter, Page::ALL).await.unwrap(),
            expected
        );
        assert_eq!(
            store.count_runs_filtered(&filter).await.unwrap(),
            expected.len() as u64
        );
    }
    let query = RunQuery::new().without_stored_parent().include_dry_run();
    let expected = model.list(|run| {
        let parent = run.parent_run_id.as_ref();
        parent.is_none_or(|id| !model.runs.contains_key(id))
    });
    let page = store
        .page_runs(&query, ListOrder::NewestFirst, &PageRequest::first(10))
        .await
        .unwrap();
    assert_eq!(page.items, expected);
    assert_eq!(
        store.count_runs_by_query(&query).await.unwrap(),
        expected.len() as u64
    );
    for (key, value) in [("k", "1"), ("k", "2"), ("l", "1"), ("l", "2")] {
        let is_labelled = |run: &SkillRun| run.labels.get(key).is_some_and(|it| it == value);
        let query = RunQuery::new().include_dry_run();
        for (query, expected) in [
            (query.clone().label(key, value), model.list(is_labelled)),
            (
                query.clone().except_label(key, [value]),
                model.list(|run| !is_labelled(run)),
            ),
            (
                query.has_label(key),
                model.list(|run| run.labels.contains_key(key)),
            ),
        ] {
            let page = store
                .page_runs(&query, ListOrder::NewestFirst, &PageRequest::first(10))
                .await
                .unwrap();
            assert_eq!(page.items, expected, "{query:?}");
        }
    }
    for status in ["running", "dry_run", "error", "ok"].map(RunStatus::from) {
        let filter = RunFilter::new().status(status.clone());
        let expected = model.list(|run| run.status == status && status != RunStatus::DRY_RUN);
        assert_eq!(
            store.list_runs_filtered(&filter, Page::ALL).await.unwrap(),
            expected
        );
    }
    for include_failed in [false, true] {
        let mut expected = HashMap::new();
        for run in model.list(|run| include_failed || !RunStatus::FAILED.contains(&run.status)) {
            expected.entry(run.skill_id).or_insert(run.started_at);
        }
        let skills = ["s", "t", "u"].map(str::to_owned);
        assert_eq!(
            store
                .last_run_by_skills(&skills, include_failed)
                .await
                .unwrap(),
            expected
        );
    }
}

pub(crate) fn paged(runs: &[SkillRun], page: Page) -> Vec<SkillRun> {
    let limit = page.limit.unwrap_or(u64::MAX) as usize;
    runs.iter()
        .skip(page.offset as usize)
        .take(limit)
        .cloned()
        .collect()
}

fn seed() -> u64 {
    match env::var("RUNTRAIL_TEST_SEED") {
        Ok(seed) => seed.parse().expect("RUNTRAIL_TEST_SEED is a number"),
        Err(_) => RandomState::new().hash_one("seed"),
    }
}

on_each_backend! {
    async fn random_calls_have_the_same_results_as_the_model(database) {
        let clock = std::sync::Arc::new(ManualClock::default());
        let store = AuditStore::connect(database.url())
            .await
            .unwrap()
            .with_clock(clock.clone());
        store.initialize().await.unwrap();
        let db = database.connection().await;

        let seed = seed();
        eprintln!("RUNTRAIL_TEST_SEED={seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(random_inputs(SEQUENCES), rng);

        let runtime = tokio::runtime::Handle::current();
        let outcome = runner.run(&prop::collection::vec(call(), 1..40), |calls| {
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    execute(&db, "DELETE FROM skill_run_logs").await;
                    execute(&db, "DELETE FROM skill_runs").await;
                    execute(&db, "DELETE FROM runtrail_owners").await;
                    play(&store, &db, &clock, &calls).await;
                })
            });
            Ok(())
        });
        if let Err(err) = outcome {
            panic!("{err}");
        }
    }
}
