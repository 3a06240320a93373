use runtrail_audit::{Usage, rules};
use serde_json::{Map, Value};

use crate::attributes::{Attributes, any_json_or_text, json_or_text};
use crate::convention::{Convention, Names};
use crate::identifier::identifier;
use crate::messages::{messages, of_events, take_indexed, to_text, tool_message};
use crate::policy::Policy;
use crate::record::{EventPart, RunPart};
use crate::span::{Source, SpanEvent};
use crate::vocabulary::{Vocabulary, is_empty};

/// Labels of a run, and the attributes of the resource that hold them.
const LABELS: &[(&str, Names)] = &[
    ("service", &["service.name"]),
    (
        "environment",
        &["deployment.environment.name", "deployment.environment"],
    ),
];

/// How SDKs name a service that has no name.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// How Runtrail's export names the service of a run without that label.
const EXPORTED_SERVICE: &str = "runtrail";

/// The attributes of a span or log that haven't been read yet.
pub(crate) struct Reading<'a> {
    pub(crate) vocabulary: Vocabulary<'a>,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) events: &'a [SpanEvent],
    pub(crate) policy: &'a Policy,
}

impl Reading<'_> {
    pub(crate) fn text(&self, names: impl Fn(&Convention) -> Names) -> Option<&str> {
        self.vocabulary.text(&self.attributes, names)
    }

    pub(crate) fn take(&mut self, names: impl Fn(&Convention) -> Names) -> Option<Value> {
        self.vocabulary.take(&mut self.attributes, names)
    }

    /// Returns who a run was for, and where it comes from.
    pub(crate) fn run(&self, skill: &str, source: &Source) -> RunPart {
        let caller = self.text(|names| names.caller);
        let caller =
            caller.or_else(|| self.vocabulary.text(&source.resource, |names| names.caller));
        let channel = self.text(|names| names.channel);
        let labels = LABELS.iter().filter_map(|(label, names)| {
            let value = source.resource.text(names)?;
            if value.starts_with(UNKNOWN_SERVICE) || value == EXPORTED_SERVICE {
                return None;
            }
            Some(((*label).to_owned(), self.name(value)))
        });
        let skill = match self.name(skill) {
            skill if skill.is_empty() => "unnamed".to_owned(),
            skill => skill,
        };
        RunPart {
            skill,
            caller: self.name(caller.unwrap_or_default()),
            channel: self.name(channel.unwrap_or_default()),
            labels: labels.collect(),
            ..RunPart::default()
        }
    }

    /// Returns what is kept of a name.
    pub(crate) fn name(&self, name: &str) -> String {
        identifier(&self.policy.text(identifier(name)))
    }

    /// Returns the usage with the cost, and removes what it represents from the attributes.
    pub(crate) fn take_usage(&mut self) -> Option<Usage> {
        let mut usage = self.vocabulary.usage(&self.attributes).unwrap_or_default();
        usage.cost_micros = self.vocabulary.cost(&self.attributes);
        // Numbers that contradict each other stay attributes.
        if usage.input_tokens.is_some() || usage.output_tokens.is_some() {
            self.take(|names| names.input_tokens);
            self.take(|names| names.cache_read_tokens);
            self.take(|names| names.cache_write_tokens);
            self.take(|names| names.output_tokens);
            self.take(|names| names.thinking_tokens);
        }
        if usage.cost_micros.is_some() {
            self.take(|names| names.cost_micros);
            self.take(|names| names.cost);
        }
        for name in [&mut usage.provider, &mut usage.model] {
            *name = name
                .take()
                .map(|name| self.name(&name))
                .filter(|name| !name.is_empty());
        }
        self.take(|names| names.provider);
        (!usage.is_empty() && rules::usage(&usage).is_ok()).then_some(usage)
    }

    /// Returns the event of a model call.
    pub(crate) fn model_call(mut self, error: Option<&str>) -> EventPart {
        let mut payload = Map::new();
        self.take(|names| names.operation);
        let call_id = self.take(|names| names.response_id);
        let call_id = self.name(call_id.as_ref().and_then(Value::as_str).unwrap_or_default());
        if !call_id.is_empty() {
            payload.insert("response_id".to_owned(), call_id.as_str().into());
        }
        if let Some(reasons) = self.take(|names| names.finish_reasons) {
            payload.insert("finish_reasons".to_owned(), json_or_text(reasons));
        }
        let request = self.take_request();
        if !request.is_empty() {
            payload.insert("request".to_owned(), request.into());
        }
        if let Some(system) = self.take(|names| names.system) {
            payload.insert("system".to_owned(), json_or_text(system));
        }
        let messages = self.take_messages();
        if let Some(output) = self.take_output() {
            payload.insert("output".to_owned(), output);
        }
        self.finish(payload, error, "model_call", call_id, messages)
    }

    /// Returns the event of a tool call.
    pub(crate) fn tool_call(mut self, tool: &str, error: Option<&str>) -> EventPart {
        let mut payload = Map::from_iter([("tool".to_owned(), self.name(tool).into())]);
        self.take(|names| names.operation);
        self.take(|names| names.tool_name);
        let result = self.take(|names| names.tool_result);
        let result = result.or_else(|| self.result_of_events());
        let (result, answered) = result.map(any_json_or_text).map(tool_message).unzip();
        let call_id = self.take(|names| names.call_id);
        let call_id = match &call_id.or(answered.flatten()) {
            Some(Value::String(id)) => self.name(id),
            Some(id) => self.name(&id.to_string()),
            None => String::new(),
        };
        if !call_id.is_empty() {
            payload.insert("call_id".to_owned(), call_id.as_str().into());
        }
        if let Some(arguments) = self.take(|names| names.tool_arguments) {
            payload.insert("arguments".to_owned(), any_json_or_text(arguments));
        }
        if let Some(result) = result {
            payload.insert("result".to_owned(), result);
        }
        self.finish(payload, error, "tool_call", call_id, Vec::new())
    }

    /// Returns the event of anything else.
    pub(crate) fn other(
        self,
        event_type: &str,
        payload: Map<String, Value>,
        error: Option<&str>,
    ) -> EventPart {
        self.finish(payload, error, event_type, String::new(), Vec::new())
    }

    fn finish(
        self,
        mut payload: Map<String, Value>,
        error: Option<&str>,
        event_type: &str,
        call_id: String,
        messages: Vec<Value>,
    ) -> EventPart {
        if let Some(error) = error {
            payload.insert("error".to_owned(), error.into());
        }
        if !self.attributes.is_empty() {
            payload.insert("attributes".to_owned(), self.attributes.into());
        }
        EventPart {
            event_type: event_type.to_owned(),
            payload: self.policy.object(payload),
            messages: self.policy.messages(messages),
            call_id,
            digests: Vec::new(),
        }
    }

    /// Returns the parameters of a request. The model that was asked for is one of them if another
    /// one has answered.
    fn take_request(&mut self) -> Map<String, Value> {
        let mut request = Map::new();
        let answered = self.take(|names| names.response_model);
        let requested = self.take(|names| names.request_model);
        if let (Some(answered), Some(requested)) = (answered, requested)
            && answered != requested
        {
            request.insert("model".to_owned(), requested);
        }
        let prefixes = self.vocabulary.conventions();
        let prefixes: Vec<_> = prefixes.flat_map(|names| names.request_prefixes).collect();
        let parameter = |name: &String| {
            let mut prefixes = prefixes.iter();
            prefixes
                .find_map(|prefix| Some((name.clone(), name.strip_prefix(**prefix)?.to_owned())))
        };
        let names: Vec<_> = self.attributes.keys().filter_map(parameter).collect();
        for (name, parameter) in names {
            if let Some(value) = self.attributes.remove(&name) {
                request.entry(parameter).or_insert(value);
            }
        }
        if let Some(parameters) = self.take(|names| names.request_parameters) {
            match json_or_text(parameters) {
                Value::Object(parameters) => request.extend(parameters),
                parameters => _ = request.insert("parameters".to_owned(), parameters),
            }
        }
        request
    }

    fn take_messages(&mut self) -> Vec<Value> {
        let structured = self.take(|names| names.messages).map(messages);
        let vocabulary = self.vocabulary;
        let prefixes = |names: &Convention| names.indexed_messages;
        let indexed = take_indexed(&vocabulary, &mut self.attributes, prefixes);
        let text = self.take(|names| names.input);
        let mut messages_found = structured.unwrap_or_default();
        if messages_found.is_empty() {
            messages_found = indexed;
        }
        if messages_found.is_empty() && self.policy.has_content() {
            let events = self.events.iter();
            let is_message =
                |event: &&SpanEvent| vocabulary.has(&event.name, |names| names.message_events);
            messages_found = of_events(events.filter(is_message), "user");
        }
        if messages_found.is_empty() {
            messages_found = text.map(messages).unwrap_or_default();
        }
        messages_found
    }

    /// Returns the messages of a transcript up to the first answer of the run.
    fn take_transcript(&mut self) -> Vec<Value> {
        let start = self
            .vocabulary
            .number(&self.attributes, |names| names.transcript_start);
        let start = usize::try_from(start.unwrap_or_default()).unwrap_or(usize::MAX);
        let transcript = self.take(|names| names.transcript).map(messages);
        let mut messages = transcript.unwrap_or_default();
        let mut own = messages.iter().skip(start);
        if let Some(answer) = own.position(|message| message["role"] == "assistant") {
            messages.truncate(start + answer);
        }
        messages
    }

    fn take_output(&mut self) -> Option<Value> {
        let structured = self.take(|names| names.output_messages).map(json_or_text);
        let vocabulary = self.vocabulary;
        let prefixes = |names: &Convention| names.indexed_output;
        let indexed = take_indexed(&vocabulary, &mut self.attributes, prefixes);
        let indexed = Some(Value::Array(indexed)).filter(|output| !is_empty(output));
        let text = self.take(|names| names.output);
        let events = || {
            if !self.policy.has_content() {
                return None;
            }
            let is_output =
                |event: &&SpanEvent| vocabulary.has(&event.name, |names| names.output_events);
            let output = of_events(self.events.iter().filter(is_output), "assistant");
            Some(Value::Array(output)).filter(|output| !is_empty(output))
        };
        structured
            .or(indexed)
            .or_else(events)
            .or_else(|| text.map(json_or_text))
    }

    fn result_of_events(&self) -> Option<Value> {
        if !self.policy.has_content() {
            return None;
        }
        let mut events = self.events.iter();
        let is_result = |event: &&SpanEvent| {
            self.vocabulary
                .has(&event.name, |names| names.result_events)
        };
        let attributes = &events.find(is_result)?.attributes;
        let mut values = attributes.values();
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value.clone()),
            _ => Some(Value::Object(attributes.clone())),
        }
    }

    /// Returns the inputs of a run.
    pub(crate) fn take_inputs(&mut self) -> Map<String, Value> {
        let input = self.take(|names| names.input);
        let input = input.or_else(|| {
            let messages = self.take_messages();
            let messages = match messages.is_empty() {
                true => self.take_transcript(),
                false => messages,
            };
            (!messages.is_empty()).then_some(Value::Array(messages))
        });
        let inputs = match input.map(json_or_text) {
            Some(Value::Object(inputs)) => inputs,
            Some(messages @ Value::Array(_)) => Map::from_iter([("messages".to_owned(), messages)]),
            Some(prompt) => Map::from_iter([("prompt".to_owned(), prompt)]),
            None => Map::new(),
        };
        self.policy.object(inputs)
    }

    /// Returns the arguments of a tool as the inputs of the run that it may become.
    pub(crate) fn arguments(&self) -> Map<String, Value> {
        let mut attributes = self.attributes.clone();
        let arguments = self
            .vocabulary
            .take(&mut attributes, |names| names.tool_arguments);
        let inputs = match arguments.map(any_json_or_text) {
            Some(Value::Object(arguments)) => arguments,
            Some(arguments) => Map::from_iter([("arguments".to_owned(), arguments)]),
            None => Map::new(),
        };
        self.policy.object(inputs)
    }

    /// Returns the output of a run.
    pub(crate) fn take_output_text(&mut self) -> String {
        let output = self.take(|names| names.output);
        let output = output.or_else(|| self.take_output());
        let output = output.or_else(|| self.take(|names| names.tool_result));
        self.policy.text(output.map(to_text).unwrap_or_default())
    }
}
