//! The read workloads.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use runtrail_audit::{
    Cursor, ListOrder, Owner, Ownership, Page, PageRequest, PagedStorage, RunFilter, RunLabels,
    RunQuery, Storage,
};
use runtrail_store::AuditStore;
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::orm::{Orm, Style};
use crate::postgres_by_hand::Postgres;
use crate::recorder::GoDesign;
use crate::report::{Comparison, Unit};
use crate::rounds::{Baseline, Turn, compare, median, turn};
use crate::statistics::{ByHand, Period};
use crate::{Comparisons, Setup, by_hand, data, go_design, statistics, step};

/// The number of rows of a list.
const ROWS: u64 = 50;

pub(crate) async fn measure(setup: &Setup) -> Result<Comparisons> {
    let mut comparisons = Vec::new();
    if setup.may_be_selected("SQLite, reads") {
        comparisons.extend(sqlite(setup).await?);
    }
    if setup.may_be_selected("PostgreSQL, reads") {
        comparisons.extend(postgres(setup).await?);
    }
    Ok(comparisons)
}

async fn sqlite(setup: &Setup) -> Result<Comparisons> {
    let file = setup.file("read.db");
    let go_file = setup.file("go-read.db");
    step(
        "filling SQLite",
        data::fill_sqlite(&file, setup.read, &setup.payloads),
    )
    .await?;
    step("filling the Go design", async {
        data::fill_go(&go_file, setup.read, &setup.payloads)
    })
    .await?;
    let store = AuditStore::connect(data::url(&file)).await?;
    let hand = by_hand::open(&file)?;
    let go = go_design::open(&go_file)?;
    let plain = Orm::open(&file, Style::Straightforward).await?;
    let tuned = Orm::open(&file, Style::Tuned).await?;
    let (store, hand, go, plain, tuned) = (&store, &hand, &go, &plain, &tuned);
    let ids: Vec<String> = some_ids(setup);
    let ids = &ids;
    let mut all = Reads::new(setup, "SQLite");

    let name = "get_run, 1 caller";
    let ours = our_runs(store, ids);
    let baselines = vec![
        Baseline::new(
            "rusqlite",
            1.0,
            for_each(ids, |id| async { by_hand::get_run(hand, id).map(drop) }),
        ),
        Baseline::new(
            "Go design",
            None,
            for_each(ids, |id| async { go_design::get_run(go, id).map(drop) }),
        ),
        Baseline::new(
            "SeaORM straightforward",
            2.0,
            for_each(ids, |id| async { plain.get_run(id).await.map(drop) }),
        ),
        Baseline::new(
            "SeaORM tuned",
            None,
            for_each(ids, |id| async { tuned.get_run(id).await.map(drop) }),
        ),
    ];
    all.compare(name, ours, baselines).await?;

    let name = "get_run, 8 callers";
    let shared_ids = &Arc::new(ids.clone());
    let ours = turn(|| {
        let store = store.clone();
        concurrently(shared_ids, move |id| {
            let store = store.clone();
            async move { Ok(store.get_run(&id).await.map(drop)?) }
        })
    });
    let one = Arc::new(GoDesign::open(&go_file)?);
    let one_connection = turn(|| {
        let one = Arc::clone(&one);
        concurrently(shared_ids, move |id| {
            let one = Arc::clone(&one);
            async move { one.get_run(&id).map(drop) }
        })
    });
    let separate_connections = turn(|| {
        let file = go_file.clone();
        let ids = Arc::clone(shared_ids);
        async move {
            let connections = (0..CALLERS).map(|_| go_design::open(&file));
            let connections: Vec<Connection> = connections.collect::<Result<_>>()?;
            let begun = Instant::now();
            std::thread::scope(|threads| {
                let threads: Vec<_> = connections
                    .into_iter()
                    .map(|db| {
                        let ids = Arc::clone(&ids);
                        threads.spawn(move || {
                            ids.iter()
                                .try_for_each(|id| go_design::get_run(&db, id).map(drop))
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .try_for_each(|it| it.join().ok().context("a thread panicked")?)
            })?;
            Ok((CALLERS * ids.len()) as f64 / begun.elapsed().as_secs_f64())
        }
    });
    let baselines = vec![
        Baseline::new("Go design, one connection", 1.0, one_connection),
        Baseline::new(
            "Go design, a connection and thread each",
            1.0,
            separate_connections,
        ),
    ];
    all.compare(name, ours, baselines).await?;

    let skills = &data::skills();
    let name = "list 50 of a skill";
    let limit = ROWS as i64;
    let ours = our_lists(store, skills);
    let baselines = vec![
        Baseline::new(
            "rusqlite",
            0.95,
            for_each(skills, |skill| async {
                by_hand::list_by_skill(hand, skill, limit).map(drop)
            }),
        ),
        Baseline::new(
            "Go design",
            1.0 / 1.15,
            for_each(skills, |skill| async {
                go_design::list_by_skill(go, skill, limit).map(drop)
            }),
        ),
        Baseline::new(
            "SeaORM straightforward",
            None,
            for_each(skills, |skill| async {
                plain.list_by_skill(skill, ROWS).await.map(drop)
            }),
        ),
        Baseline::new(
            "SeaORM tuned",
            None,
            for_each(skills, |skill| async {
                tuned.list_by_skill(skill, ROWS).await.map(drop)
            }),
        ),
    ];
    all.compare(name, ours, baselines).await?;

    let by_rusqlite = |at_least, turn| vec![Baseline::new("rusqlite", at_least, turn)];
    let name = "page_run_summaries of 50";
    let (all_runs, first) = (&RunQuery::new(), &PageRequest::first(ROWS));
    let ours = repeat(100, || async move {
        let page = store.page_run_summaries(all_runs, ListOrder::NewestFirst, first);
        Ok(page.await.map(drop)?)
    });
    let summaries = repeat(100, || async { by_hand::summaries(hand, limit).map(drop) });
    all.compare(name, ours, by_rusqlite(0.85, summaries))
        .await?;

    let name = "list_logs_by_run";
    let ours = for_each(ids, |id| async {
        Ok(store.list_logs_by_run(id).await.map(drop)?)
    });
    let events = for_each(ids, |id| async { by_hand::events(hand, id).map(drop) });
    all.compare(name, ours, by_rusqlite(0.85, events)).await?;

    let ours = our_counts(store, skills);
    let index_only = for_each(skills, |skill| async {
        by_hand::count_by_skill(hand, skill).map(drop)
    });
    all.compare(
        COUNT,
        ours,
        vec![Baseline::new(
            "rusqlite, with dry runs",
            1.0 / 1.2,
            index_only,
        )],
    )
    .await?;

    let name = "last_run_by_skills, 100 skills";
    let ours = our_last_runs(store, skills);
    let grouped = repeat(2, || async {
        by_hand::last_run_grouped(hand, skills).map(drop)
    });
    all.compare(
        name,
        ours,
        vec![Baseline::new("rusqlite, grouped MAX", 50.0, grouped)],
    )
    .await?;

    let last = &setup.read.end_of_chain();
    let name = "walk_parent_chain of 4";
    let ours = our_chains(store, last);
    let baselines = vec![
        Baseline::new(
            "rusqlite",
            0.85,
            repeat(200, || async { by_hand::chain(hand, last).map(drop) }),
        ),
        Baseline::new(
            "SeaORM straightforward, a query each",
            3.5,
            repeat(200, || async { plain.chain(last).await.map(drop) }),
        ),
        Baseline::new(
            "SeaORM tuned, a query each",
            None,
            repeat(200, || async { tuned.chain(last).await.map(drop) }),
        ),
    ];
    all.compare(name, ours, baselines).await?;

    if STATISTICS.iter().any(|name| all.is_selected(name)) {
        step("adding usage", async {
            Ok(hand.execute_batch(&format!("{}; ANALYZE", statistics::ADD_USAGE))?)
        })
        .await?;
        let by_hand = |which: ByHand, period: Rc<Period>| {
            let read = move || which.on_sqlite(hand, &period);
            repeat(1, move || std::future::ready(read()))
        };
        all_statistics(&mut all, store, by_hand, 1_000.0 / 300.0).await?;
    }

    pages_and_rare_values(&mut all, store, 1_000.0).await?;
    let name = all.name("longest stall of a current-thread runtime");
    if setup.is_selected(&name) {
        let stall = step(&name, async { longest_stall(setup, &file) }).await?;
        let limit = "a limit";
        let stall = Comparison::with_limit(name, Unit::Milliseconds, stall, limit, 2.0);
        all.comparisons.push(stall);
    }
    Ok(all.comparisons)
}

async fn postgres(setup: &Setup) -> Result<Comparisons> {
    let url = setup.postgres.as_str();
    if setup.read != setup.written || !setup.may_be_selected("PostgreSQL, mixed writes") {
        step(
            "filling PostgreSQL",
            data::fill_postgres(url, setup.read, &setup.payloads),
        )
        .await?;
    }
    let store = &AuditStore::connect(url).await?;
    let hand = &Postgres::connect(url).await?;
    let tuned = &Orm::connect(url, Style::Tuned).await?;
    let ids = &some_ids(setup);
    let skills = &data::skills();
    let mut all = Reads::new(setup, "PostgreSQL");

    let ours = our_runs(store, ids);
    let baselines = vec![
        Baseline::new(
            "tokio-postgres",
            None,
            for_each(ids, |id| async { hand.get_run(id).await.map(drop) }),
        ),
        Baseline::new(
            "SeaORM tuned",
            None,
            for_each(ids, |id| async { tuned.get_run(id).await.map(drop) }),
        ),
    ];
    all.compare("get_run, 1 caller", ours, baselines).await?;

    let limit = ROWS as i64;
    let ours = our_lists(store, skills);
    let baselines = vec![
        Baseline::new(
            "tokio-postgres",
            1.0 / 1.4,
            for_each(skills, |skill| async {
                hand.list_by_skill(skill, limit).await.map(drop)
            }),
        ),
        Baseline::new(
            "SeaORM tuned",
            None,
            for_each(skills, |skill| async {
                tuned.list_by_skill(skill, ROWS).await.map(drop)
            }),
        ),
    ];
    all.compare("list 50 of a skill", ours, baselines).await?;

    let ours = our_counts(store, skills);
    let index_only = for_each(skills, |skill| async {
        hand.count_by_skill(skill).await.map(drop)
    });
    let baseline = Baseline::new("tokio-postgres, with dry runs", 1.0 / 1.2, index_only);
    all.compare(COUNT, ours, vec![baseline]).await?;

    let ours = our_last_runs(store, skills);
    let grouped = repeat(2, || async {
        hand.last_run_grouped(skills).await.map(drop)
    });
    all.compare(
        "last_run_by_skills, 100 skills",
        ours,
        vec![Baseline::new("tokio-postgres, grouped MAX", 50.0, grouped)],
    )
    .await?;

    let last = &setup.read.end_of_chain();
    let ours = our_chains(store, last);
    let chain = repeat(200, || async { tuned.chain(last).await.map(drop) });
    all.compare(
        "walk_parent_chain of 4",
        ours,
        vec![Baseline::new("SeaORM tuned, a query each", None, chain)],
    )
    .await?;

    if STATISTICS.iter().any(|name| all.is_selected(name)) {
        step("adding usage", async {
            hand.client.batch_execute(statistics::ADD_USAGE).await?;
            Ok(hand.client.batch_execute("VACUUM ANALYZE").await?)
        })
        .await?;
        let by_hand = |which: ByHand, period: Rc<Period>| {
            repeat(1, move || {
                let period = Rc::clone(&period);
                async move { which.on_postgres(hand, &period).await }
            })
        };
        all_statistics(&mut all, store, by_hand, 1_000.0 / 200.0).await?;
    }

    pages_and_rare_values(&mut all, store, 500.0).await?;
    Ok(all.comparisons)
}

fn our_runs<'a>(store: &'a AuditStore, ids: &'a [String]) -> Turn<'a> {
    for_each(ids, |id| async { Ok(store.get_run(id).await.map(drop)?) })
}

fn our_lists<'a>(store: &'a AuditStore, skills: &'a [String]) -> Turn<'a> {
    for_each(skills, |skill| async {
        let runs = store.list_runs_by_skill(skill, Some(ROWS)).await;
        Ok(runs.map(drop)?)
    })
}

const COUNT: &str = "count_runs_by_skill";

fn our_counts<'a>(store: &'a AuditStore, skills: &'a [String]) -> Turn<'a> {
    for_each(skills, |skill| async {
        Ok(store.count_runs_by_skill(skill, false).await.map(drop)?)
    })
}

fn our_last_runs<'a>(store: &'a AuditStore, skills: &'a [String]) -> Turn<'a> {
    repeat(10, || async {
        Ok(store.last_run_by_skills(skills, true).await.map(drop)?)
    })
}

fn our_chains<'a>(store: &'a AuditStore, id: &'a str) -> Turn<'a> {
    repeat(200, || async {
        Ok(store.walk_parent_chain(id).await.map(drop)?)
    })
}

/// The workloads about statistics: with `--large`, of 75,600 and of 604,800 runs.
const STATISTICS: [&str; 4] = [
    "statistics of runs of 7 days",
    "statistics of runs of 56 days",
    "statistics of calls of 7 days",
    "statistics of calls of 56 days",
];

/// Compares with the same SQL by hand, and with a time limit for 7 days.
async fn all_statistics<'a>(
    all: &mut Reads<'_>,
    store: &'a AuditStore,
    by_hand: impl Fn(ByHand, Rc<Period>) -> Turn<'a>,
    per_second: f64,
) -> Result<()> {
    let [runs_of_week, runs_of_weeks, calls_of_week, calls_of_weeks] = STATISTICS;
    for (days, of_runs, of_calls) in [
        (7, runs_of_week, calls_of_week),
        (56, runs_of_weeks, calls_of_weeks),
    ] {
        let period = Rc::new(Period::before(all.setup.read.end(), days));
        let limit = || {
            let limit = turn(move || async move { Ok(per_second) });
            Baseline::new("a limit", (days == 7).then_some(1.0), limit)
        };
        let of = Rc::clone(&period);
        let ours = repeat(1, move || {
            let period = Rc::clone(&of);
            async move { statistics::runs(store, &period).await }
        });
        let baselines = vec![
            Baseline::new(
                "the same SQL by hand",
                1.0 / 1.2,
                by_hand(ByHand::Runs, Rc::clone(&period)),
            ),
            Baseline::new(
                "window functions by hand",
                None,
                by_hand(ByHand::SortedRuns, Rc::clone(&period)),
            ),
            limit(),
        ];
        all.compare(of_runs, ours, baselines).await?;

        let of = Rc::clone(&period);
        let ours = repeat(1, move || {
            let period = Rc::clone(&of);
            async move { statistics::calls(store, &period).await }
        });
        let baselines = vec![
            Baseline::new(
                "the same SQL by hand",
                1.0 / 1.2,
                by_hand(ByHand::Calls, period),
            ),
            limit(),
        ];
        all.compare(of_calls, ours, baselines).await?;
    }
    Ok(())
}

/// Queries whose cost must not depend on the size of the history.
async fn pages_and_rare_values(
    all: &mut Reads<'_>,
    store: &AuditStore,
    at_least: f64,
) -> Result<()> {
    let query = RunQuery::new;
    let everything = &query();
    let page = |cursor: Option<Cursor>| async move {
        let request = PageRequest::first(ROWS).at(cursor);
        Ok(store
            .page_runs(everything, ListOrder::NewestFirst, &request)
            .await
            .map(drop)?)
    };
    let depth = (all.setup.read.runs as u64 / 2).min(10_000 * ROWS);
    let name = format!("page {} by cursor", depth / ROWS);
    if all.is_selected(&name) {
        let deep = &deep_cursor(store, everything, depth).await?;
        let ours = repeat(200, || page(Some(deep.clone())));
        let first = repeat(200, || page(None));
        all.compare(&name, ours, vec![Baseline::new("page 1", 1.0 / 1.5, first)])
            .await?;
    }

    let wide = [
        (
            "50 of two uncommon statuses",
            query().statuses(["error", "timeout"]),
        ),
        (
            "50 of two rare statuses",
            query().statuses([data::RARE_STATUS, "never"]),
        ),
        (
            "50 of three callers",
            query().callers(["user-1", "user-2", "user-3"]),
        ),
        (
            "50 not of two skills",
            query().except_skills(["skill-0", "skill-1"]),
        ),
        ("50 that were slow", query().runtime_seconds(55.0..)),
        (
            "50 of a prefix",
            query().id_prefix(&all.setup.read.id(0)[..9]),
        ),
    ];
    let first = &PageRequest::first(ROWS);
    for (name, query) in &wide {
        let ours = repeat(5, || async move {
            Ok(store
                .page_runs(query, ListOrder::NewestFirst, first)
                .await
                .map(drop)?)
        });
        all.limit(name, ours, at_least, None).await?;
    }

    let filter = RunFilter::new;
    let due = all.setup.read.start() + chrono::TimeDelta::minutes(8);
    let rare = [
        ("50 of a rare status", filter().status(data::RARE_STATUS)),
        ("50 of an absent status", filter().status("never")),
        ("50 of a rare channel", filter().channel(data::RARE_CHANNEL)),
        ("50 of an absent channel", filter().channel("never")),
        (
            "50 of a skill and a rare status",
            filter().skill("skill-1").status(data::RARE_STATUS),
        ),
        (
            "50 of a caller and a rare status",
            filter().caller("user-1").status(data::RARE_STATUS),
        ),
        ("50 top-level runs", filter().top_level_only()),
        ("50 of all", filter()),
    ];
    for (name, filter) in &rare {
        let ours = repeat(100, || async move {
            Ok(store
                .list_runs_filtered(filter, Page::first(ROWS))
                .await
                .map(drop)?)
        });
        all.limit(name, ours, at_least, 1.0).await?;
    }
    let ours = repeat(100, || async {
        Ok(store
            .list_finished_runs_before(due, Some(ROWS))
            .await
            .map(drop)?)
    });
    all.limit("50 due to be purged", ours, at_least, 1.0)
        .await?;
    let never = all.setup.read.start() - chrono::TimeDelta::days(1);
    let ours = repeat(100, || async {
        Ok(store.purge_older_than(never).await.map(drop)?)
    });
    all.limit("a purge with nothing due", ours, at_least, 1.0)
        .await?;
    labels(all, store).await?;
    owners(all, store).await
}

/// Lists by rare and by common labels.
async fn labels(all: &mut Reads<'_>, store: &AuditStore) -> Result<()> {
    const RARE: &str = "50 with a rare label";
    const COMMON: &str = "50 with a common label";
    const BOTH: &str = "50 with a common and a rare label";
    const KEY: &str = "50 with a common key";
    const COUNT: &str = "count with a rare label";

    let lists = [
        (RARE, RunQuery::new().label("session", "1")),
        (COMMON, RunQuery::new().label("env", "prod")),
        (
            BOTH,
            RunQuery::new().label("env", "prod").label("session", "1"),
        ),
        (KEY, RunQuery::new().has_label("env")),
    ];
    if !lists.iter().any(|(name, _)| all.is_selected(name)) && !all.is_selected(COUNT) {
        return Ok(());
    }
    let setup = all.setup;
    let labelled = (0..setup.read.runs).step_by(10).map(|run| {
        let session = (run / 100).to_string();
        let labels = [("env", "prod"), ("session", &session)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        async move { store.add_labels(&setup.read.id(run), &labels.into()).await }
    });
    stream::iter(labelled)
        .buffer_unordered(64)
        .try_collect::<()>()
        .await?;

    let first = &PageRequest::first(ROWS);
    for (name, query) in &lists {
        let ours = repeat(100, || async move {
            Ok(store
                .page_runs(query, ListOrder::NewestFirst, first)
                .await
                .map(drop)?)
        });
        all.limit(name, ours, 200.0, 1.0).await?;
    }
    let query = &lists[0].1;
    let ours = repeat(100, || async move {
        Ok(store.count_runs_by_query(query).await.map(drop)?)
    });
    all.limit(COUNT, ours, 200.0, 1.0).await
}

/// Heartbeats and sweeps, with many running runs in a large history.
async fn owners(all: &mut Reads<'_>, store: &AuditStore) -> Result<()> {
    const HEARTBEAT: &str = "a heartbeat of an owner with 10,000 running runs";
    const NOTHING: &str = "a sweep with nothing due";
    const SWEEP: &str = "a sweep that ends 100 runs";

    if ![HEARTBEAT, NOTHING, SWEEP]
        .iter()
        .any(|name| all.is_selected(name))
    {
        return Ok(());
    }
    let start = |store: AuditStore, runs: usize| async move {
        let runs: Vec<_> = (0..runs).map(|_| data::new_run()).collect();
        let starts = stream::iter(&runs).map(|run| store.start_run(run));
        starts.buffer_unordered(64).try_collect::<()>().await
    };
    let day = Duration::from_secs(24 * 60 * 60);
    let alive = &store.clone().with_owner(Owner::new("alive").lease(day));
    start(alive.clone(), 10_000).await?;
    let ours = repeat(50, || async { Ok(alive.heartbeat().await.map(drop)?) });
    all.limit(HEARTBEAT, ours, 500.0, 1.0).await?;

    let ours = repeat(100, || async {
        Ok(store.sweep_interrupted().await.map(drop)?)
    });
    all.limit(NOTHING, ours, 1_000.0, 1.0).await?;

    let ours = turn(|| async {
        let owner = Owner::new("dead").lease(Duration::from_millis(100));
        start(store.clone().with_owner(owner), 100).await?;
        tokio::time::sleep(Duration::from_millis(120)).await;
        let begun = Instant::now();
        let ended = store.sweep_interrupted().await?;
        ensure!(ended == 100, "{ended} runs ended");
        Ok(1.0 / begun.elapsed().as_secs_f64())
    });
    all.limit(SWEEP, ours, 50.0, 1.0).await
}

/// Returns the longest time in milliseconds for which reads occupied the only thread of a runtime:
/// the median of all rounds.
fn longest_stall(setup: &Setup, file: &Path) -> Result<f64> {
    let mut stalls = Vec::new();
    for _ in 0..setup.rounds {
        let stall = std::thread::scope(|threads| {
            let reading = threads.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(longest_stall_of_reads(setup, file))
            });
            reading.join().ok().context("the reading thread panicked")?
        });
        stalls.push(stall?);
    }
    Ok(median(&mut stalls))
}

async fn longest_stall_of_reads(setup: &Setup, file: &Path) -> Result<f64> {
    let store = AuditStore::connect(data::url(file)).await?;
    let mut longest = Duration::ZERO;
    let measure = async {
        let mut last = Instant::now();
        loop {
            tokio::task::yield_now().await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
    };
    let reads = async {
        for id in some_ids(setup) {
            store.get_run(&id).await?;
            store.list_logs_by_run(&id).await?;
            store.walk_parent_chain(&id).await?;
        }
        for skill in data::skills() {
            store.list_runs_by_skill(&skill, Some(ROWS)).await?;
            store.count_runs_by_skill(&skill, false).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        biased;
        () = measure => {}
        read = reads => read?,
    }
    store.close().await?;
    Ok(longest.as_secs_f64() * 1_000.0)
}

/// Returns a cursor `depth` rows into the list.
async fn deep_cursor(store: &AuditStore, query: &RunQuery, depth: u64) -> Result<Cursor> {
    let mut request = PageRequest::first(PageRequest::MAX_LIMIT);
    let mut seen = 0;
    loop {
        let page = store
            .page_run_summaries(query, ListOrder::NewestFirst, &request)
            .await?;
        seen += page.items.len() as u64;
        if seen >= depth || page.next.is_none() {
            return page.end_cursor.context("the list is empty");
        }
        request.cursor = page.next;
    }
}

struct Reads<'a> {
    setup: &'a Setup,
    backend: &'a str,
    comparisons: Comparisons,
}

impl<'a> Reads<'a> {
    fn new(setup: &'a Setup, backend: &'a str) -> Self {
        Self {
            setup,
            backend,
            comparisons: Vec::new(),
        }
    }

    fn name(&self, workload: &str) -> String {
        format!("{}, reads, {workload}", self.backend)
    }

    fn is_selected(&self, workload: &str) -> bool {
        self.setup.is_selected(&self.name(workload))
    }

    async fn compare(
        &mut self,
        workload: &str,
        ours: Turn<'_>,
        baselines: Vec<Baseline<'_>>,
    ) -> Result<()> {
        if self.is_selected(workload) {
            let name = self.name(workload);
            let measured = compare(self.setup.rounds, &name, ours, baselines);
            self.comparisons.extend(step(&name, measured).await?);
        }
        Ok(())
    }

    /// Compares with a time limit.
    async fn limit(
        &mut self,
        workload: &str,
        ours: Turn<'_>,
        per_second: f64,
        at_least: impl Into<Option<f64>>,
    ) -> Result<()> {
        let limit = format!("a limit of {} ms", 1_000.0 / per_second);
        let limit = Baseline::new(&limit, at_least, turn(|| async move { Ok(per_second) }));
        self.compare(workload, ours, vec![limit]).await
    }
}

fn some_ids(setup: &Setup) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..2_000)
        .map(|_| setup.read.id(rng.usize(..setup.read.runs)))
        .collect()
}

/// Runs the work once for each item, sequentially.
fn for_each<'a, F>(items: &'a [String], work: impl Fn(&'a str) -> F + 'a) -> Turn<'a>
where
    F: Future<Output = Result<()>> + 'a,
{
    let work = Rc::new(work);
    turn(move || {
        let work = Rc::clone(&work);
        async move {
            let begun = Instant::now();
            for item in items {
                work(item).await?;
            }
            Ok(items.len() as f64 / begun.elapsed().as_secs_f64())
        }
    })
}

/// Runs the work `times` times.
fn repeat<'a, F>(times: usize, work: impl Fn() -> F + 'a) -> Turn<'a>
where
    F: Future<Output = Result<()>> + 'a,
{
    let work = Rc::new(work);
    turn(move || {
        let work = Rc::clone(&work);
        async move {
            let begun = Instant::now();
            for _ in 0..times {
                work().await?;
            }
            Ok(times as f64 / begun.elapsed().as_secs_f64())
        }
    })
}

const CALLERS: usize = 8;

/// Runs the work once for each id in each of eight concurrent callers.
async fn concurrently<F>(
    ids: &Arc<Vec<String>>,
    work: impl Fn(String) -> F + Clone + Send + Sync + 'static,
) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send,
{
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (ids, work) = (Arc::clone(ids), work.clone());
        callers.spawn(async move {
            for id in ids.iter() {
                work(id.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok((CALLERS * ids.len()) as f64 / begun.elapsed().as_secs_f64())
}
