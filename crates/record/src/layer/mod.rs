//! Recording the spans of `tracing` as runs and events.

mod conventions;
mod fields;

use std::fmt;
use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use runtrail_audit::rules::MAX_IDENTIFIER_BYTES;
use runtrail_audit::{RunStats, RunStatus, SkillRun, Usage, new_run_id};
use runtrail_telemetry::Attributes as _;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use self::conventions::Kind;
use self::fields::Fields;
use crate::{Event, Recorder, RunHandle};

/// Creates a layer for a `tracing` subscriber that records agents: their runs, model calls with
/// tokens, tool calls and errors.
///
/// ```
/// # use std::sync::Arc;
/// # use runtrail_audit::History;
/// # async fn example(history: Arc<dyn History>) {
/// use std::time::Duration;
///
/// use runtrail_record::Recorder;
/// use tracing_subscriber::prelude::*;
///
/// let recorder = Recorder::new(history);
/// tracing_subscriber::registry().with(runtrail_record::layer(&recorder)).init();
///
/// // ... run agents ...
///
/// let unwritten = recorder.shutdown(Duration::from_secs(10)).await;
/// # let _ = unwritten;
/// # }
/// ```
pub fn layer(recorder: &Recorder) -> RunLayer {
    RunLayer {
        recorder: recorder.clone(),
        runtime: Handle::try_current().ok(),
        has_content: true,
    }
}

/// A `tracing` layer that records the spans of agents. [`layer`] creates it.
///
/// It recognises spans by the OpenTelemetry conventions for generative AI
/// (`gen_ai.operation.name`) and by `openinference.span.kind`:
///
/// | span | becomes |
/// | --- | --- |
/// | `invoke_agent`, `invoke_workflow`, `create_agent`, `AGENT` | a run; below another agent, a child run |
/// | `chat`, `generate_content`, `embeddings`, `LLM`, … | an event `model_call` with its usage |
/// | `execute_tool`, `TOOL` | an event `tool_call`; also a child run, if it calls models directly |
/// | any other span inside a run, at `INFO` or above | an event `span` |
/// | an event inside a run, at `WARN` or above | an event `log` |
///
/// A model or tool call outside all agents' spans makes the outermost span around it a run, such as
/// the host's span for a request. A model call inside another one isn't counted twice.
///
/// An event is recorded when its span closes. A run ends once its span and all spans inside it are
/// closed. It ends as `error`
///
/// - if its span has an error field, such as `error.type`, `error` or `exception.message`, or
///   `otel.status_code = "ERROR"`,
/// - if an event at `ERROR` occurs directly in its span, as with `#[instrument(err)]`,
/// - if its span closes during a panic,
/// - if its last model call declares fields for an answer but records none, and the run's span
///   reports no result.
///
/// Otherwise it ends as `ok`, even if its future was dropped: a span doesn't show that. A run whose
/// span is never closed ends as `error` when the subscriber is dropped. If the process dies first,
/// and the store has an [owner](runtrail_audit::Owner), a sweep ends the run.
///
/// The layer only queues, and never waits. While the [buffer](Recorder) is full, events, inputs and
/// outputs are lost, and the loss is reported; starts and ends of runs are not lost.
/// [`Recorder::shutdown`] waits until everything is written. Spans and events of Runtrail itself,
/// SeaORM and sqlx are ignored.
///
/// Texts above 64 KiB are cut. `tracing` ignores fields that a span doesn't declare.
pub struct RunLayer {
    recorder: Recorder,
    /// The runtime in which the layer was created, if any; preferred to that of a span's thread.
    runtime: Option<Handle>,
    has_content: bool,
}

/// Crates whose spans and events may be caused by recording itself.
const IGNORED: [&str; 13] = [
    "runtrail_audit",
    "runtrail_copy",
    "runtrail_db",
    "runtrail_migration",
    "runtrail_record",
    "runtrail_store",
    "sea_orm",
    "sea_orm_migration",
    "sea_schema",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "sqlx_sqlite",
];

/// What the layer knows about a span.
struct Span {
    kind: Kind,
    fields: Fields,
    created: Instant,
    created_at: DateTime<Utc>,
    /// The run that ends with this span, if any.
    run: Option<StartedRun>,
    /// Whether a model call inside this one, or in this run, has counted tokens. This span may
    /// report them again.
    has_counted_call: bool,
    /// Whether the last model call of the run had no answer.
    is_unanswered: bool,
    error: Option<String>,
}

struct StartedRun {
    handle: RunHandle,
    /// Its start, which is written again if fields are recorded later.
    start: SkillRun,
}

impl RunLayer {
    /// Leaves out prompts and answers, and the arguments and results of tools.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        self.has_content = false;
        self
    }

    /// Starts a run that ends with this span, unless the span has one.
    fn open_run<S>(&self, span: &SpanRef<'_, S>, agent: Option<String>)
    where
        S: for<'a> LookupSpan<'a>,
    {
        // Before the span is locked: only one span is locked at a time.
        let parent = ancestor_run(span);
        let mut extensions = span.extensions_mut();
        let Some(data) = extensions
            .get_mut::<Span>()
            .filter(|data| data.run.is_none())
        else {
            return;
        };
        let skill = conventions::agent_name(&data.fields);
        let skill = skill
            .or(agent.as_deref())
            .or_else(|| conventions::tool_name(&data.fields))
            .unwrap_or(span.name());
        let mut start = SkillRun::new(new_run_id(), identifier(skill), data.created_at);
        start.parent_run_id = parent.map(|parent| parent.id().to_owned());
        self.describe(&mut start, data.kind, &data.fields);
        let handle = RunHandle::new(
            self.recorder.clone(),
            &start,
            self.runtime.clone().or_else(|| Handle::try_current().ok()),
        );
        // Before another thread can find the run, and queue an event.
        handle.start_later(start.clone());
        data.run = Some(StartedRun {
            handle: handle.clone(),
            start,
        });
        drop(extensions);
        handle.ensure_task();
    }

    /// Makes sure that a call of a model or tool belongs to a run.
    fn place<S>(&self, span: &SpanRef<'_, S>, kind: Kind)
    where
        S: for<'a> LookupSpan<'a>,
    {
        let agent = || {
            let extensions = span.extensions();
            let fields = &extensions.get::<Span>()?.fields;
            conventions::agent_name(fields).map(str::to_owned)
        };
        let mut outermost = None;
        for ancestor in ancestors(span) {
            let extensions = ancestor.extensions();
            let Some(data) = extensions.get::<Span>() else {
                continue;
            };
            if data.run.is_some() {
                return;
            }
            let inside = data.kind;
            drop(extensions);
            match inside {
                // The outer call already belongs to a run.
                Kind::ModelCall if kind == Kind::ModelCall => return,
                // The tool calls a model directly: it runs an agent that has no span of its own.
                Kind::ToolCall if kind == Kind::ModelCall => {
                    return self.open_run(&ancestor, agent());
                }
                _ => outermost = Some(ancestor),
            }
        }
        self.open_run(outermost.as_ref().unwrap_or(span), agent());
    }

    /// Sets the caller, the channel and the inputs of a run from the fields of its span.
    fn describe(&self, start: &mut SkillRun, kind: Kind, fields: &Fields) {
        start.caller_id = identifier(conventions::caller(fields).unwrap_or_default());
        start.channel_id = identifier(conventions::channel(fields).unwrap_or_default());
        start.inputs = match self.has_content {
            true => inputs(kind, fields),
            false => Map::new(),
        };
    }

    /// Queues the start of a run again if further fields change it. Returns whether they do.
    fn update_start(&self, data: &mut Span) -> bool {
        let Some(run) = &mut data.run else {
            return false;
        };
        let mut start = run.start.clone();
        self.describe(&mut start, data.kind, &data.fields);
        let is_changed = start != run.start;
        if is_changed {
            run.handle.start_later(start.clone());
            run.start = start;
        }
        is_changed
    }

    /// Returns the event that a closed span becomes.
    fn event(
        &self,
        metadata: &Metadata<'_>,
        data: &Span,
        usage: Option<Usage>,
        took: Duration,
    ) -> Event {
        let name = metadata.name();
        let is_excluded =
            |field: &str| conventions::is_usage(field) || self.is_excluded_content(field);
        let mut payload = data.fields.to_object(is_excluded);
        if let Some(error) = &data.error {
            payload.insert("error".to_owned(), error.as_str().into());
        } else if data.kind == Kind::ModelCall
            && data.is_unanswered
            && conventions::error(&data.fields).is_none()
        {
            payload.insert("error".to_owned(), "no answer".into());
        }
        let mut event = match data.kind {
            Kind::ModelCall => Event::of_type("model_call".into(), Value::Object(payload)),
            Kind::ToolCall => {
                let tool = conventions::tool_name(&data.fields).unwrap_or(name);
                let arguments = conventions::tool_arguments(&data.fields);
                let arguments = arguments.filter(|_| self.has_content).map(json_or_text);
                payload.retain(|field, _| !conventions::is_tool(field));
                payload.insert("tool".to_owned(), tool.into());
                payload.insert("arguments".to_owned(), arguments.unwrap_or_default());
                Event {
                    is_tool_call: true,
                    ..Event::of_type("tool_call".into(), Value::Object(payload))
                }
            }
            Kind::Agent | Kind::Other => Event::of_type(
                "span".into(),
                json!({
                    "name": name,
                    "target": metadata.target(),
                    "fields": payload,
                }),
            ),
        };
        event.duration = Some(took);
        event.usage = usage;
        event
    }

    fn is_excluded_content(&self, field: &str) -> bool {
        !self.has_content && conventions::is_content(field)
    }

    /// Ends the run of a closed span.
    fn end(&self, data: &Span, run: &StartedRun, took: Duration) {
        let error = data.error.as_deref();
        let error = error.or_else(|| conventions::error(&data.fields));
        let error = error.or_else(|| thread::panicking().then_some("panicked"));
        let has_failed = data.is_unanswered && !conventions::has_result(&data.fields);
        let error = error.or_else(|| has_failed.then_some("the last model call had no answer"));
        let is_error = error.is_some()
            || data.fields.text(&["otel.status_code"]) == Some("ERROR")
            || data.fields.get("error") == Some(&Value::Bool(true));
        let mut stats = RunStats::new(match is_error {
            true => RunStatus::ERROR,
            false => RunStatus::OK,
        });
        stats.error = error.unwrap_or_default().to_owned();
        stats.runtime_seconds = took.as_secs_f64();
        if self.has_content {
            let output = conventions::output(&data.fields);
            stats.output = output.unwrap_or_default().to_owned();
        }
        // The model calls have already counted these tokens.
        if !data.has_counted_call
            && let Some(usage) = conventions::usage(&data.fields)
        {
            stats.input_tokens = usage.input_tokens.unwrap_or_default();
            stats.output_tokens = usage.output_tokens.unwrap_or_default();
            stats.thinking_tokens = usage.thinking_tokens.unwrap_or_default();
        }
        run.handle.finish_later(stats);
    }
}

impl<S> Layer<S> for RunLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context
            .span(id)
            .filter(|_| !is_ignored(attributes.metadata()))
        else {
            return;
        };
        let mut fields = Fields::with_capacity(attributes.values().len());
        attributes.record(&mut fields);
        let kind = Kind::of(&fields);
        let data = Span {
            kind,
            fields,
            created: Instant::now(),
            created_at: self.recorder.clock.now(),
            run: None,
            has_counted_call: false,
            is_unanswered: false,
            error: None,
        };
        let mut extensions = span.extensions_mut();
        // If the subscriber has two such layers, the first one records the span.
        if extensions.get_mut::<Span>().is_some() {
            return;
        }
        extensions.insert(data);
        drop(extensions);
        match kind {
            Kind::Agent => self.open_run(&span, None),
            Kind::ModelCall | Kind::ToolCall => self.place(&span, kind),
            Kind::Other => {}
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // Before the span is locked: formatting a value runs the caller's code, which may log.
        let mut fields = Fields::default();
        values.record(&mut fields);
        let mut became = None;
        let mut extensions = span.extensions_mut();
        let Some(data) = extensions.get_mut::<Span>() else {
            return;
        };
        data.fields.merge(fields);
        if data.kind == Kind::Other {
            data.kind = Kind::of(&data.fields);
            became = Some(data.kind);
        }
        let is_changed = self.update_start(data);
        drop(extensions);
        if is_changed {
            self.recorder.ensure_task(self.runtime.as_ref());
        }
        match became {
            Some(Kind::Agent) => self.open_run(&span, None),
            Some(kind @ (Kind::ModelCall | Kind::ToolCall)) => self.place(&span, kind),
            Some(Kind::Other) | None => {}
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        // `tracing` orders levels by verbosity: `INFO` is greater than `WARN`.
        if *metadata.level() > Level::WARN || is_ignored(metadata) {
            return;
        }
        let Some(span) = context.event_span(event) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        if *metadata.level() == Level::ERROR
            && let Some(data) = span.extensions_mut().get_mut::<Span>()
        {
            let error = fields.text(&["error", "message"]);
            data.error = Some(
                error
                    .unwrap_or("an error event without a message")
                    .to_owned(),
            );
        }
        let run = span.scope().find_map(|span| run_of(&span));
        if let Some(run) = run {
            let message = fields.text(&["message"]).unwrap_or_default().to_owned();
            let others = |field: &str| field == "message" || self.is_excluded_content(field);
            let payload = json!({
                "level": metadata.level().as_str(),
                "target": metadata.target(),
                "message": message,
                "fields": fields.to_object(others),
            });
            run.record(Event::of_type("log".into(), payload));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let Some(mut data) = span.extensions_mut().remove::<Span>() else {
            return;
        };
        let metadata = span.metadata();
        let took = data.created.elapsed();
        // An agent's span is no event of the run above it: its child run records it.
        let is_event = match data.kind {
            Kind::Agent => false,
            Kind::ModelCall | Kind::ToolCall => true,
            Kind::Other => data.run.is_none() && *metadata.level() <= Level::INFO,
        };
        let (mut usage, mut around) = (None, None);
        if data.kind == Kind::ModelCall {
            usage = conventions::usage(&data.fields).filter(|_| !data.has_counted_call);
            let counts = usage.as_ref().is_some_and(conventions::has_tokens);
            data.is_unanswered = is_unanswered(metadata, &data);
            around = note_call(&span, counts || data.has_counted_call, data.is_unanswered);
        } else if is_event {
            around = ancestor_run(&span);
        }
        if is_event {
            // A call that is itself the outermost span belongs to the run that it has opened.
            let own = || Some(data.run.as_ref()?.handle.clone());
            if let Some(run) = around.or_else(own) {
                run.record(self.event(metadata, &data, usage, took));
            }
        }
        if let Some(run) = &data.run {
            self.end(&data, run, took);
        }
    }
}

fn is_ignored(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next();
    name.is_some_and(|name| IGNORED.contains(&name))
}

/// Returns the run that ends with this span, if any.
fn run_of<S>(span: &SpanRef<'_, S>) -> Option<RunHandle>
where
    S: for<'a> LookupSpan<'a>,
{
    let extensions = span.extensions();
    let run = extensions.get::<Span>()?.run.as_ref()?;
    Some(run.handle.clone())
}

/// Returns the spans around a span, the innermost first.
fn ancestors<'a, S>(span: &SpanRef<'a, S>) -> impl Iterator<Item = SpanRef<'a, S>>
where
    S: LookupSpan<'a>,
{
    iter::successors(span.parent(), SpanRef::parent)
}

/// Returns the run of the nearest span above that has one.
fn ancestor_run<S>(span: &SpanRef<'_, S>) -> Option<RunHandle>
where
    S: for<'a> LookupSpan<'a>,
{
    ancestors(span).find_map(|span| run_of(&span))
}

/// Notes a closed model call in the calls around it and in their run. Returns that run.
fn note_call<S>(span: &SpanRef<'_, S>, is_counted: bool, is_unanswered: bool) -> Option<RunHandle>
where
    S: for<'a> LookupSpan<'a>,
{
    for ancestor in ancestors(span) {
        let mut extensions = ancestor.extensions_mut();
        let Some(data) = extensions.get_mut::<Span>() else {
            continue;
        };
        if data.run.is_some() || data.kind == Kind::ModelCall {
            data.has_counted_call |= is_counted;
        }
        if let Some(run) = &data.run {
            data.is_unanswered = is_unanswered;
            return Some(run.handle.clone());
        }
    }
    None
}

/// Whether a closed span is a model call without an answer, neither its own nor that of a call
/// inside it.
fn is_unanswered(metadata: &Metadata<'_>, data: &Span) -> bool {
    data.kind == Kind::ModelCall
        && !data.has_counted_call
        && conventions::is_unanswered(metadata, &data.fields)
}

/// Returns the inputs of a run: the arguments of the tool in which an agent runs, or its prompt.
fn inputs(kind: Kind, fields: &Fields) -> Map<String, Value> {
    if kind == Kind::ToolCall
        && let Some(arguments) = conventions::tool_arguments(fields)
    {
        return match json_or_text(arguments) {
            Value::Object(arguments) => arguments,
            arguments => Map::from_iter([("arguments".to_owned(), arguments)]),
        };
    }
    let prompt = conventions::input(fields);
    let prompt = prompt.map(|prompt| ("prompt".to_owned(), prompt.into()));
    prompt.into_iter().collect()
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Returns the beginning of a name, in a form that can be stored.
fn identifier(name: &str) -> String {
    let name = name.replace('\0', "\u{FFFD}");
    name[..name.floor_char_boundary(MAX_IDENTIFIER_BYTES)].to_owned()
}

impl fmt::Debug for RunLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLayer").finish_non_exhaustive()
    }
}
