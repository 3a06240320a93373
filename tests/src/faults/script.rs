//! The records of the writers. Each follows from its id alone, so a check can later compute what
//! has to be stored, to the byte.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use fastrand::Rng;
use runtrail_audit::{
    BulkStorage, Result, RunStats, RunStatus, SkillRun, SkillRunLog, Storage, Usage,
};
use runtrail_store::AuditStore;
use serde_json::json;

use super::ledger::Entry;
use crate::fixture::{at, object, with};

/// Events per run.
pub(super) const EVENTS: u64 = 4;

/// The prefix of the ids of records that an older library writes, without usage and labels.
pub(super) const OLDER: &str = "older";

/// The calls that write a run.
#[derive(Clone, Copy)]
pub(super) enum Write {
    Start,
    /// The first event.
    AppendLog,
    /// All others.
    AppendLogs,
    Finish,
}

impl Write {
    /// In the order of a run.
    pub(super) const ALL: [Self; 4] =
        [Self::Start, Self::AppendLog, Self::AppendLogs, Self::Finish];
}

/// A run with its events, from its start to its end.
pub(super) struct Script {
    pub(super) run: SkillRun,
    events: Vec<SkillRunLog>,
    stats: RunStats,
}

impl Script {
    pub(super) fn for_run(id: &str) -> Self {
        Self {
            run: run(id),
            events: (0..EVENTS).map(|sequence| event(id, sequence)).collect(),
            stats: stats(id),
        }
    }

    pub(super) async fn write(&self, store: &AuditStore, write: Write) -> Result<()> {
        match write {
            Write::Start => store.start_run(&self.run).await,
            Write::AppendLog => store.append_log(&self.events[0]).await,
            Write::AppendLogs => store.append_logs(&self.events[1..]).await,
            Write::Finish => store.finish_run(&self.run.id, &self.stats).await,
        }
    }

    /// Returns the ledger entries for an acknowledged write.
    pub(super) fn entries(&self, write: Write) -> Vec<Entry> {
        let id = self.run.id.as_str();
        match write {
            Write::Start => vec![Entry::started(id)],
            Write::AppendLog => vec![Entry::appended(id, 0)],
            Write::AppendLogs => (1..EVENTS)
                .map(|sequence| Entry::appended(id, sequence))
                .collect(),
            Write::Finish => vec![Entry::finished(id)],
        }
    }

    /// Returns the finished run, with an arbitrary finish time.
    pub(super) fn finished(self) -> SkillRun {
        let Self { run, stats, .. } = self;
        let finished_at = run.started_at;
        run.finished(finished_at, stats)
    }
}

fn run(id: &str) -> SkillRun {
    let mut rng = rng(&(id, "run"));
    let run = SkillRun::new(id, text(&mut rng, 10), at(rng.i64(0..1_000_000)))
        .caller(text(&mut rng, 20))
        .channel(text(&mut rng, 5))
        .inputs(object(json!({
            "question": text(&mut rng, 600),
            "nul": "\0",
            "number": rng.f64(),
            "count": rng.u64(..),
        })));
    with(run, |run| {
        run.parent_run_id = rng.bool().then(|| text(&mut rng, 20));
        // All programs print 0.5 alike, unlike a whole number.
        run.runtime_seconds = 0.5;
        run.labels = labels(id);
    })
}

fn labels(id: &str) -> BTreeMap<String, String> {
    let mut rng = rng(&(id, "labels"));
    if id.starts_with(OLDER) || rng.bool() {
        return BTreeMap::new();
    }
    let label = |number| (format!("key-{number}"), text(&mut rng, 20));
    (0..3).map(label).collect()
}

pub(super) fn event(id: &str, sequence: u64) -> SkillRunLog {
    let mut rng = rng(&(id, sequence));
    let payload = json!({ "text": text(&mut rng, 900), "nul": "\0" });
    let event = SkillRunLog::new(id, sequence, text(&mut rng, 10), payload)
        .created_at(at(rng.i64(0..1_000_000)));
    match rng.bool() && !id.starts_with(OLDER) {
        true => event
            .duration(Duration::from_micros(rng.u64(..1 << 40)))
            .usage(usage(&mut rng)),
        false => event,
    }
}

fn usage(rng: &mut Rng) -> Usage {
    let (cache, thinking) = (rng.u64(..1_000), rng.u64(..1_000));
    Usage::new()
        .provider(format!("p{}", text(rng, 10)))
        .model(format!("m{}", text(rng, 30)))
        .input_tokens(2 * cache + rng.u64(..1_000))
        .cache_read_tokens(cache)
        .cache_write_tokens(cache)
        .output_tokens(thinking + rng.u64(..1_000))
        .thinking_tokens(thinking)
        .cost_micros(rng.u64(..1_000_000))
}

fn stats(id: &str) -> RunStats {
    let mut rng = rng(&(id, "stats"));
    RunStats::new(RunStatus::OK)
        .output(text(&mut rng, 500))
        .error(text(&mut rng, 30))
        .tool_calls(rng.u64(..1_000))
        .runtime_seconds(f64::from(rng.u32(..1_000)) + 0.25)
        .input_tokens(rng.u64(..1_000_000))
        .output_tokens(rng.u64(..1_000_000))
        .thinking_tokens(rng.u64(..1_000_000))
}

fn rng(seed: &impl Hash) -> Rng {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    Rng::with_seed(hasher.finish())
}

fn text(rng: &mut Rng, longest: usize) -> String {
    const CHARACTERS: &[char] = &[
        'a', 'b', 'c', ' ', '\'', '"', '\\', '%', '_', '\n', '\t', 'é', '漢', '😀', '\u{202e}',
        '\u{1}', '$', '?',
    ];
    let length = rng.usize(..=longest);
    (0..length).filter_map(|_| rng.choice(CHARACTERS)).collect()
}
