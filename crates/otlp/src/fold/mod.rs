//! Turning staged records into runs and events.

mod messages;
mod plan;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use runtrail_audit::{
    Error, ErrorKind, History, Limits, ListOrder, LogFilter, PageRequest, Result, RunStats,
    RunStatus, SkillRun, SkillRunLog, StagedRecord, Usage, rules,
};
use runtrail_telemetry::{EventPart, Record, Role};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::messages::Conversations;
use self::plan::{Group, Kind, Node, Plan, Start};
use crate::ReceiverOptions;

/// The most waiting records of a group that are looked at together.
const MAX_NODES: u64 = 100_000;

/// The number of records whose content is in memory at the same time.
const CHUNK: usize = 500;

/// The number of runs that are started or finished at the same time.
const CONCURRENCY: usize = 16;

/// The type of event of a tool call.
const TOOL_CALL: &str = "tool_call";

/// The key by which the payload of an event names its record.
const SPAN_ID: &str = "span_id";

/// Moves staged records to runs.
pub(crate) struct Folder {
    history: Arc<dyn History>,
    options: ReceiverOptions,
    conversations: Conversations,
    open: HashMap<String, OpenRun>,
}

/// A run that no span ends.
struct OpenRun {
    group: String,
    /// The id of its marker in the group.
    marker: String,
    /// When the last record of its group was stored.
    changed: Instant,
    /// The end of the last event.
    last: Option<DateTime<Utc>>,
    /// The last output that a log of the session has reported.
    output: String,
    is_provisional: bool,
}

/// Where an event belongs by its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    run_id: String,
    sequence: u64,
}

impl Place {
    fn of(event: &SkillRunLog) -> Self {
        Self {
            run_id: event.run_id.clone(),
            sequence: event.sequence,
        }
    }
}

/// Returns what kind of record it is.
pub(crate) fn kind_of(record: &Record) -> Kind {
    match record.role {
        Role::Run => Kind::Run,
        Role::ModelCall => Kind::ModelCall,
        Role::ToolCall => Kind::ToolCall,
        Role::Span if record.is_agentic => Kind::Span,
        Role::Span => Kind::Other,
        Role::Log => Kind::Log,
    }
}

/// Returns the id of the marker of a provisional run; no span has such an id.
fn marker_of(span: &str) -> String {
    format!("{span}?")
}

/// The marker of the run of a group of logs.
const SESSION_MARKER: &str = "?";

impl Folder {
    pub(crate) fn new(history: Arc<dyn History>, options: ReceiverOptions) -> Self {
        Self {
            history,
            options,
            conversations: Conversations::default(),
            open: HashMap::new(),
        }
    }

    /// Stores the records of a group that belong to known runs. Returns the time until the first of
    /// the others has waited long enough, if there are any.
    pub(crate) async fn fold(&mut self, group: &str) -> Result<Option<Duration>> {
        self.fold_due(group, self.options.patience).await
    }

    /// Stores all records of a group.
    pub(crate) async fn fold_all(&mut self, group: &str) -> Result<()> {
        while self.fold_due(group, Duration::ZERO).await?.is_some() {}
        Ok(())
    }

    async fn fold_due(&mut self, group: &str, patience: Duration) -> Result<Option<Duration>> {
        let waiting = self.history.waiting_records(group, MAX_NODES).await?;
        // More can't be looked at, so these don't wait any longer.
        let is_full = waiting.len() as u64 == MAX_NODES;
        let now = self.now();
        let mut first_due: Option<Duration> = None;
        let mut provisional = HashSet::new();
        let mut nodes = Vec::with_capacity(waiting.len());
        for record in waiting {
            let kind = Kind::parse(&record.kind).unwrap_or(Kind::Other);
            if kind == Kind::Marker {
                provisional.extend(record.id.strip_suffix('?').map(str::to_owned));
                self.adopt(group, record.id);
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
        // Events are stored in the order of their time, as far as they arrive in it.
        nodes.sort_by_key(|node| node.at);
        let settled = self.settled_parents(group, &nodes).await?;
        let plan = Group {
            id: group,
            nodes: &nodes,
            settled: &settled,
            provisional: &provisional,
            top: self.options.parent_span_id.as_deref(),
        }
        .plan();
        self.store(group, &nodes, &plan).await?;
        for open in self.open.values_mut().filter(|open| open.group == group) {
            open.changed = Instant::now();
        }
        Ok(match plan.waiting {
            0 => None,
            _ => Some(first_due.unwrap_or_default()),
        })
    }

    /// Returns the runs of the settled records right above the waiting ones.
    async fn settled_parents(
        &self,
        group: &str,
        nodes: &[Node],
    ) -> Result<HashMap<String, String>> {
        let waiting: HashSet<_> = nodes.iter().map(|node| node.id.as_str()).collect();
        let parents = nodes.iter().filter_map(|node| node.parent_id.as_deref());
        let missing: HashSet<_> = parents.filter(|id| !waiting.contains(id)).collect();
        let missing: Vec<_> = missing.into_iter().map(str::to_owned).collect();
        let mut settled = HashMap::new();
        for ids in missing.chunks(CHUNK) {
            for record in self.history.find_staged(group, ids).await? {
                settled.extend(record.run_id.map(|run| (record.id, run)));
            }
        }
        Ok(settled)
    }

    /// Stores what a plan says. Each step can be repeated: if the process dies, the next fold makes
    /// the same plan for what isn't settled yet.
    async fn store(&mut self, group: &str, nodes: &[Node], plan: &Plan) -> Result<()> {
        let starts: Vec<_> = plan.starts.iter().collect();
        let mut stored_before = HashSet::new();
        for chunk in starts.chunks(CHUNK) {
            let contents = self
                .contents(group, nodes, chunk.iter().map(|(_, it)| it.node))
                .await?;
            let mut started = Vec::with_capacity(chunk.len());
            for (id, start) in chunk {
                started.push(self.start(group, id, start, contents.get(&start.node)));
            }
            let started = stream::iter(started).buffer_unordered(CONCURRENCY);
            stored_before.extend(started.try_collect::<Vec<_>>().await?.into_iter().flatten());
        }
        for (id, start) in &starts {
            if !start.is_own {
                self.open(group, id, nodes[start.node].parent_id.as_deref())
                    .await?;
            }
        }
        let repeated = self.repeated_calls(group, nodes, plan).await?;
        let mut tool_calls: HashMap<&str, u64> = HashMap::new();
        let ends: HashSet<usize> = plan
            .starts
            .values()
            .filter(|it| it.is_own)
            .map(|it| it.node)
            .collect();
        for chunk in plan.events.chunks(CHUNK) {
            let mut contents = self
                .contents(group, nodes, chunk.iter().map(|(node, _)| *node))
                .await?;
            let mut events = Vec::with_capacity(chunk.len());
            for (node, run) in chunk {
                let Some(mut record) = contents.remove(node) else {
                    // Stored in the meantime, by another receiver: what is stored is counted.
                    stored_before.insert(run.clone());
                    continue;
                };
                if repeated.contains(node) {
                    without_tokens(&mut record);
                }
                let output = record.run.output.clone();
                let Some(event) = self.event(run, record).await? else {
                    continue;
                };
                if event.event_type == TOOL_CALL {
                    *tool_calls.entry(run).or_default() += 1;
                }
                if let Some(open) = self.open.get_mut(run.as_str()) {
                    open.last = open.last.max(event.created_at);
                    if !open.is_provisional && !output.is_empty() {
                        open.output = output;
                    }
                }
                events.push(event);
            }
            self.append(group, nodes, events).await?;
            // A run that is also an event is settled when it has ended.
            let done = chunk.iter().filter(|(node, _)| !ends.contains(node));
            let done: Vec<_> = done
                .map(|(node, run)| (nodes[*node].id.clone(), run.clone()))
                .collect();
            self.history.settle(group, &done).await?;
        }
        let ended: Vec<_> = starts.iter().filter(|(_, start)| start.is_own).collect();
        for chunk in ended.chunks(CHUNK) {
            let contents = self
                .contents(group, nodes, chunk.iter().map(|(_, it)| it.node))
                .await?;
            let ids: Vec<_> = chunk.iter().map(|(id, _)| (*id).clone()).collect();
            let mut usage: HashMap<String, [u64; 3]> = HashMap::new();
            for model in self.history.usage_by_model(&ids).await? {
                let sums = usage.entry(model.run_id).or_default();
                sums[0] = sums[0].saturating_add(model.input_tokens);
                sums[1] = sums[1].saturating_add(model.output_tokens);
                sums[2] = sums[2].saturating_add(model.thinking_tokens);
            }
            let mut finished = Vec::with_capacity(chunk.len());
            for (id, start) in chunk {
                let counted = (!stored_before.contains(id.as_str()))
                    .then(|| tool_calls.get(id.as_str()).copied().unwrap_or_default());
                let (record, usage) = (contents.get(&start.node), usage.get(id.as_str()));
                finished.push(self.finish(id, record, usage, counted));
            }
            let finished = stream::iter(finished).buffer_unordered(CONCURRENCY);
            finished.try_collect::<Vec<()>>().await?;
            let mut done: Vec<_> = chunk
                .iter()
                .map(|(id, start)| (nodes[start.node].id.clone(), (*id).clone()))
                .collect();
            for (id, start) in chunk {
                self.conversations.forget(id);
                if self.open.remove(id.as_str()).is_some() {
                    done.push((marker_of(&nodes[start.node].id), (*id).clone()));
                }
            }
            self.history.settle(group, &done).await?;
        }
        let dropped = plan
            .dropped
            .iter()
            .map(|node| (nodes[*node].id.clone(), String::new()));
        self.history
            .settle(group, &dropped.collect::<Vec<_>>())
            .await
    }

    /// Returns the model calls whose tokens another one inside them reports, too.
    async fn repeated_calls(
        &self,
        group: &str,
        nodes: &[Node],
        plan: &Plan,
    ) -> Result<HashSet<usize>> {
        let inside: HashSet<usize> = plan.wrappers.values().flatten().copied().collect();
        let inside: Vec<usize> = inside.into_iter().collect();
        let mut without_tokens = HashSet::new();
        for chunk in inside.chunks(CHUNK) {
            let contents = self.contents(group, nodes, chunk.iter().copied()).await?;
            let contents = contents.into_iter();
            without_tokens.extend(contents.filter_map(|(node, call)| {
                let has_tokens = call.usage.is_some_and(|usage| {
                    usage.input_tokens.is_some()
                        || usage.output_tokens.is_some()
                        || usage.cost_micros.is_some()
                });
                (!has_tokens).then_some(node)
            }));
        }
        let wrappers = plan.wrappers.iter();
        let repeated =
            wrappers.filter(|(_, calls)| calls.iter().any(|call| !without_tokens.contains(call)));
        Ok(repeated.map(|(wrapper, _)| *wrapper).collect())
    }

    /// Reads the contents of nodes.
    async fn contents(
        &self,
        group: &str,
        nodes: &[Node],
        places: impl Iterator<Item = usize>,
    ) -> Result<HashMap<usize, Record>> {
        let places: HashMap<String, usize> = places
            .map(|place| (nodes[place].id.clone(), place))
            .collect();
        let ids: Vec<_> = places.keys().cloned().collect();
        let mut contents = HashMap::with_capacity(ids.len());
        for record in self.history.find_staged(group, &ids).await? {
            let Some(content) = record.content else {
                continue;
            };
            match serde_json::from_value(content) {
                Ok(content) => {
                    contents.insert(places[&record.id], content);
                }
                Err(err) => {
                    let (group, id) = (group, &record.id);
                    tracing::warn!(group, id, reason = %err, "left out a damaged staged record");
                }
            }
        }
        Ok(contents)
    }

    /// Starts a run. Returns its id if it was stored before.
    async fn start(
        &self,
        group: &str,
        id: &str,
        start: &Start,
        record: Option<&Record>,
    ) -> Result<Option<String>> {
        // Settled in the meantime, by another receiver.
        let Some(record) = record else {
            return Ok(Some(id.to_owned()));
        };
        let part = &record.run;
        let is_provisional = !start.is_own && id != group;
        let skill = match part.labels.get("service") {
            Some(service) if is_provisional => service,
            _ => &part.skill,
        };
        let mut run = SkillRun::new(id, skill.as_str(), record.at)
            .caller(part.caller.as_str())
            .channel(part.channel.as_str());
        run.parent_run_id = start
            .parent
            .clone()
            .or_else(|| self.options.parent_run_id.clone());
        if !is_provisional {
            run.inputs = bounded("inputs", part.inputs.clone());
        }
        run.labels = part.labels.clone();
        let stored_before = match self.history.get_run(id).await {
            Ok(stored) => {
                if !start.is_own {
                    return Ok(Some(stored.id));
                }
                true
            }
            Err(Error::NotFound { .. }) => false,
            Err(err) => return Err(err),
        };
        match self.history.start_run(&run).await {
            // Received again after it had been forgotten.
            Ok(()) | Err(Error::RunFinished { .. }) => {}
            Err(err) => return Err(err),
        }
        Ok(stored_before.then(|| id.to_owned()))
    }

    /// Remembers a run that no span ends, and stores a marker, so that other processes know it, too.
    async fn open(&mut self, group: &str, run: &str, missing: Option<&str>) -> Result<()> {
        if self.open.contains_key(run) {
            return Ok(());
        }
        let marker = match missing {
            Some(span) if run != group => marker_of(span),
            _ => SESSION_MARKER.to_owned(),
        };
        let kind = Kind::Marker.as_str();
        let record = StagedRecord::new(group, marker.as_str(), kind, self.now(), json!({}));
        self.history.stage(&[record]).await?;
        self.adopt(group, marker);
        Ok(())
    }

    /// Remembers an open run that a marker stands for.
    fn adopt(&mut self, group: &str, marker: String) {
        let run = match marker.strip_suffix('?') {
            Some(span) if !span.is_empty() => plan::run_id(group, span),
            _ => group.to_owned(),
        };
        self.open.entry(run).or_insert_with(|| OpenRun {
            group: group.to_owned(),
            is_provisional: marker != SESSION_MARKER,
            marker,
            changed: Instant::now(),
            last: None,
            output: String::new(),
        });
    }

    /// Ends the open runs for which nothing has arrived for this time; all of them for `None`.
    pub(crate) async fn end_open_runs(&mut self, quiet: Option<Duration>) -> Result<()> {
        let is_quiet = |open: &OpenRun| quiet.is_none_or(|quiet| open.changed.elapsed() >= quiet);
        let quiet: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| is_quiet(open))
            .map(|(id, _)| id.clone())
            .collect();
        for id in quiet {
            let Some(open) = self.open.get(&id) else {
                continue;
            };
            let mut stats = match open.is_provisional {
                true => RunStats::new(RunStatus::INTERRUPTED)
                    .error("interrupted: the span of this run has not been received"),
                false => RunStats::new(RunStatus::OK).output(cut(&open.output)),
            };
            let last = match open.last {
                Some(last) => Some(last),
                None => self
                    .last_event(&id)
                    .await?
                    .and_then(|event| event.created_at),
            };
            stats.finished_at = last;
            self.add_totals(&id, &mut stats, None).await?;
            finished(self.history.finish_run(&id, &stats).await)?;
            let settled = [(open.marker.clone(), id.clone())];
            self.history.settle(&open.group, &settled).await?;
            self.conversations.forget(&id);
            self.open.remove(&id);
        }
        Ok(())
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

    /// Adds the tokens of the events of a run, and the number of its tool calls.
    async fn add_totals(
        &self,
        run: &str,
        stats: &mut RunStats,
        usage: Option<&[u64; 3]>,
    ) -> Result<()> {
        let mut sums = usage.copied().unwrap_or_default();
        if usage.is_none() {
            for model in self.history.usage_by_model(&[run.to_owned()]).await? {
                sums[0] = sums[0].saturating_add(model.input_tokens);
                sums[1] = sums[1].saturating_add(model.output_tokens);
                sums[2] = sums[2].saturating_add(model.thinking_tokens);
            }
        }
        [
            stats.input_tokens,
            stats.output_tokens,
            stats.thinking_tokens,
        ] = sums;
        let calls = LogFilter::new().event_type(TOOL_CALL);
        let mut events = self
            .history
            .stream_logs(run, &calls, ListOrder::OldestFirst);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => stats.tool_calls += 1,
                Err(Error::NotFound { .. }) => break,
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Finishes the run of a span. `tool_calls` is their number if all of them are known.
    async fn finish(
        &self,
        id: &str,
        record: Option<&Record>,
        usage: Option<&[u64; 3]>,
        tool_calls: Option<u64>,
    ) -> Result<()> {
        let Some(record) = record else { return Ok(()) };
        let mut stats = RunStats::new(match &record.run.error {
            None => RunStatus::OK,
            Some(_) => RunStatus::ERROR,
        });
        stats.output = cut(&record.run.output);
        stats.error = cut(record.run.error.as_deref().unwrap_or_default());
        let duration = record.duration.unwrap_or_default();
        stats.runtime_seconds = duration.as_secs_f64();
        stats.finished_at = Some(end(record));
        match tool_calls {
            Some(tool_calls) => {
                stats.tool_calls = tool_calls;
                [
                    stats.input_tokens,
                    stats.output_tokens,
                    stats.thinking_tokens,
                ] = usage.copied().unwrap_or_default();
            }
            None => self.add_totals(id, &mut stats, usage).await?,
        }
        // The total that a run reports counts only if no call of it reports tokens.
        if usage.is_none_or(|sums| *sums == [0; 3])
            && record.role == Role::Run
            && let Some(total) = &record.usage
        {
            stats.input_tokens = total.input_tokens.unwrap_or_default();
            stats.output_tokens = total.output_tokens.unwrap_or_default();
            stats.thinking_tokens = total.thinking_tokens.unwrap_or_default();
        }
        finished(self.history.finish_run(id, &stats).await)
    }

    /// Returns the event that a record is.
    async fn event(&mut self, run: &str, record: Record) -> Result<Option<SkillRunLog>> {
        let at = end(&record);
        let Some(EventPart {
            event_type,
            mut payload,
            messages,
            ..
        }) = record.event
        else {
            return Ok(None);
        };
        if !messages.is_empty() {
            self.conversations
                .continue_with(&*self.history, run, messages, &mut payload)
                .await?;
        }
        payload.insert(SPAN_ID.to_owned(), record.id.into());
        // Distinct and in the order of time, whatever arrives first and however often.
        let sequence = u64::try_from(rules::micros(at)).unwrap_or_default();
        let payload = Value::Object(bounded("payload", payload));
        let mut event = SkillRunLog::new(run, sequence, event_type, payload).created_at(at);
        event.duration = record.duration;
        event.usage = record.usage.filter(|usage| rules::usage(usage).is_ok());
        Ok(Some(event))
    }

    /// Stores events. Those of a run that end in the same microsecond get adjacent sequences, and
    /// one that is stored already isn't stored again, whatever the order in which they arrive.
    async fn append(
        &self,
        group: &str,
        nodes: &[Node],
        mut events: Vec<SkillRunLog>,
    ) -> Result<()> {
        let mut places: Vec<Place> = events.iter().map(Place::of).collect();
        let mut crowded = HashSet::new();
        loop {
            self.arrange(&mut events, &mut places, &mut crowded).await?;
            let (run_id, sequence) = match self.history.append_logs(&events).await {
                Ok(()) => return Ok(()),
                Err(Error::Conflict { run_id, sequence }) => (run_id, sequence),
                Err(Error::NotFound { run_id }) => {
                    // Deleted since it was started: by a purge.
                    let started_at = nodes.first().map_or_else(|| self.now(), |node| node.at);
                    let run = SkillRun::new(run_id.as_str(), "unknown", started_at);
                    self.history.start_run(&run).await?;
                    tracing::warn!(group, run_id, "started a run again that had been deleted");
                    continue;
                }
                Err(err) => return Err(err),
            };
            let is_it = |event: &SkillRunLog| event.run_id == run_id && event.sequence == sequence;
            match events.iter().position(is_it) {
                Some(event) => crowded.insert(places[event].clone()),
                None => return Err(Error::Conflict { run_id, sequence }),
            };
        }
    }

    /// Gives each event a sequence of its own, and removes those that are stored already. `places`
    /// are those of the events, and `crowded` those that other events have, too.
    async fn arrange(
        &self,
        events: &mut Vec<SkillRunLog>,
        places: &mut Vec<Place>,
        crowded: &mut HashSet<Place>,
    ) -> Result<()> {
        let mut taken = HashSet::new();
        for place in &*places {
            if !taken.insert(place.clone()) {
                crowded.insert(place.clone());
            }
        }
        taken.retain(|place| !crowded.contains(place));
        let mut stored: HashMap<&Place, Vec<Option<Value>>> = HashMap::new();
        for place in &*crowded {
            stored.insert(place, self.stored_from(place).await?);
        }
        let all = mem::take(events).into_iter().zip(mem::take(places));
        for (mut event, place) in all {
            event.sequence = place.sequence;
            if let Some(stored) = stored.get(&place) {
                if stored.contains(&event.payload.get(SPAN_ID).cloned()) {
                    continue;
                }
                event.sequence += stored.len() as u64;
                while !taken.insert(Place::of(&event)) {
                    event.sequence += 1;
                }
            }
            events.push(event);
            places.push(place);
        }
        Ok(())
    }

    /// Returns the ids of the records of the events that are stored at a place and right after it.
    async fn stored_from(&self, place: &Place) -> Result<Vec<Option<Value>>> {
        const PAGE: u64 = 100;

        let mut ids = Vec::new();
        loop {
            let next = place.sequence + ids.len() as u64;
            let filter = match next.checked_sub(1) {
                Some(before) => LogFilter::new().after(before),
                None => LogFilter::new(),
            };
            let request = PageRequest::first(PAGE);
            let order = ListOrder::OldestFirst;
            let page = self
                .history
                .page_logs(&place.run_id, &filter, order, &request);
            let events = match page.await {
                Ok(page) => page.items,
                Err(Error::NotFound { .. }) => return Ok(ids),
                Err(err) => return Err(err),
            };
            let adjacent = (next..).zip(&events);
            let adjacent = adjacent.take_while(|(sequence, event)| event.sequence == *sequence);
            let before = ids.len();
            ids.extend(adjacent.map(|(_, event)| event.payload.get(SPAN_ID).cloned()));
            if ids.len() - before < PAGE as usize {
                return Ok(ids);
            }
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.options.clock.now()
    }
}

/// Removes the tokens and cost of a call, which one inside it reports, too.
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

/// Ignores that a run is finished already: its span has been received again.
fn finished(result: Result<()>) -> Result<()> {
    match result {
        Err(err) if matches!(err.kind(), ErrorKind::RunFinished | ErrorKind::NotFound) => Ok(()),
        result => result,
    }
}

/// Returns an object, or only the reason if it can't be stored.
fn bounded(field: &'static str, object: Map<String, Value>) -> Map<String, Value> {
    match rules::json_object(field, &object, &Limits::default()) {
        Ok(_) => object,
        Err(err) => {
            let mut reason = Map::new();
            reason.extend(
                object
                    .get(SPAN_ID)
                    .map(|id| (SPAN_ID.to_owned(), id.clone())),
            );
            reason.insert("omitted".to_owned(), err.to_string().into());
            reason
        }
    }
}

/// Cuts a text to what a store accepts by default.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(Limits::DEFAULT_VALUE_BYTES)].to_owned()
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").finish_non_exhaustive()
    }
}
