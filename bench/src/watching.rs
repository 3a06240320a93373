//! What a thousand streams cost the writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use runtrail_audit::{LogFilter, SkillRun, Storage, Watch, WatchStart};
use runtrail_store::AuditStore;
use tokio::task::JoinSet;

use crate::rounds::{Baseline, compare, turn};
use crate::{Comparisons, Setup, data, step};

const STREAMS: usize = 1_000;
const CALLERS: usize = 32;
const EVENTS_PER_RUN: usize = 20;

/// Appends events to a thousand runs, each followed by a stream, compared with the same without
/// streams.
pub(crate) async fn appends(
    setup: &Setup,
    store: &AuditStore,
    database: &str,
) -> Result<Comparisons> {
    let name = format!("{database}, append_log, {CALLERS} callers beside 1,000 watchers");
    if !setup.is_selected(&name) {
        return Ok(Vec::new());
    }
    let append = async |runs: &[SkillRun]| {
        let begun = Instant::now();
        let each = |caller: usize| async move {
            for number in 0..EVENTS_PER_RUN {
                for run in runs.iter().skip(caller).step_by(CALLERS) {
                    let event = data::event(&run.id, number, &setup.payloads);
                    store.append_log(&event).await?;
                }
            }
            anyhow::Ok(())
        };
        try_join_all((0..CALLERS).map(each)).await?;
        anyhow::Ok((STREAMS * EVENTS_PER_RUN) as f64 / begun.elapsed().as_secs_f64())
    };
    let alone = turn(|| async { append(&start_runs(store).await?).await });
    let watched = turn(|| async {
        let runs = start_runs(store).await?;
        let received = Arc::new(AtomicUsize::new(0));
        let mut streams = JoinSet::new();
        for run in &runs {
            let mut events = store.watch_logs(&run.id, &LogFilter::new(), &WatchStart::Beginning);
            let received = Arc::clone(&received);
            streams.spawn(async move {
                while let Some(event) = events.next().await {
                    let _ = event?;
                    received.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rate = append(&runs).await?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while received.load(Ordering::Relaxed) < STREAMS * EVENTS_PER_RUN {
            ensure!(Instant::now() < deadline, "events are missing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(rate)
    });
    let baseline = Baseline::new("without watchers", 0.95, alone);
    let measured = compare(setup.rounds, &name, watched, vec![baseline]);
    step(&name, measured).await
}

async fn start_runs(store: &AuditStore) -> Result<Vec<SkillRun>> {
    let runs: Vec<_> = (0..STREAMS).map(|_| data::new_run()).collect();
    try_join_all(runs.iter().map(|run| store.start_run(run))).await?;
    Ok(runs)
}
