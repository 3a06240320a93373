//! Turning staged records into runs and events.

mod messages;
mod plan;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use runtrail_audit::{
    Error, ErrorKind, History, ListOrder, LogFilter, PageRequest, Result, RunStats, RunStatus,
    SkillRun, SkillRunLog, StagedRecord, Usage, rules,
};
use runtrail_telemetry::{Record, Role};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::messages::Conversations;
pub(crate) use self::messages::prepare;
pub(crate) use self::plan::Kind;
use self::plan::{Group, Node, Plan, Settled, Start};
use crate::ReceiverOptions;

/// The most waiting records of a group that are looked at together.
const MAX_NODES: u64 = 100_000;

/// The number of records whose content is in memory at the same time. Each may have a megabyte.
const CHUNK: usize = 100;

/// The number of runs of a group that are started or finished at the same time.
const CONCURRENCY: usize = 16;

const TOOL_CALL: &str = "tool_call";

/// The key by which the payload of an event names its record.
const SPAN_ID: &str = "span_id";

/// Moves staged records to runs.
pub(crate) struct Folder {
    history: Arc<dyn History>,
    options: ReceiverOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The records that a receiver with a host's run has staged, by their groups, until they are
    /// settled. It folds no others: another process may be receiving the rest of a trace.
    own: HashMap<String, HashSet<String>>,
    conversations: Conversations,
    /// The open runs of each group.
    open: HashMap<String, HashMap<String, OpenRun>>,
}

/// A run that no span ends.
#[derive(Clone)]
struct OpenRun {
    /// The id of its marker in the group.
    marker: String,
    /// When the last record of its group was stored.
    changed: Instant,
    /// The end of the last event.
    last: Option<DateTime<Utc>>,
    /// The last output that a log of the session has reported.
    output: String,
    is_provisional: bool,
    /// Whether this receiver has opened it.
    is_own: bool,
}

/// Returns what kind of record it is.
pub(crate) fn kind_of(record: &Record) -> Kind {
    match record.role {
        Role::Run => Kind::Run,
        Role::ModelCall => Kind::ModelCall,
        Role::ToolCall => Kind::ToolCall,
        Role::Span if record.is_agentic => Kind::Span,
        Role::Span => Kind::Other,
        Role::Log if record.is_agentic => Kind::Log,
        Role::Log => Kind::OtherLog,
    }
}

/// Returns the id of the marker of a provisional run; no span has such an id.
fn marker_of(span: &str) -> String {
    format!("{span}?")
}

/// The marker of the run of a group.
const GROUP_MARKER: &str = "?";

/// What is known of the events of a run that was started in this fold.
#[derive(Clone, Copy, Default)]
struct Totals {
    tool_calls: u64,
    /// Input, output and thinking tokens.
    tokens: [u64; 3],
}

impl Totals {
    fn add_tokens(&mut self, tokens: [u64; 3]) {
        for (sum, tokens) in self.tokens.iter_mut().zip(tokens) {
            // The largest number that a store accepts.
            *sum = sum.saturating_add(tokens).min(i64::MAX.unsigned_abs());
        }
    }
}

/// The records of a group that are being stored.
struct Fold<'a> {
    group: &'a str,
    nodes: Vec<Node>,
    plan: Plan,
    contents: HashMap<usize, Record>,
    has_all_contents: bool,
    conversations: Conversations,
    /// The runs that were started in this fold.
    fresh: HashMap<String, Totals>,
    /// The model calls whose tokens another call reports, too.
    repeated: HashSet<usize>,
}

impl Folder {
    pub(crate) fn new(history: Arc<dyn History>, options: ReceiverOptions) -> Self {
        Self {
            history,
            options,
            state: Mutex::default(),
        }
    }

    /// Stores the records of a group that belong to known runs. Returns the time until the first of
    /// the others has waited long enough, if there are any.
    pub(crate) async fn fold(&self, group: &str) -> Result<Option<Duration>> {
        self.fold_due(group, self.options.patience).await
    }

    /// Stores all records of a group.
    pub(crate) async fn fold_all(&self, group: &str) -> Result<()> {
        while self.fold_due(group, Duration::ZERO).await?.is_some() {}
        Ok(())
    }

    async fn fold_due(&self, group: &str, patience: Duration) -> Result<Option<Duration>> {
        let waiting = self.history.waiting_records(group, MAX_NODES).await?;
        // At the limit: later records aren't visible, so treat these as due.
        let is_full = waiting.len() as u64 == MAX_NODES;
        let now = self.now();
        let mut first_due: Option<Duration> = None;
        let mut provisional = HashSet::new();
        let mut nodes = Vec::with_capacity(waiting.len());
        for record in waiting {
            let Some(kind) = Kind::parse(&record.kind) else {
                // Of a later version, which will store it.
                continue;
            };
            // Announced, but not settled yet.
            if kind == Kind::Host {
                continue;
            }
            if kind == Kind::Marker {
                let span = record.id.strip_suffix('?').filter(|span| !span.is_empty());
                provisional.extend(span.map(str::to_owned));
                self.adopt(group, &record.id, false);
                continue;
            }
            if self.options.host_run.is_some() && !self.state().is_own(group, &record.id) {
                continue;
            }
            let received_at = record.received_at.unwrap_or(now);
            let waited = (now - received_at).to_std().unwrap_or_default();
            let left = patience.saturating_sub(waited);
            let is_due = is_full || left.is_zero();
            if !is_due {
                first_due = Some(first_due.map_or(left, |first| first.min(left)));
            }
            nodes.push(Node {
                id: record.id,
                parent_id: record.parent_id,
                kind,
                at: record.started_at,
                is_due,
            });
        }
        if nodes.is_empty() {
            return Ok(None);
        }
        // Sequences depend on the order, so it must be the same if a fold is repeated.
        nodes.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        let settled = self.settled_parents(group, &nodes).await?;
        let plan = Group {
            id: group,
            nodes: &nodes,
            settled: &settled,
            provisional: &provisional,
        }
        .plan();
        let waiting = plan.waiting;
        let has_progress = waiting < nodes.len();
        let mut fold = Fold {
            group,
            has_all_contents: nodes.len() <= CHUNK,
            nodes,
            plan,
            contents: HashMap::new(),
            conversations: Conversations::default(),
            fresh: HashMap::new(),
            repeated: HashSet::new(),
        };
        self.store(&mut fold).await?;
        let mut state = self.state();
        // Only now are the messages of these calls stored.
        state.conversations.extend(fold.conversations);
        for open in state
            .open
            .get_mut(group)
            .into_iter()
            .flat_map(HashMap::values_mut)
        {
            open.changed = Instant::now();
        }
        Ok(match waiting {
            // There may be more.
            _ if is_full && has_progress => Some(Duration::ZERO),
            0 => None,
            _ => Some(first_due.unwrap_or_default()),
        })
    }

    /// Returns the settled records right above the waiting ones.
    async fn settled_parents(
        &self,
        group: &str,
        nodes: &[Node],
    ) -> Result<HashMap<String, Settled>> {
        let waiting: HashSet<_> = nodes.iter().map(|node| node.id.as_str()).collect();
        let parents = nodes.iter().filter_map(|node| node.parent_id.as_deref());
        let missing: HashSet<_> = parents.filter(|id| !waiting.contains(id)).collect();
        let missing: Vec<_> = missing.into_iter().map(str::to_owned).collect();
        let mut settled = HashMap::new();
        for ids in missing.chunks(1_000) {
            for record in self.history.find_staged(group, ids).await? {
                let kind = Kind::parse(&record.kind).unwrap_or(Kind::Other);
                settled.extend(record.run_id.map(|run| (record.id, Settled { run, kind })));
            }
        }
        Ok(settled)
    }

    /// Stores what a plan says. Each step can be repeated: if the process dies, the next fold makes
    /// the same plan for what isn't settled yet.
    async fn store(&self, fold: &mut Fold<'_>) -> Result<()> {
        let mut settled = Vec::new();
        let dropped = fold.plan.dropped.iter();
        settled.extend(dropped.map(|node| (fold.nodes[*node].id.clone(), String::new())));

        let mut unreadable = HashSet::new();
        let starts: Vec<_> = fold.plan.starts.clone().into_iter().collect();
        for chunk in starts.chunks(CHUNK) {
            self.load(fold, chunk.iter().map(|(_, start)| start.node))
                .await?;
            let mut started = Vec::with_capacity(chunk.len());
            for (id, start) in chunk {
                let record = fold.contents.get(&start.node);
                if record.is_none() && self.find_run(id).await?.is_none() {
                    unreadable.insert(id.clone());
                }
                started.push(self.start(fold.group, id, start, record));
            }
            let started = stream::iter(started).buffer_unordered(CONCURRENCY);
            for id in started.try_collect::<Vec<_>>().await?.into_iter().flatten() {
                fold.conversations.begin(&id);
                fold.fresh.insert(id, Totals::default());
            }
        }
        for (id, start) in &starts {
            if !start.is_own && !unreadable.contains(id) {
                let missing = fold.nodes[start.node].parent_id.as_deref();
                self.open(fold.group, id, missing).await?;
            }
        }

        self.find_repeated_calls(fold).await?;
        let ends = starts.iter().filter(|(_, start)| start.is_own);
        let ends: HashSet<_> = ends.map(|(_, start)| start.node).collect();
        let planned = std::mem::take(&mut fold.plan.events);
        for chunk in planned.chunks(CHUNK) {
            self.load(fold, chunk.iter().map(|(node, _)| *node)).await?;
            let mut events = Vec::with_capacity(chunk.len());
            for (node, run) in chunk {
                // Settled by another receiver, or of a form that a later version will read.
                if !fold.contents.contains_key(node) || unreadable.contains(run) {
                    continue;
                }
                // A run that is also an event is settled when it has ended.
                if !ends.contains(node) {
                    settled.push((fold.nodes[*node].id.clone(), run.clone()));
                }
                events.extend(self.event(fold, *node, run).await?);
            }
            self.append(events).await?;
            self.settle(fold.group, &settled).await?;
            settled.clear();
        }

        let ended: Vec<_> = starts.iter().filter(|(_, start)| start.is_own).collect();
        for chunk in ended.chunks(CHUNK) {
            self.load(fold, chunk.iter().map(|(_, start)| start.node))
                .await?;
            let mut finished = Vec::with_capacity(chunk.len());
            for (id, start) in chunk {
                if let Some(record) = fold.contents.get(&start.node) {
                    settled.push((fold.nodes[start.node].id.clone(), id.clone()));
                    finished.push(self.finish(id, record, fold.fresh.get(id).copied()));
                }
            }
            let finished = stream::iter(finished).buffer_unordered(CONCURRENCY);
            finished.try_collect::<Vec<()>>().await?;
            for (id, start) in chunk {
                fold.conversations.forget(id);
                if self.state().close(fold.group, id) {
                    settled.push((marker_of(&fold.nodes[start.node].id), id.clone()));
                }
            }
            self.settle(fold.group, &settled).await?;
            settled.clear();
        }
        match settled.is_empty() {
            true => Ok(()),
            false => self.settle(fold.group, &settled).await,
        }
    }

    /// Finds the model calls whose tokens another one inside them reports, too.
    async fn find_repeated_calls(&self, fold: &mut Fold<'_>) -> Result<()> {
        let wrappers = std::mem::take(&mut fold.plan.wrappers);
        let inside: HashSet<_> = wrappers.values().flatten().copied().collect();
        let inside: Vec<_> = inside.into_iter().collect();
        let mut counting = HashSet::new();
        for chunk in inside.chunks(CHUNK) {
            self.load(fold, chunk.iter().copied()).await?;
            let counts = |node: &usize| {
                let usage = fold
                    .contents
                    .get(node)
                    .and_then(|record| record.usage.as_ref());
                usage.is_some_and(|usage| {
                    let tokens = usage.input_tokens.or(usage.output_tokens);
                    tokens.or(usage.cost_micros).is_some()
                })
            };
            counting.extend(chunk.iter().copied().filter(counts));
        }
        let repeated = wrappers
            .into_iter()
            .filter(|(_, inside)| inside.iter().any(|call| counting.contains(call)));
        fold.repeated.extend(repeated.map(|(wrapper, _)| wrapper));
        // Calls inside a provisional run are stored already.
        for (id, start) in &fold.plan.starts {
            let is_call = fold.nodes[start.node].kind == Kind::ModelCall;
            if start.is_own && is_call && self.state().is_open(fold.group, id) {
                let mut stored = RunStats::new(RunStatus::OK);
                self.add_stored_tokens(id, &mut stored).await?;
                if stored.input_tokens + stored.output_tokens > 0 {
                    fold.repeated.insert(start.node);
                }
            }
        }
        Ok(())
    }

    /// Notes that this receiver stages records.
    pub(crate) fn stages(&self, records: &[StagedRecord]) {
        if self.options.host_run.is_none() {
            return;
        }
        let mut state = self.state();
        for record in records {
            let own = state.own.entry(record.group_id.clone()).or_default();
            own.insert(record.id.clone());
        }
    }

    async fn settle(&self, group: &str, records: &[(String, String)]) -> Result<()> {
        self.history.settle(group, records).await?;
        let mut state = self.state();
        if let Some(own) = state.own.get_mut(group) {
            for (id, _) in records {
                own.remove(id);
            }
            if own.is_empty() {
                state.own.remove(group);
            }
        }
        Ok(())
    }

    /// Reads the contents of these nodes, or of all if they are few.
    async fn load(&self, fold: &mut Fold<'_>, nodes: impl Iterator<Item = usize>) -> Result<()> {
        if fold.has_all_contents && !fold.contents.is_empty() {
            return Ok(());
        }
        let id = |node: usize| fold.nodes[node].id.clone();
        let nodes: HashMap<String, usize> = match fold.has_all_contents {
            true => (0..fold.nodes.len()).map(|node| (id(node), node)).collect(),
            false => nodes.map(|node| (id(node), node)).collect(),
        };
        fold.contents.clear();
        let ids: Vec<_> = nodes.keys().cloned().collect();
        for record in self.history.find_staged(fold.group, &ids).await? {
            let Some(content) = record.content else {
                continue;
            };
            match serde_json::from_value(content) {
                Ok(content) => {
                    fold.contents.insert(nodes[&record.id], content);
                }
                Err(err) => {
                    let (group, id) = (fold.group, &record.id);
                    tracing::warn!(group, id, reason = %err, "can't read a staged record");
                }
            }
        }
        Ok(())
    }

    async fn find_run(&self, run: &str) -> Result<Option<SkillRun>> {
        match self.history.get_run(run).await {
            Ok(run) => Ok(Some(run)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Starts a run. Returns its id if it wasn't stored before.
    async fn start(
        &self,
        group: &str,
        id: &str,
        start: &Start,
        record: Option<&Record>,
    ) -> Result<Option<String>> {
        let Some(record) = record else {
            return Ok(None);
        };
        let is_fresh = self.find_run(id).await?.is_none();
        if !is_fresh && !start.is_own {
            return Ok(None);
        }
        let part = &record.run;
        let is_provisional = !start.is_own && id != group;
        let skill = match part.labels.get("service") {
            Some(service) if is_provisional => service,
            _ => &part.skill,
        };
        let mut run = SkillRun::new(id, skill.as_str(), record.at)
            .caller(part.caller.as_str())
            .channel(part.channel.as_str());
        run.parent_run_id = start.parent.clone().or_else(|| part.parent.clone());
        if !is_provisional {
            run.inputs = part.inputs.clone();
        }
        run.labels = part.labels.clone();
        let mut started = self.history.start_run(&run).await;
        for inputs in [omitted(&run.inputs), Map::new()] {
            if matches!(started, Err(Error::TooLarge { .. })) {
                run.inputs = inputs;
                started = self.history.start_run(&run).await;
            }
        }
        match started {
            // Finished: received again after it was forgotten, or ended while it waited.
            Ok(()) | Err(Error::RunFinished { .. }) => Ok(is_fresh.then(|| id.to_owned())),
            Err(err) => Err(err),
        }
    }

    /// Remembers a run that no span ends, and stores a marker, so that other processes know it, too.
    async fn open(&self, group: &str, run: &str, missing: Option<&str>) -> Result<()> {
        if self.state().is_open(group, run) {
            return Ok(());
        }
        let marker = match missing {
            Some(span) if run != group => marker_of(span),
            _ => GROUP_MARKER.to_owned(),
        };
        let kind = Kind::Marker.as_str();
        let record = StagedRecord::new(group, marker.as_str(), kind, self.now(), json!({}));
        self.history.stage(&[record]).await?;
        self.adopt(group, &marker, true);
        Ok(())
    }

    /// Remembers an open run that a marker stands for.
    fn adopt(&self, group: &str, marker: &str, is_own: bool) {
        let span = marker.strip_suffix('?').filter(|span| !span.is_empty());
        let run = match span {
            Some(span) => plan::run_id(group, span),
            None => group.to_owned(),
        };
        let mut state = self.state();
        let open = state.open.entry(group.to_owned()).or_default();
        open.entry(run).or_insert_with(|| OpenRun {
            marker: marker.to_owned(),
            changed: Instant::now(),
            last: None,
            output: String::new(),
            is_provisional: span.is_some(),
            is_own,
        });
    }

    /// Ends the open runs for which nothing has arrived for long enough. Returns the first error,
    /// after all of them.
    pub(crate) async fn end_quiet_runs(&self) -> Result<()> {
        let (quiet, abandoned) = (self.options.quiet, self.options.abandoned);
        let is_due = |open: &OpenRun| {
            let limit = if open.is_provisional {
                abandoned
            } else {
                quiet
            };
            open.changed.elapsed() >= limit
        };
        self.end_open_runs(is_due, true).await
    }

    /// Ends all open runs that this receiver has opened. Returns the first error, after all of them.
    pub(crate) async fn end_own_runs(&self) -> Result<()> {
        self.end_open_runs(|open| open.is_own, false).await
    }

    async fn end_open_runs(
        &self,
        is_due: impl Fn(&OpenRun) -> bool + Send,
        may_continue: bool,
    ) -> Result<()> {
        let mut due = Vec::new();
        for (group, runs) in &self.state().open {
            let runs = runs.iter().filter(|(_, open)| is_due(open));
            due.extend(runs.map(|(run, open)| (group.clone(), run.clone(), open.clone())));
        }
        let mut outcome = Ok(());
        for (group, run, open) in due {
            let ended = self.end_open_run(&group, &run, open, may_continue).await;
            outcome = outcome.and(ended);
        }
        outcome
    }

    async fn end_open_run(
        &self,
        group: &str,
        run: &str,
        open: OpenRun,
        may_continue: bool,
    ) -> Result<()> {
        let last = self
            .last_event(run)
            .await?
            .and_then(|event| event.created_at);
        // Another receiver stores its events, or will end it.
        if may_continue && (last > open.last || self.has_other_owner(run).await?) {
            let mut state = self.state();
            if let Some(open) = state.find_open(group, run) {
                (open.last, open.changed) = (last, Instant::now());
            }
            return Ok(());
        }
        let mut stats = match open.is_provisional {
            true => RunStats::new(RunStatus::INTERRUPTED)
                .error("interrupted: the span of this run has not been received"),
            false => RunStats::new(RunStatus::OK).output(open.output),
        };
        stats.finished_at = last;
        self.add_stored_totals(run, &mut stats).await?;
        self.finish_run(run, stats).await?;
        let settled = [(open.marker, run.to_owned())];
        self.settle(group, &settled).await?;
        let mut state = self.state();
        state.conversations.forget(run);
        state.close(group, run);
        Ok(())
    }

    /// Whether a run belongs to another process that is alive.
    async fn has_other_owner(&self, run: &str) -> Result<bool> {
        let Some(run) = self.find_run(run).await? else {
            return Ok(false);
        };
        let own = self.history.owner().map(|owner| owner.id.as_str());
        match run.owner_id.as_deref() {
            Some(owner) if Some(owner) != own => {
                let owner = self.history.find_owner(owner).await?;
                Ok(owner.is_some_and(|owner| owner.is_alive))
            }
            _ => Ok(false),
        }
    }

    async fn last_event(&self, run: &str) -> Result<Option<SkillRunLog>> {
        let request = PageRequest::first(1);
        let order = ListOrder::NewestFirst;
        let filter = LogFilter::new();
        match self.history.page_logs(run, &filter, order, &request).await {
            Ok(page) => Ok(page.items.into_iter().next()),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Adds the tokens of the stored events of a run.
    async fn add_stored_tokens(&self, run: &str, stats: &mut RunStats) -> Result<()> {
        let mut totals = Totals::default();
        for model in self.history.usage_by_model(&[run.to_owned()]).await? {
            totals.add_tokens([
                model.input_tokens,
                model.output_tokens,
                model.thinking_tokens,
            ]);
        }
        [
            stats.input_tokens,
            stats.output_tokens,
            stats.thinking_tokens,
        ] = totals.tokens;
        Ok(())
    }

    /// Adds the tokens of the stored events of a run, and the number of its tool calls.
    async fn add_stored_totals(&self, run: &str, stats: &mut RunStats) -> Result<()> {
        self.add_stored_tokens(run, stats).await?;
        let calls = LogFilter::new().event_type(TOOL_CALL);
        let mut events = self
            .history
            .stream_logs(run, &calls, ListOrder::OldestFirst);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => stats.tool_calls += 1,
                Err(Error::Corrupt { .. }) => {}
                Err(Error::NotFound { .. }) => break,
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Finishes the run of a span. `totals` are those of all its events, if they are known.
    async fn finish(&self, id: &str, record: &Record, totals: Option<Totals>) -> Result<()> {
        let mut stats = RunStats::new(match &record.run.error {
            None => RunStatus::OK,
            Some(_) => RunStatus::ERROR,
        });
        stats.output = record.run.output.clone();
        stats.error = record.run.error.clone().unwrap_or_default();
        stats.runtime_seconds = record.duration.unwrap_or_default().as_secs_f64();
        stats.finished_at = Some(end(record));
        match totals {
            Some(totals) => {
                stats.tool_calls = totals.tool_calls;
                [
                    stats.input_tokens,
                    stats.output_tokens,
                    stats.thinking_tokens,
                ] = totals.tokens;
            }
            None => self.add_stored_totals(id, &mut stats).await?,
        }
        let counted = [
            stats.input_tokens,
            stats.output_tokens,
            stats.thinking_tokens,
        ];
        // The total that a run reports counts only if no call of it reports tokens.
        if counted == [0; 3]
            && record.role == Role::Run
            && let Some(total) = &record.usage
        {
            stats.input_tokens = total.input_tokens.unwrap_or_default();
            stats.output_tokens = total.output_tokens.unwrap_or_default();
            stats.thinking_tokens = total.thinking_tokens.unwrap_or_default();
        }
        self.finish_run(id, stats).await
    }

    /// Finishes a run, unless it has ended in another way.
    async fn finish_run(&self, id: &str, mut stats: RunStats) -> Result<()> {
        let mut finished = self.history.finish_run(id, &stats).await;
        if let Err(Error::TooLarge { limit, .. }) = finished {
            stats.output = cut(&stats.output, limit);
            stats.error = cut(&stats.error, limit);
            finished = self.history.finish_run(id, &stats).await;
        }
        match finished {
            Err(Error::RunFinished { .. }) => self.keep_outcome(id, &stats).await,
            // Deleted by a purge.
            Err(Error::NotFound { .. }) => Ok(()),
            finished => finished,
        }
    }

    /// Records the outcome of a run as an event if a sweep has ended the run for another owner.
    /// Otherwise, the outcome is already stored.
    async fn keep_outcome(&self, id: &str, stats: &RunStats) -> Result<()> {
        let Some(run) = self.find_run(id).await? else {
            return Ok(());
        };
        if run.status != RunStatus::INTERRUPTED || stats.status == RunStatus::INTERRUPTED {
            return Ok(());
        }
        let at = stats.finished_at.unwrap_or_else(|| self.now());
        let payload = json!({
            SPAN_ID: "outcome",
            "status": stats.status.as_str(),
            "output": stats.output,
            "error": stats.error,
        });
        let event = SkillRunLog::new(id, sequence(at), "outcome", payload).created_at(at);
        self.append(vec![event]).await
    }

    /// Returns the event that a record is.
    async fn event(
        &self,
        fold: &mut Fold<'_>,
        node: usize,
        run: &str,
    ) -> Result<Option<SkillRunLog>> {
        let Some(record) = fold.contents.get_mut(&node) else {
            return Ok(None);
        };
        let at = end(record);
        if fold.repeated.contains(&node) {
            without_tokens(record);
        }
        let Some(part) = record.event.take() else {
            return Ok(None);
        };
        let (inputs, output) = (&record.run.inputs, &record.run.output);
        if run == fold.group && record.role == Role::Log && !inputs.is_empty() {
            self.add_inputs(run, inputs).await?;
        }
        if let Some(open) = self.state().find_open(fold.group, run) {
            open.last = open.last.max(Some(at));
            if !open.is_provisional && !output.is_empty() {
                open.output = output.clone();
            }
        }
        let mut payload = part.payload;
        if !part.messages.is_empty() {
            if !fold.conversations.knows(run) {
                let known = self.state().conversations.take(run);
                fold.conversations.extend(known);
            }
            if !fold.conversations.knows(run) {
                fold.conversations.read(&*self.history, run).await?;
            }
            let (messages, digests) = (part.messages, &part.digests);
            fold.conversations
                .continue_with(run, messages, digests, &mut payload);
        }
        payload.insert(SPAN_ID.to_owned(), record.id.as_str().into());
        let payload = Value::Object(payload);
        let mut event =
            SkillRunLog::new(run, sequence(at), part.event_type, payload).created_at(at);
        event.duration = record.duration;
        event.usage = record
            .usage
            .take()
            .filter(|usage| rules::usage(usage).is_ok());
        if let Some(totals) = fold.fresh.get_mut(run) {
            totals.tool_calls += u64::from(event.event_type == TOOL_CALL);
            if let Some(usage) = &event.usage {
                let counts = [
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.thinking_tokens,
                ];
                totals.add_tokens(counts.map(Option::unwrap_or_default));
            }
        }
        Ok(Some(event))
    }

    /// Adds the inputs of a session to its run, which another log has started.
    async fn add_inputs(&self, run: &str, inputs: &Map<String, Value>) -> Result<()> {
        let Some(mut run) = self.find_run(run).await? else {
            return Ok(());
        };
        if !run.inputs.is_empty() || !run.is_running() {
            return Ok(());
        }
        run.inputs = inputs.clone();
        match self.history.start_run(&run).await {
            Err(err) if matches!(err.kind(), ErrorKind::RunFinished | ErrorKind::TooLarge) => {
                Ok(())
            }
            started => started,
        }
    }

    /// Stores events. Events of a run that end in the same microsecond get adjacent sequences. An
    /// event that is stored already isn't stored again, and one of a deleted run is left out.
    async fn append(&self, mut events: Vec<SkillRunLog>) -> Result<()> {
        let mut taken = HashSet::new();
        let mut place = 0;
        while place < events.len() {
            let event = &events[place];
            let is_free = taken.insert((event.run_id.clone(), event.sequence));
            if is_free || self.move_on(&mut events[place], &mut taken).await? {
                place += 1;
            } else {
                events.remove(place);
            }
        }
        while !events.is_empty() {
            match self.history.append_logs(&events).await {
                Ok(()) => return Ok(()),
                Err(Error::Conflict { run_id, sequence }) => {
                    let is_it = |it: &SkillRunLog| it.run_id == run_id && it.sequence == sequence;
                    let Some(place) = events.iter().position(is_it) else {
                        return Err(Error::Conflict { run_id, sequence });
                    };
                    if !self.move_on(&mut events[place], &mut taken).await? {
                        events.remove(place);
                    }
                }
                Err(Error::NotFound { run_id }) => {
                    tracing::warn!(run_id, "left out telemetry of a run that has been deleted");
                    events.retain(|event| event.run_id != run_id);
                }
                Err(Error::TooLarge { .. } | Error::InvalidInput { .. }) if events.len() > 1 => {
                    // Find the one that can't be stored.
                    for event in events {
                        Box::pin(self.append(vec![event])).await?;
                    }
                    return Ok(());
                }
                Err(err @ (Error::TooLarge { .. } | Error::InvalidInput { .. })) => {
                    let Some(event) = events.first_mut() else {
                        return Ok(());
                    };
                    let reduced = reduced(&event.payload, &err);
                    if event.payload == reduced {
                        return Err(err);
                    }
                    event.payload = reduced;
                }
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Moves an event to the next free sequence. Returns false if it is stored already.
    async fn move_on(
        &self,
        event: &mut SkillRunLog,
        taken: &mut HashSet<(String, u64)>,
    ) -> Result<bool> {
        let Some(at) = event.created_at else {
            return Ok(true);
        };
        let first = sequence(at);
        let filter = match first.checked_sub(1) {
            Some(before) => LogFilter::new().after(before),
            None => LogFilter::new(),
        };
        let order = ListOrder::OldestFirst;
        let mut events = self.history.stream_logs(&event.run_id, &filter, order);
        let mut free = first;
        while let Some(stored) = events.next().await {
            let stored = match stored {
                Ok(stored) => stored,
                Err(Error::NotFound { .. } | Error::Corrupt { .. }) => break,
                Err(err) => return Err(err),
            };
            // Those that ended in the same microsecond are adjacent.
            if stored.sequence != free {
                break;
            }
            if stored.payload.get(SPAN_ID) == event.payload.get(SPAN_ID) {
                return Ok(false);
            }
            free += 1;
        }
        event.sequence = free;
        while !taken.insert((event.run_id.clone(), event.sequence)) {
            event.sequence += 1;
        }
        Ok(true)
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.options.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic can't leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_own(&self, group: &str, id: &str) -> bool {
        self.own.get(group).is_some_and(|own| own.contains(id))
    }

    fn find_open(&mut self, group: &str, run: &str) -> Option<&mut OpenRun> {
        self.open.get_mut(group)?.get_mut(run)
    }

    fn is_open(&self, group: &str, run: &str) -> bool {
        let runs = self.open.get(group);
        runs.is_some_and(|runs| runs.contains_key(run))
    }

    /// Forgets an open run. Returns whether it was open.
    fn close(&mut self, group: &str, run: &str) -> bool {
        let Some(runs) = self.open.get_mut(group) else {
            return false;
        };
        let was_open = runs.remove(run).is_some();
        if runs.is_empty() {
            self.open.remove(group);
        }
        was_open
    }
}

/// The sequence of an event that ends at this time: the same for every delivery, and in the order
/// of time.
fn sequence(at: DateTime<Utc>) -> u64 {
    u64::try_from(rules::micros(at)).unwrap_or_default()
}

/// Removes the tokens and cost of a call, which another one reports, too.
fn without_tokens(record: &mut Record) {
    if let Some(usage) = &mut record.usage {
        let mut names = Usage::new();
        names.provider = usage.provider.take();
        names.model = usage.model.take();
        *usage = names;
    }
}

/// The end of a span, or the time of a log.
fn end(record: &Record) -> DateTime<Utc> {
    let duration = record.duration.unwrap_or_default();
    let end = chrono::TimeDelta::from_std(duration)
        .ok()
        .and_then(|duration| record.at.checked_add_signed(duration));
    end.unwrap_or(record.at)
}

/// Returns the names of the values of an object that is too large.
fn omitted(object: &Map<String, Value>) -> Map<String, Value> {
    let names: Vec<_> = object.keys().cloned().collect();
    Map::from_iter([("omitted".to_owned(), names.into())])
}

/// Returns a payload without the part that can't be stored: first without the messages, then with
/// the reason alone.
fn reduced(payload: &Value, err: &Error) -> Value {
    let mut payload = payload.as_object().cloned().unwrap_or_default();
    let id = payload.get(SPAN_ID).cloned();
    if payload.remove("messages").is_some() {
        payload.insert("omitted".to_owned(), "messages".into());
        return Value::Object(payload);
    }
    let mut rest = Map::new();
    rest.extend(id.map(|id| (SPAN_ID.to_owned(), id)));
    rest.insert("omitted".to_owned(), err.to_string().into());
    Value::Object(rest)
}

fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").finish_non_exhaustive()
    }
}
