use std::time::Duration;

use runtrail_audit::Usage;
use serde_json::{Map, Value};

use crate::attributes::Attributes;
use crate::convention::{Convention, Entry};
use crate::conventions;
use crate::failure;
use crate::identifier::identifier;
use crate::policy::Policy;
use crate::reading::Reading;
use crate::record::{Record, Role, RunPart};
use crate::span::{LogRecord, Source};
use crate::vocabulary::Vocabulary;

/// Attributes with the name of a log, for senders that don't set the field.
const NAME: &[&str] = &["event.name", "eventName", "event_name"];

/// Returns what a log means for a history; `None` if it is not about agents and not in a span, or
/// if it is one of many without information, such as the chunks of a stream.
pub fn read_log(log: LogRecord, policy: &Policy) -> Option<Record> {
    let name = name(&log);
    let conventions = conventions::of(&name, &log.source, &log.attributes);
    let vocabulary = Vocabulary(&conventions);
    let rule = vocabulary.log_rule(&name, &log.attributes);
    let is_agentic = rule.is_some()
        || is_named_by_agent(vocabulary, &name, &log.attributes)
        || vocabulary.is_agentic(&log.attributes);
    let entry = rule.map_or(Entry::Log, |rule| rule.entry);
    let is_in_span = log.trace_id.is_some() && log.span_id.is_some();
    if entry == Entry::Noise || !is_agentic && !is_in_span {
        return None;
    }

    let mut attributes = log.attributes;
    let error = failure::of_attributes(vocabulary, &attributes).map(|error| policy.text(error));
    if !policy.has_content() {
        attributes.retain(|name, _| !vocabulary.is_content(name));
    }
    let mut reading = Reading {
        vocabulary,
        attributes,
        events: &[],
        policy,
    };
    let group = match &log.trace_id {
        Some(trace_id) => identifier(trace_id),
        None => group(&reading, &log.id),
    };
    // Spans report the call, too, except for its cost.
    let is_repeated = log.trace_id.is_some() && rule.is_some_and(|rule| rule.has_span);
    let run = match log.trace_id {
        Some(_) => describe_run(&reading, Entry::Log, &log.source),
        None => describe_run(&reading, entry, &log.source),
    };
    let duration = duration(&reading);
    let is_call = matches!(entry, Entry::ModelCall | Entry::ToolCall);
    let usage = match entry {
        Entry::ModelCall if is_repeated => cost_alone(&reading),
        Entry::ModelCall => reading.take_usage(),
        _ => None,
    };
    let error = error.as_deref();
    let mut event = match entry {
        Entry::ModelCall => reading.model_call(error),
        Entry::ToolCall => {
            let tool = reading.text(|names| names.tool_name).unwrap_or("tool");
            let tool = tool.to_owned();
            reading.tool_call(&tool, error)
        }
        Entry::Prompt | Entry::Answer | Entry::Log | Entry::Noise => {
            let payload = payload(&name, &log.severity, log.body, policy);
            reading.other("log", payload, error)
        }
    };
    if is_repeated {
        event.event_type = "log".to_owned();
        event
            .payload
            .insert("name".to_owned(), identifier(&name).into());
    }
    // A call is logged when it ends.
    let duration = duration.filter(|_| is_call && !is_repeated);
    let began = duration.and_then(|took| {
        log.at
            .checked_sub_signed(chrono::TimeDelta::from_std(took).ok()?)
    });
    Some(Record {
        group,
        id: log.id,
        parent_id: log.trace_id.and(log.span_id),
        role: Role::Log,
        is_agentic,
        at: began.unwrap_or(log.at),
        duration,
        run,
        event: Some(event),
        usage,
    })
}

/// Returns the name of a log. Some senders only have it in the body.
fn name(log: &LogRecord) -> String {
    const MAX_BYTES: usize = 100;

    if !log.event_name.is_empty() {
        return log.event_name.clone();
    }
    if let Some(name) = log.attributes.text(NAME) {
        return name.to_owned();
    }
    let body = log.body.as_str().unwrap_or_default();
    let is_name = body.len() <= MAX_BYTES
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match is_name {
        true => body.to_owned(),
        false => String::new(),
    }
}

/// Whether the name shows that a log is about agents: by its prefix or, as an agent may leave it
/// out, together with what connects the logs of a run of this agent.
fn is_named_by_agent(
    vocabulary: Vocabulary<'_>,
    name: &str,
    attributes: &Map<String, Value>,
) -> bool {
    vocabulary.conventions().any(|convention| {
        let prefix = convention.log_prefix;
        let is_of_agent = || !convention.skill.is_empty() && !name.is_empty();
        !prefix.is_empty() && name.starts_with(prefix)
            || is_of_agent() && attributes.text(convention.group).is_some()
    })
}

/// Returns a name for the run of a log outside all traces.
fn group(reading: &Reading<'_>, id: &str) -> String {
    let group = reading.vocabulary.conventions().find_map(|convention| {
        let group = reading.attributes.text(convention.group)?;
        Some(format!("{}-{group}", group_prefix(convention)))
    });
    identifier(&group.unwrap_or_else(|| format!("log-{id}")))
}

fn group_prefix(convention: &Convention) -> &'static str {
    match convention.log_prefix.trim_end_matches('.') {
        "" => "log",
        prefix => prefix,
    }
}

fn describe_run(reading: &Reading<'_>, entry: Entry, source: &Source) -> RunPart {
    let skill = reading.text(|names| names.agent_name).or_else(|| {
        let mut skills = reading.vocabulary.conventions().map(|names| names.skill);
        skills.find(|skill| !skill.is_empty())
    });
    let skill = skill.or_else(|| source.resource.text(&["service.name"]));
    let mut run = reading.run(skill.unwrap_or("log"), source);
    let mut texts = Reading {
        attributes: reading.attributes.clone(),
        ..*reading
    };
    match entry {
        Entry::Prompt => run.inputs = texts.take_inputs(),
        Entry::Answer => run.output = texts.take_output_text(),
        Entry::ModelCall | Entry::ToolCall | Entry::Log | Entry::Noise => {}
    }
    run
}

fn duration(reading: &Reading<'_>) -> Option<Duration> {
    let millis = reading
        .vocabulary
        .number(&reading.attributes, |names| names.duration_ms)?;
    // More than a year is an error of the sender.
    let is_plausible = millis <= 366 * 24 * 60 * 60 * 1_000;
    is_plausible.then(|| Duration::from_millis(millis))
}

/// Returns the cost with the names that it is listed under.
fn cost_alone(reading: &Reading<'_>) -> Option<Usage> {
    let mut cost = Usage::new();
    cost.cost_micros = Some(reading.vocabulary.cost(&reading.attributes)?);
    let usage = reading.vocabulary.usage(&reading.attributes);
    if let Some(usage) = usage {
        cost.provider = usage.provider;
        cost.model = usage.model;
    }
    Some(cost)
}

fn payload(name: &str, severity: &str, body: Value, policy: &Policy) -> Map<String, Value> {
    let mut payload = Map::new();
    for (key, text) in [("name", name), ("severity", severity)] {
        if !text.is_empty() {
            payload.insert(key.to_owned(), identifier(text).into());
        }
    }
    // Many bodies only repeat the name.
    let is_text = body.as_str().is_none_or(|body| body != name);
    if policy.has_content() && is_text && !body.is_null() {
        payload.insert("body".to_owned(), body);
    }
    payload
}
