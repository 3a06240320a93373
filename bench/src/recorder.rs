//! The candidates that record runs, and the workload of concurrent callers.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use async_trait::async_trait;
use runtrail_audit::{RunStats, SkillRun, SkillRunLog, Storage};
use runtrail_store::AuditStore;
use rusqlite::Connection;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::postgres_by_hand::Postgres;
use crate::{by_hand, data, go_design};

/// Events of each run.
pub(crate) const EVENTS_PER_RUN: usize = 10;

#[async_trait]
pub(crate) trait Recorder: Send + Sync {
    async fn start(&self, caller: usize, run: &SkillRun) -> Result<()>;
    async fn append(&self, caller: usize, event: &SkillRunLog) -> Result<()>;
    async fn finish(&self, caller: usize, run_id: &str, stats: &RunStats) -> Result<()>;
}

/// Records `runs` runs for each of `callers` concurrent callers; returns calls per second.
pub(crate) async fn mixed_writes(
    recorder: &Arc<dyn Recorder>,
    callers: usize,
    runs: usize,
    payloads: &Arc<Vec<Value>>,
) -> Result<f64> {
    let begun = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (recorder, payloads) = (Arc::clone(recorder), Arc::clone(payloads));
            tokio::spawn(async move {
                for _ in 0..runs {
                    let run = data::new_run();
                    recorder.start(caller, &run).await?;
                    for number in 0..EVENTS_PER_RUN {
                        let event = data::event(&run.id, number, &payloads);
                        recorder.append(caller, &event).await?;
                    }
                    recorder.finish(caller, &run.id, &data::stats()).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    let calls = callers.len() * runs * (EVENTS_PER_RUN + 2);
    for caller in callers {
        caller.await??;
    }
    Ok(calls as f64 / begun.elapsed().as_secs_f64())
}

#[async_trait]
impl Recorder for AuditStore {
    async fn start(&self, _: usize, run: &SkillRun) -> Result<()> {
        Ok(self.start_run(run).await?)
    }

    async fn append(&self, _: usize, event: &SkillRunLog) -> Result<()> {
        Ok(self.append_log(event).await?)
    }

    async fn finish(&self, _: usize, run_id: &str, stats: &RunStats) -> Result<()> {
        Ok(self.finish_run(run_id, stats).await?)
    }
}

/// A connection behind a mutex.
struct Locked(Mutex<Connection>);

impl Locked {
    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        work(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hand-written rusqlite, one call at a time.
pub(crate) struct OneByOne(Locked);

impl OneByOne {
    pub(crate) fn open(file: &Path) -> Result<Self> {
        Ok(Self(Locked(Mutex::new(by_hand::open(file)?))))
    }
}

#[async_trait]
impl Recorder for OneByOne {
    async fn start(&self, _: usize, run: &SkillRun) -> Result<()> {
        self.0.with(|db| by_hand::start(db, run))
    }

    async fn append(&self, _: usize, event: &SkillRunLog) -> Result<()> {
        self.0.with(|db| by_hand::append(db, event))
    }

    async fn finish(&self, _: usize, run_id: &str, stats: &RunStats) -> Result<()> {
        self.0.with(|db| by_hand::finish(db, run_id, stats))
    }
}

/// The Go design, on one connection.
pub(crate) struct GoDesign(Locked);

impl GoDesign {
    pub(crate) fn open(file: &Path) -> Result<Self> {
        Ok(Self(Locked(Mutex::new(go_design::open(file)?))))
    }

    pub(crate) fn get_run(&self, id: &str) -> Result<Option<SkillRun>> {
        self.0.with(|db| go_design::get_run(db, id))
    }
}

#[async_trait]
impl Recorder for GoDesign {
    async fn start(&self, _: usize, run: &SkillRun) -> Result<()> {
        self.0.with(|db| go_design::save_run(db, run))
    }

    async fn append(&self, _: usize, event: &SkillRunLog) -> Result<()> {
        self.0.with(|db| go_design::save_event(db, event))
    }

    async fn finish(&self, _: usize, run_id: &str, stats: &RunStats) -> Result<()> {
        self.0.with(|db| go_design::finish(db, run_id, stats))
    }
}

/// Hand-written rusqlite on a dedicated thread, which commits all queued calls in one transaction.
pub(crate) struct Grouped(mpsc::Sender<(Record, oneshot::Sender<Result<()>>)>);

enum Record {
    Start(SkillRun),
    Append(SkillRunLog),
    Finish(String, RunStats),
}

impl Grouped {
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let db = by_hand::open(file)?;
        let (queue, mut records) = mpsc::channel(256);
        std::thread::spawn(move || {
            while let Some(first) = records.blocking_recv() {
                let mut batch = vec![first];
                while let Ok(next) = records.try_recv() {
                    batch.push(next);
                }
                let outcomes = Self::write(&db, &batch);
                for ((_, answer), outcome) in batch.into_iter().zip(outcomes) {
                    let _ = answer.send(outcome);
                }
            }
        });
        Ok(Self(queue))
    }

    fn write(db: &Connection, batch: &[(Record, oneshot::Sender<Result<()>>)]) -> Vec<Result<()>> {
        let begun = db
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]));
        let outcomes = batch.iter().map(|(record, _)| match record {
            Record::Start(run) => by_hand::start(db, run),
            Record::Append(event) => by_hand::append(db, event),
            Record::Finish(run_id, stats) => by_hand::finish(db, run_id, stats),
        });
        let outcomes = outcomes.collect();
        let ended = db
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
        match begun.and(ended) {
            Ok(_) => outcomes,
            Err(err) => batch
                .iter()
                .map(|_| Err(anyhow::anyhow!("{err}")))
                .collect(),
        }
    }

    async fn record(&self, record: Record) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send((record, answer))
            .await
            .ok()
            .context("the writer thread has ended")?;
        answered.await?
    }
}

#[async_trait]
impl Recorder for Grouped {
    async fn start(&self, _: usize, run: &SkillRun) -> Result<()> {
        self.record(Record::Start(run.clone())).await
    }

    async fn append(&self, _: usize, event: &SkillRunLog) -> Result<()> {
        self.record(Record::Append(event.clone())).await
    }

    async fn finish(&self, _: usize, run_id: &str, stats: &RunStats) -> Result<()> {
        self.record(Record::Finish(run_id.to_owned(), stats.clone()))
            .await
    }
}

/// Hand-written tokio-postgres, with one connection per caller.
pub(crate) struct PostgresByHand(Vec<Postgres>);

impl PostgresByHand {
    pub(crate) async fn connect(url: &str, callers: usize) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..callers {
            connections.push(Postgres::connect(url).await?);
        }
        Ok(Self(connections))
    }
}

#[async_trait]
impl Recorder for PostgresByHand {
    async fn start(&self, caller: usize, run: &SkillRun) -> Result<()> {
        self.0[caller].start(run).await
    }

    async fn append(&self, caller: usize, event: &SkillRunLog) -> Result<()> {
        self.0[caller].append(event).await
    }

    async fn finish(&self, caller: usize, run_id: &str, stats: &RunStats) -> Result<()> {
        self.0[caller].finish(run_id, stats).await
    }
}
