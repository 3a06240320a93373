//! The write workloads.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use runtrail_audit::{
    Amount, Budget, BudgetPeriod, Budgets, BulkStorage, ReservationRequest, RunFilter, SkillRun,
    Spending, Storage, Usage, new_run_id,
};
use runtrail_store::AuditStore;
use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt;

use crate::orm::{Orm, Style};
use crate::recorder::{
    EVENTS_PER_RUN, GoDesign, Grouped, OneByOne, PostgresByHand, Recorder, mixed_writes,
};
use crate::rounds::{Baseline, Turn, compare, turn};
use crate::{Comparisons, Setup, by_hand, data, step, watching};

pub(crate) async fn measure(setup: &Setup) -> Result<Comparisons> {
    let mut comparisons = Vec::new();
    let is_selected = |database: &str| {
        let workloads = ["mixed writes", "append", "reserve"];
        let mut workloads = workloads
            .map(|name| format!("{database}, {name}"))
            .into_iter();
        workloads.any(|name| setup.may_be_selected(&name))
    };
    if is_selected("SQLite") {
        comparisons.extend(sqlite(setup).await?);
    }
    if is_selected("PostgreSQL") {
        comparisons.extend(postgres(setup).await?);
    }
    Ok(comparisons)
}

async fn sqlite(setup: &Setup) -> Result<Comparisons> {
    let ours = setup.file("ours.db");
    let fill = data::fill_sqlite(&ours, setup.written, &setup.payloads);
    step("filling SQLite", fill).await?;
    let copy = |name: &str| -> Result<_> {
        let file = setup.file(name);
        fs::copy(&ours, &file)?;
        Ok(file)
    };
    let (by_hand, grouped, plain, tuned) = (
        copy("hand.db")?,
        copy("grouped.db")?,
        copy("plain.db")?,
        copy("tuned.db")?,
    );
    // SeaORM's default journal mode is the rollback journal.
    rusqlite::Connection::open(&plain)?.pragma_update(None, "journal_mode", "DELETE")?;
    let go = setup.file("go.db");
    step("filling the Go design", async {
        data::fill_go(&go, setup.written, &setup.payloads)
    })
    .await?;

    let store = AuditStore::connect(data::url(&ours)).await?;
    let by_hand: Arc<dyn Recorder> = Arc::new(OneByOne::open(&by_hand)?);
    let grouped: Arc<dyn Recorder> = Arc::new(Grouped::open(&grouped)?);
    let plain: Arc<dyn Recorder> = Arc::new(Orm::open(&plain, Style::Straightforward).await?);
    let tuned: Arc<dyn Recorder> = Arc::new(Orm::open(&tuned, Style::Tuned).await?);
    let go: Arc<dyn Recorder> = Arc::new(GoDesign::open(&go)?);
    let ours: Arc<dyn Recorder> = Arc::new(store.clone());

    let mut comparisons = Vec::new();
    for (callers, runs, one_by_one, group, orm) in [
        (1, 100, Some(1.0), None, Some(1.1)),
        (8, 40, None, Some(0.9), None),
        (32, 20, None, Some(0.9), None),
    ] {
        let name = format!("SQLite, mixed writes, {callers} callers");
        if !setup.is_selected(&name) {
            continue;
        }
        let of = |recorder| recording(setup, recorder, callers, runs);
        let baselines = vec![
            Baseline::new("rusqlite, one by one", one_by_one, of(&by_hand)),
            Baseline::new("rusqlite, grouped", group, of(&grouped)),
            Baseline::new("Go design", None, of(&go)),
            Baseline::new("SeaORM tuned", orm, of(&tuned)),
            Baseline::new("SeaORM straightforward", None, of(&plain)),
        ];
        let measured = compare(setup.rounds, &name, of(&ours), baselines);
        comparisons.extend(step(&name, measured).await?);
    }
    let name = "SQLite, append_logs of 100";
    if setup.is_selected(name) {
        comparisons.extend(step(name, append_logs(setup, &store, name)).await?);
    }
    comparisons.extend(usages(setup, &store, "SQLite").await?);
    comparisons.extend(reservations(setup, &store, "SQLite").await?);
    comparisons.extend(handles(setup, &store, "SQLite").await?);
    comparisons.extend(watching::appends(setup, &store, "SQLite").await?);
    comparisons.extend(spans(setup, &store).await?);
    let name = "SQLite, appends while 2 callers count";
    if setup.is_selected(name) {
        comparisons.extend(step(name, appends_during_counts(setup, &store, name)).await?);
        let name = format!("{name}, by rusqlite");
        comparisons.extend(step(&name, appends_during_counts_by_hand(setup, &name)).await?);
    }
    store.close().await?;
    Ok(comparisons)
}

/// A turn in which each of `callers` callers records `runs` runs.
fn recording(
    setup: &Setup,
    recorder: &Arc<dyn Recorder>,
    callers: usize,
    runs: usize,
) -> Turn<'static> {
    let (recorder, payloads) = (Arc::clone(recorder), Arc::clone(&setup.payloads));
    turn(move || {
        let (recorder, payloads) = (Arc::clone(&recorder), Arc::clone(&payloads));
        async move { mixed_writes(&recorder, callers, runs, &payloads).await }
    })
}

/// Appends batches of a hundred events, each to its own run.
async fn append_logs(setup: &Setup, store: &AuditStore, name: &str) -> Result<Comparisons> {
    const BATCHES: usize = 50;
    const EVENTS: usize = 100;

    let events = |run_id: &str| {
        (0..EVENTS)
            .map(|number| data::event(run_id, number, &setup.payloads))
            .collect::<Vec<_>>()
    };
    let rate = |begun: Instant| (BATCHES * EVENTS) as f64 / begun.elapsed().as_secs_f64();

    let file = setup.file("hand.db");
    let ours = turn(|| async {
        let mut batches = Vec::new();
        for _ in 0..BATCHES {
            let run = data::new_run();
            store.start_run(&run).await?;
            batches.push(events(&run.id));
        }
        let begun = Instant::now();
        for batch in &batches {
            store.append_logs(batch).await?;
        }
        Ok(rate(begun))
    });
    let by_hand = turn(|| async {
        let db = by_hand::open(&file)?;
        let mut batches = Vec::new();
        for _ in 0..BATCHES {
            let run = data::new_run();
            by_hand::start(&db, &run)?;
            batches.push(events(&run.id));
        }
        let begun = Instant::now();
        for batch in &batches {
            db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            for event in batch {
                by_hand::append(&db, event)?;
            }
            db.prepare_cached("COMMIT")?.execute([])?;
        }
        Ok(rate(begun))
    });
    compare(
        setup.rounds,
        name,
        ours,
        vec![Baseline::new("rusqlite, one transaction", 0.85, by_hand)],
    )
    .await
}

/// Records runs through handles, compared with direct calls to the store.
async fn handles(setup: &Setup, store: &AuditStore, database: &str) -> Result<Comparisons> {
    const CALLERS: usize = 32;
    const RUNS: usize = 20;

    let name = format!("{database}, mixed writes through handles, {CALLERS} callers");
    if !setup.is_selected(&name) {
        return Ok(Vec::new());
    }
    let of_handles = || async {
        let recorder = runtrail_record::Recorder::new(Arc::new(store.clone()));
        let begun = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (recorder, payloads) = (recorder.clone(), Arc::clone(&setup.payloads));
                tokio::spawn(async move {
                    for _ in 0..RUNS {
                        let SkillRun {
                            id,
                            skill_id,
                            caller_id,
                            inputs,
                            ..
                        } = data::new_run();
                        let run = recorder.start(skill_id).id(id).caller(caller_id);
                        let run = run.inputs(inputs).await?;
                        for number in 0..EVENTS_PER_RUN {
                            let event = data::event(run.id(), number, &payloads);
                            run.log(event.event_type, event.payload);
                        }
                        run.finish(data::stats()).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for caller in callers {
            caller.await??;
        }
        let calls = CALLERS * RUNS * (EVENTS_PER_RUN + 2);
        anyhow::Ok(calls as f64 / begun.elapsed().as_secs_f64())
    };
    let by_hand: Arc<dyn Recorder> = Arc::new(store.clone());
    let by_hand = recording(setup, &by_hand, CALLERS, RUNS);
    let baseline = Baseline::new("direct calls", 0.95, by_hand);
    let measured = compare(setup.rounds, &name, turn(of_handles), vec![baseline]);
    step(&name, measured).await
}

/// The cost of a span that the tracing layer records, on the thread that creates it.
async fn spans(setup: &Setup, store: &AuditStore) -> Result<Comparisons> {
    const AGENTS: usize = 200;
    const CALLS: usize = 19;
    const SPANS: usize = AGENTS * (1 + CALLS);

    let name = "SQLite, append spans through the tracing layer";
    if !setup.is_selected(name) {
        return Ok(Vec::new());
    }
    let emit = || {
        let begun = Instant::now();
        for _ in 0..AGENTS {
            let agent = tracing::info_span!(
                "invoke_agent",
                gen_ai.operation.name = "invoke_agent",
                gen_ai.agent.name = "agent",
            );
            let _entered = agent.enter();
            for _ in 0..CALLS {
                drop(tracing::info_span!(
                    "chat",
                    gen_ai.operation.name = "chat",
                    gen_ai.provider.name = "anthropic",
                    gen_ai.response.model = "claude-sonnet-4-5",
                    gen_ai.usage.input_tokens = 1_200_u64,
                    gen_ai.usage.output_tokens = 80_u64,
                ));
            }
        }
        SPANS as f64 / begun.elapsed().as_secs_f64()
    };
    let recorded = || async {
        let recorder = runtrail_record::Recorder::new(Arc::new(store.clone()));
        let layer = runtrail_record::layer(&recorder);
        let subscriber = tracing_subscriber::registry().with(layer);
        let rate = tracing::subscriber::with_default(subscriber, emit);
        let unwritten = recorder.shutdown(Duration::from_secs(60)).await;
        anyhow::ensure!(unwritten.is_empty(), "{unwritten:?}");
        Ok(rate)
    };
    let ignored = || async {
        let subscriber = tracing_subscriber::registry();
        Ok(tracing::subscriber::with_default(subscriber, emit))
    };
    let limit = || async { Ok(500_000.0) };
    let baselines = vec![
        Baseline::new("a limit of 2 µs", 1.0, turn(limit)),
        Baseline::new("a registry without a layer", None, turn(ignored)),
    ];
    let measured = compare(setup.rounds, name, turn(recorded), baselines);
    step(name, measured).await
}

/// Appends events that have a usage, compared with events that have none.
async fn usages(setup: &Setup, store: &AuditStore, database: &str) -> Result<Comparisons> {
    const EVENTS: usize = 2_000;

    let mut comparisons = Vec::new();
    for callers in [1, 32] {
        let name = format!("{database}, append_log with a usage, {callers} callers");
        if !setup.is_selected(&name) {
            continue;
        }
        let append = async |run_id: &str, number, has_usage| {
            let mut event = data::event(run_id, number, &setup.payloads);
            if has_usage {
                event = event.duration(Duration::from_millis(840)).usage(
                    Usage::new()
                        .provider("anthropic")
                        .model("claude-sonnet-4-5")
                        .input_tokens(12_400)
                        .cache_read_tokens(11_000)
                        .cache_write_tokens(900)
                        .output_tokens(310)
                        .thinking_tokens(120)
                        .cost_micros(9_120),
                );
            }
            store.append_log(&event).await
        };
        let appends = async |has_usage| {
            let runs: Vec<_> = (0..callers).map(|_| data::new_run()).collect();
            try_join_all(runs.iter().map(|run| store.start_run(run))).await?;
            let begun = Instant::now();
            let each = |run: &SkillRun| {
                let id = run.id.clone();
                async move {
                    for number in 0..EVENTS / callers {
                        append(&id, number, has_usage).await?;
                    }
                    anyhow::Ok(())
                }
            };
            try_join_all(runs.iter().map(each)).await?;
            anyhow::Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
        };
        let baseline = Baseline::new("without usage", 0.9, turn(|| appends(false)));
        let measured = compare(setup.rounds, &name, turn(|| appends(true)), vec![baseline]);
        comparisons.extend(step(&name, measured).await?);
    }
    Ok(comparisons)
}

/// Reserves from one budget, without and with settling, compared with appends of events by as many
/// callers.
async fn reservations(setup: &Setup, store: &AuditStore, database: &str) -> Result<Comparisons> {
    const CALLERS: usize = 64;
    const CALLS: usize = 100;

    let limit = Amount::Tokens(1_000_000_000);
    let budget = Budget::new("all", limit, BudgetPeriod::day());
    store.set_budget(&budget).await?;
    let rate = |begun: Instant| (CALLERS * CALLS) as f64 / begun.elapsed().as_secs_f64();
    let reserve = async |settles: bool| {
        let begun = Instant::now();
        let each = |_| async {
            for _ in 0..CALLS / (1 + usize::from(settles)) {
                let request = ReservationRequest::new(new_run_id(), Spending::new().tokens(2));
                store.reserve(&request).await?;
                if settles {
                    let actual = Spending::new().tokens(1);
                    store.settle_reservation(&request.id, &actual).await?;
                }
            }
            anyhow::Ok(())
        };
        try_join_all((0..CALLERS).map(each)).await?;
        Ok(rate(begun))
    };
    let append = || async {
        let runs: Vec<_> = (0..CALLERS).map(|_| data::new_run()).collect();
        try_join_all(runs.iter().map(|run| store.start_run(run))).await?;
        let begun = Instant::now();
        let each = |run: &SkillRun| {
            let id = run.id.clone();
            async move {
                for number in 0..CALLS {
                    let event = data::event(&id, number, &setup.payloads);
                    store.append_log(&event).await?;
                }
                anyhow::Ok(())
            }
        };
        try_join_all(runs.iter().map(each)).await?;
        Ok(rate(begun))
    };
    let mut comparisons = Vec::new();
    for (calls, settles) in [("reserve", false), ("reserve and settle", true)] {
        let name = format!("{database}, {calls}, {CALLERS} callers on one budget");
        if setup.is_selected(&name) {
            let baseline = Baseline::new("append_log", 0.5, turn(append));
            let ours = turn(|| reserve(settles));
            let measured = compare(setup.rounds, &name, ours, vec![baseline]);
            comparisons.extend(step(&name, measured).await?);
        }
    }
    Ok(comparisons)
}

/// The number of events that are appended while other callers count runs.
const EVENTS: usize = 1_000;

/// One caller appends events, alone and while two callers repeatedly count all runs.
async fn appends_during_counts(
    setup: &Setup,
    store: &AuditStore,
    name: &str,
) -> Result<Comparisons> {
    let appends = || async {
        let run = data::new_run();
        store.start_run(&run).await?;
        let begun = Instant::now();
        for number in 0..EVENTS {
            store
                .append_log(&data::event(&run.id, number, &setup.payloads))
                .await?;
        }
        anyhow::Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
    };
    let during_counts = turn(|| async {
        let counting = || {
            let store = store.clone();
            tokio::spawn(async move {
                // The count is never 0, so this loop only ends when aborted.
                while store.count_runs_filtered(&RunFilter::new()).await? > 0 {}
                anyhow::Ok(())
            })
        };
        let counting = [counting(), counting()];
        let rate = appends().await;
        for caller in counting {
            caller.abort();
        }
        rate
    });
    compare(
        setup.rounds,
        name,
        during_counts,
        vec![Baseline::new("the same alone", 0.6, turn(appends))],
    )
    .await
}

/// Does the same with rusqlite on threads, to show how much of the slowdown the machine causes.
async fn appends_during_counts_by_hand(setup: &Setup, name: &str) -> Result<Comparisons> {
    let file = setup.file("hand.db");
    let db = by_hand::open(&file)?;
    let appends = || async {
        let run = data::new_run();
        by_hand::start(&db, &run)?;
        let begun = Instant::now();
        for number in 0..EVENTS {
            by_hand::append(&db, &data::event(&run.id, number, &setup.payloads))?;
        }
        anyhow::Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
    };
    let during_counts = turn(|| async {
        let is_over = AtomicBool::new(false);
        let count = || -> Result<()> {
            let db = by_hand::open(&file)?;
            while !is_over.load(Ordering::Relaxed) {
                by_hand::count(&db)?;
            }
            Ok(())
        };
        let (is_over, count) = (&is_over, &count);
        tokio::task::block_in_place(|| {
            std::thread::scope(|threads| {
                let counting = [threads.spawn(count), threads.spawn(count)];
                let rate = Handle::current().block_on(appends());
                is_over.store(true, Ordering::Relaxed);
                for thread in counting {
                    thread.join().ok().context("a counting thread panicked")??;
                }
                rate
            })
        })
    });
    compare(
        setup.rounds,
        name,
        during_counts,
        vec![Baseline::new("the same alone", None, turn(appends))],
    )
    .await
}

async fn postgres(setup: &Setup) -> Result<Comparisons> {
    let url = setup.postgres.clone();
    let fill = data::fill_postgres(&url, setup.written, &setup.payloads);
    step("filling PostgreSQL", fill).await?;
    let store = AuditStore::connect(url.as_str()).await?;
    let ours: Arc<dyn Recorder> = Arc::new(store.clone());
    let by_hand: Arc<dyn Recorder> = Arc::new(PostgresByHand::connect(&url, 32).await?);
    let tuned: Arc<dyn Recorder> = Arc::new(Orm::connect(&url, Style::Tuned).await?);
    let plain: Arc<dyn Recorder> = Arc::new(Orm::connect(&url, Style::Straightforward).await?);
    let mut comparisons = Vec::new();
    for (callers, runs, at_least) in [(1, 100, Some(0.85)), (8, 40, None), (32, 40, Some(1.5))] {
        let name = format!("PostgreSQL, mixed writes, {callers} callers");
        if !setup.is_selected(&name) {
            continue;
        }
        let of = |recorder| recording(setup, recorder, callers, runs);
        let baselines = vec![
            Baseline::new("tokio-postgres", at_least, of(&by_hand)),
            Baseline::new("SeaORM tuned", None, of(&tuned)),
            Baseline::new("SeaORM straightforward", None, of(&plain)),
        ];
        let measured = compare(setup.rounds, &name, of(&ours), baselines);
        comparisons.extend(step(&name, measured).await?);
    }
    comparisons.extend(usages(setup, &store, "PostgreSQL").await?);
    comparisons.extend(reservations(setup, &store, "PostgreSQL").await?);
    comparisons.extend(handles(setup, &store, "PostgreSQL").await?);
    comparisons.extend(watching::appends(setup, &store, "PostgreSQL").await?);
    store.close().await?;
    Ok(comparisons)
}
