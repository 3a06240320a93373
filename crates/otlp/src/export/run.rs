use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use runtrail_audit::{RunStatus, SkillRun, SkillRunLog, Usage};
use serde_json::Value;

use super::attributes::{Attributes, KeyValue};
use super::event::{self, Form, INPUT, OUTPUT, Parts, are_messages, form, operation, span_event};
use super::ids;
use super::span::{ExportedSpan, Kind, Span, SpanEvent, Status, nanos, start};

/// The most events of a span: the first half and the last half are kept.
const MAX_EVENTS: usize = 128;

/// Labels that come from the resource, and go there again.
const SERVICE: &str = "service";
const ENVIRONMENT: &str = "environment";

/// The service of runs without that label.
const DEFAULT_SERVICE: &str = "runtrail";

/// Turns a finished run and its events into spans: one for each model call, tool call and `span`,
/// and finally one for the run itself, with the other events as events of that span.
///
/// The ids of the spans depend only on those of the runs.
///
/// ```
/// use chrono::DateTime;
/// use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog};
/// use runtrail_otlp::{RunSpans, TraceRequest};
/// use serde_json::json;
///
/// let at = |second| DateTime::from_timestamp(second, 0).unwrap();
/// let run = SkillRun::new("run-1", "summarise", at(0))
///     .finished(at(10), RunStats::new(RunStatus::OK));
/// let call = SkillRunLog::new("run-1", 0, "tool_call", json!({"tool": "search"}));
///
/// let mut request = TraceRequest::json();
/// let mut spans = RunSpans::new(&run, "run-1").unwrap();
/// if let Some(span) = spans.add(call.created_at(at(5))) {
///     request.push(&span);
/// }
/// request.push(&spans.finish());
/// let body = String::from_utf8(request.take().unwrap()).unwrap();
/// assert!(body.contains("invoke_agent summarise") && body.contains("execute_tool search"));
/// ```
#[derive(Debug)]
pub struct RunSpans<'a> {
    run: &'a SkillRun,
    ended_at: DateTime<Utc>,
    trace_id: String,
    span_id: String,
    /// Whether the run is the top of its tree.
    is_top: bool,
    resource: Arc<Vec<KeyValue>>,
    first_events: Vec<SpanEvent>,
    last_events: VecDeque<SpanEvent>,
    dropped_events: u32,
    /// Whether a call has tokens. Those of the run are their sum.
    has_tokens: bool,
}

impl<'a> RunSpans<'a> {
    /// Starts the spans of a run; `None` if it is running. `top` is the id of the run at the top of
    /// its tree, which may be its own.
    pub fn new(run: &'a SkillRun, top: &str) -> Option<Self> {
        Some(Self {
            run,
            ended_at: run.finished_at?.max(run.started_at),
            trace_id: ids::trace_id(top),
            span_id: ids::span_id(&run.id),
            is_top: run.id == top,
            resource: Arc::new(resource(run)),
            first_events: Vec::new(),
            last_events: VecDeque::new(),
            dropped_events: 0,
            has_tokens: false,
        })
    }

    /// Adds an event, in the order of the sequence. Returns its span, unless it becomes an event of
    /// the run's span.
    pub fn add(&mut self, event: SkillRunLog) -> Option<ExportedSpan> {
        let usage = event.usage.as_ref();
        let create = match form(&event) {
            Form::ModelCall => event::model_call,
            Form::ToolCall => event::tool_call,
            Form::Span => event::span,
            Form::SpanEvent => {
                self.add_span_event(span_event(&event));
                return None;
            }
        };
        self.has_tokens |= usage.is_some_and(|usage| {
            usage.input_tokens.or(usage.output_tokens).is_some() || usage.thinking_tokens.is_some()
        });
        let received = event.payload["span_id"].as_str();
        let id = ids::event_span_id(&self.run.id, &self.span_id, event.sequence, received);
        let ended_at = event.created_at.unwrap_or(self.ended_at);
        let started_at = start(ended_at, event.duration);
        let parts = create(event.payload, usage);
        let parent = Some(self.span_id.clone());
        Some(self.span(id, parent, parts, [started_at, ended_at]))
    }

    /// Returns the span of the run.
    pub fn finish(mut self) -> ExportedSpan {
        let events = std::mem::take(&mut self.first_events).into_iter();
        let events: Vec<_> = events
            .chain(std::mem::take(&mut self.last_events))
            .collect();
        let parts = Parts {
            name: match self.run.skill_id.as_str() {
                "" => "invoke_agent".to_owned(),
                skill => format!("invoke_agent {skill}"),
            },
            kind: Kind::Internal,
            attributes: self.attributes(),
            error: has_failed(self.run).then(|| self.run.error.clone()),
        };
        let parent = self.run.parent_run_id.as_deref().filter(|_| !self.is_top);
        let parent = parent.map(ids::span_id);
        let times = [self.run.started_at, self.ended_at];
        let mut exported = self.span(self.span_id.clone(), parent, parts, times);
        exported.span.events = events;
        let dropped = self.dropped_events;
        exported.span.dropped_events_count = (dropped > 0).then_some(dropped);
        exported
    }

    fn span(
        &self,
        span_id: String,
        parent_span_id: Option<String>,
        parts: Parts,
        [started_at, ended_at]: [DateTime<Utc>; 2],
    ) -> ExportedSpan {
        let span = Span {
            trace_id: self.trace_id.clone(),
            span_id,
            parent_span_id,
            name: parts.name,
            kind: parts.kind as u8,
            start_time_unix_nano: nanos(started_at),
            end_time_unix_nano: nanos(ended_at),
            attributes: parts.attributes.into_list(),
            events: Vec::new(),
            dropped_events_count: None,
            status: Status::of(parts.error.as_deref()),
        };
        ExportedSpan {
            resource: Arc::clone(&self.resource),
            span,
        }
    }

    fn add_span_event(&mut self, event: SpanEvent) {
        const HALF: usize = MAX_EVENTS / 2;

        if self.first_events.len() < HALF {
            self.first_events.push(event);
            return;
        }
        if self.last_events.len() == HALF {
            self.last_events.pop_front();
            self.dropped_events = self.dropped_events.saturating_add(1);
        }
        self.last_events.push_back(event);
    }

    /// Returns the attributes of the run's span.
    fn attributes(&self) -> Attributes {
        let run = self.run;
        let mut attributes = operation("invoke_agent", "AGENT");
        for (key, text) in [
            ("gen_ai.agent.name", &run.skill_id),
            ("user.id", &run.caller_id),
            ("gen_ai.conversation.id", &run.channel_id),
            // Where Langfuse and Phoenix expect it.
            ("session.id", &run.channel_id),
            ("runtrail.run_id", &run.id),
        ] {
            attributes.text(key, text);
        }
        attributes.text("runtrail.status", run.status.as_str());
        if has_failed(run) && run.status != RunStatus::ERROR {
            attributes.text("error.type", run.status.as_str());
        }
        for (key, value) in &run.labels {
            if key != SERVICE && key != ENVIRONMENT {
                attributes.text(&format!("runtrail.label.{key}"), value);
            }
        }
        // Backends that add up all spans would count them twice.
        if !self.has_tokens {
            let mut total = Usage::new();
            let count = |tokens| (tokens > 0).then_some(tokens);
            total.input_tokens = count(run.total_input_tokens);
            total.output_tokens = count(run.total_output_tokens);
            total.thinking_tokens = count(run.total_thinking_tokens);
            attributes.usage(&total);
        }
        self.add_inputs(&mut attributes);
        attributes.text(OUTPUT, &run.output);
        if !has_failed(run) {
            attributes.text("runtrail.error", &run.error);
        }
        attributes
    }

    /// Adds the inputs in the form in which the receiver reads them as the same inputs.
    fn add_inputs(&self, attributes: &mut Attributes) {
        let inputs = &self.run.inputs;
        let only = |name| inputs.get(name).filter(|_| inputs.len() == 1);
        let is_plain = |prompt: &&str| !prompt.trim_start().starts_with(['{', '[']);
        let prompt = only("prompt").and_then(Value::as_str);
        if let Some(messages) = only("messages").filter(|it| are_messages(it)) {
            attributes.json("gen_ai.input.messages", messages);
            attributes.json(INPUT, messages);
        } else if let Some(prompt) = prompt.filter(is_plain) {
            attributes.text(INPUT, prompt);
        } else if !inputs.is_empty() {
            attributes.text("input.mime_type", "application/json");
            let json = Value::Object(inputs.clone());
            attributes.text(INPUT, &json.to_string());
        }
    }
}

fn has_failed(run: &SkillRun) -> bool {
    let is_success = run.status == RunStatus::OK || run.status == RunStatus::DRY_RUN;
    RunStatus::FAILED.contains(&run.status)
        || run.status == RunStatus::INTERRUPTED
        || (!is_success && !run.error.is_empty())
}

/// Returns the attributes of the resource of a run.
fn resource(run: &SkillRun) -> Vec<KeyValue> {
    let mut attributes = Attributes::new();
    let label = |key| run.labels.get(key).map(String::as_str);
    let service = label(SERVICE).filter(|service| !service.is_empty());
    attributes.text("service.name", service.unwrap_or(DEFAULT_SERVICE));
    let environment = label(ENVIRONMENT).unwrap_or_default();
    attributes.text("deployment.environment.name", environment);
    attributes.into_list()
}

#[cfg(test)]
mod tests;
