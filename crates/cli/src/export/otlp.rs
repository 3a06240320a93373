//! `export --otlp`.

use std::collections::HashMap;

use clap::Args;
use futures_util::Stream;
use runtrail::otlp::{ExportedSpan, RunSpans, TraceRequest};
use runtrail::{
    AuditStore, BulkStorage, ListOrder, LogFilter, Page, PagedStorage, Result as StoreResult,
    RunQuery, SkillRun, SkillRunLog, Storage, rules,
};

use super::destination::{Destination, Target};
use super::next_readable;
use crate::failure::Result;
use crate::output::{counted, progress};
use crate::warnings::{note, warn_damaged};

/// Where to send runs as traces.
#[derive(Args)]
pub(super) struct OtlpArguments {
    /// Send the finished runs as OpenTelemetry traces instead: to the URL of an OTLP/HTTP receiver,
    /// to a file (a request as JSON in each line), or to stdout (-).
    ///
    /// /v1/traces is added to a URL without a path. Runs that are still running are left out. The
    /// ids of traces and spans are the same in each export.
    #[arg(long, value_name = "URL|FILE", conflicts_with = "output")]
    otlp: Option<Target>,
    /// A header for each request to the URL, such as Authorization; can be given several times.
    #[arg(long = "otlp-header", value_name = "KEY=VALUE", requires = "otlp")]
    headers: Vec<String>,
}

impl OtlpArguments {
    /// Returns where to send the traces, if they are asked for.
    pub(super) fn destination(&self) -> Result<Option<Destination>> {
        let target = self.otlp.as_ref();
        let destination = target.map(|target| Destination::open(target, &self.headers));
        destination.transpose()
    }
}

/// What was exported, and what wasn't.
#[derive(Default)]
struct Exported {
    runs: u64,
    spans: u64,
    running: u64,
    damaged: u64,
}

/// Sends the runs that match, and reports their number. Returns the number of damaged rows that
/// were left out.
pub(super) async fn export(
    store: &AuditStore,
    query: &RunQuery,
    destination: Destination,
) -> Result<u64> {
    let mut sender = Sender {
        request: destination.new_request(),
        destination,
        exported: Exported::default(),
    };
    let bar = progress(store.count_runs_by_query(query).await?, "{pos}/{len} runs");
    let mut tops = Tops::default();
    let mut runs = store.stream_runs_by_query(query, ListOrder::OldestFirst, Page::ALL);
    while let Some(run) = next_readable(&mut runs, &mut sender.exported.damaged).await? {
        // No query accepts such an id.
        if let Err(err) = rules::run_id("id", &run.id) {
            warn_damaged(&err);
            sender.exported.damaged += 1;
            continue;
        }
        let top = tops.of(store, &run).await?;
        match RunSpans::new(&run, &top) {
            Some(spans) => {
                let filter = LogFilter::new();
                let events = store.stream_logs(&run.id, &filter, ListOrder::OldestFirst);
                sender.send_run(spans, events).await?;
            }
            None => sender.exported.running += 1,
        }
        bar.inc(1);
    }
    let Exported {
        runs,
        spans,
        running,
        damaged,
    } = sender.finish().await?;
    bar.finish_and_clear();
    note(format!(
        "exported {} as {}",
        counted(runs, "run"),
        counted(spans, "span")
    ));
    if running > 0 {
        let running = counted(running, "running run");
        note(format!(
            "left out {running}; export again once they have finished"
        ));
    }
    Ok(damaged)
}

/// Collects spans, and sends them when a request is full.
struct Sender {
    destination: Destination,
    request: TraceRequest,
    exported: Exported,
}

impl Sender {
    async fn send_run(
        &mut self,
        mut spans: RunSpans<'_>,
        mut events: impl Stream<Item = StoreResult<SkillRunLog>> + Unpin,
    ) -> Result<()> {
        while let Some(event) = next_readable(&mut events, &mut self.exported.damaged).await? {
            if let Some(span) = spans.add(event) {
                self.send(&span).await?;
            }
        }
        self.send(&spans.finish()).await?;
        self.exported.runs += 1;
        Ok(())
    }

    async fn send(&mut self, span: &ExportedSpan) -> Result<()> {
        self.exported.spans += 1;
        match self.request.push(span) {
            Some(full) => self.destination.send(full).await,
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<Exported> {
        if let Some(last) = self.request.take() {
            self.destination.send(last).await?;
        }
        self.destination.finish()?;
        Ok(self.exported)
    }
}

/// The runs at the top of the trees of other runs.
#[derive(Default)]
struct Tops(HashMap<String, String>);

impl Tops {
    /// The most runs whose top is remembered.
    const MAX: usize = 100_000;

    /// Returns the id of the topmost ancestor of a run that is stored.
    async fn of(&mut self, store: &AuditStore, run: &SkillRun) -> StoreResult<String> {
        let known = match &run.parent_run_id {
            None => Some(run.id.clone()),
            // Oldest first: the parent usually comes before its children.
            Some(parent) => self.0.get(parent).cloned(),
        };
        let top = match known {
            Some(top) => top,
            None => top_of(&store.walk_parent_chain(&run.id).await?, &run.id),
        };
        if self.0.len() >= Self::MAX {
            self.0.clear();
        }
        self.0.insert(run.id.clone(), top.clone());
        Ok(top)
    }
}

/// Returns the last run of a chain of parents. In a cycle, it is the run with the smallest id.
fn top_of(chain: &[SkillRun], own: &str) -> String {
    let last = chain.last();
    let above = last.and_then(|last| last.parent_run_id.as_ref());
    let cycle = chain.iter().position(|run| Some(&run.id) == above);
    let top = match cycle {
        Some(start) => chain[start..].iter().map(|run| run.id.as_str()).min(),
        None => last.map(|last| last.id.as_str()),
    };
    top.unwrap_or(own).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(runs: &[(&str, &str)]) -> Vec<SkillRun> {
        let start = chrono::DateTime::UNIX_EPOCH;
        let run = |(id, parent): &(&str, &str)| SkillRun::new(*id, "s", start).parent(*parent);
        runs.iter().map(run).collect()
    }

    #[test]
    fn every_run_of_a_tree_has_the_same_top() {
        let runs = [("c", "b"), ("b", "a"), ("a", "not stored")];
        for start in 0..3 {
            assert_eq!(top_of(&chain(&runs[start..]), runs[start].0), "a");
        }
        assert_eq!(top_of(&[], "deleted meanwhile"), "deleted meanwhile");
    }

    #[test]
    fn every_run_of_a_cycle_has_the_same_top() {
        for runs in [
            &[("b", "c"), ("c", "a"), ("a", "b")],
            &[("c", "a"), ("a", "b"), ("b", "c")],
        ] {
            assert_eq!(top_of(&chain(runs), ""), "a");
        }
        let below = [("d", "b"), ("b", "c"), ("c", "b")];
        assert_eq!(top_of(&chain(&below), ""), "b");
        assert_eq!(top_of(&chain(&[("a", "a")]), ""), "a");
    }
}
