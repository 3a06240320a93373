use crate::attributes::Attributes;
use crate::span::Source;

/// Names in the order in which they are tried.
pub type Names = &'static [&'static str];

/// What a span stands for, according to its name or its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A run.
    Run,
    /// A call of a model.
    ModelCall,
    /// A call of a tool.
    ToolCall,
    /// A call of a tool in another process: on the client a tool call, on the server a run.
    RemoteToolCall,
    /// A run if it is the root of a trace, else a step.
    Chain,
    /// A step of an agent that is none of these. Tokens on it are those of the calls inside it.
    Step,
}

/// What shows that a convention with short names applies. All are prefixes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// `service.name` of the resource.
    Service(&'static str),
    /// The instrumentation scope.
    Scope(&'static str),
    /// The name of the span or the log.
    Name(&'static str),
    /// The name of an attribute.
    Attribute(&'static str),
}

/// What a log stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A call of a model.
    ModelCall,
    /// A call of a tool.
    ToolCall,
    /// The input of the run.
    Prompt,
    /// The output of the run.
    Answer,
    /// Anything else.
    Log,
    /// One of many without information, such as a chunk of a stream.
    Noise,
}

/// How a log is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRule {
    /// The name of the log, without the prefix of its convention.
    pub(crate) name: &'static str,
    /// An attribute and its value, without which the rule doesn't apply.
    pub(crate) only_if: Option<(&'static str, &'static str)>,
    /// What it stands for.
    pub(crate) entry: Entry,
    /// Whether a span of the same trace reports the same call, except for its cost.
    pub(crate) has_span: bool,
}

/// The names that one library, program or standard uses.
///
/// A name may end in `*`, which stands for any ending, where the documentation says *pattern*.
#[derive(Debug)]
#[non_exhaustive]
pub struct Convention {
    /// Any of these makes the convention apply; if there are none, it always applies.
    pub(crate) marks: &'static [Mark],
    /// Prefixes of attributes that only spans of agents have.
    pub(crate) prefixes: Names,

    /// The operation or kind of a span.
    pub operation: Names,
    /// What the operations stand for. Any other operation is a [`Meaning::Step`].
    pub operations: &'static [(&'static str, Meaning)],
    /// What names of spans (patterns) stand for; they precede operations.
    pub(crate) span_names: &'static [(&'static str, Meaning)],
    /// The prefix of the names of logs.
    pub(crate) log_prefix: &'static str,
    /// The logs.
    pub(crate) logs: &'static [LogRule],

    /// The skill of runs that don't name their agent; may be empty.
    pub(crate) skill: &'static str,
    /// The name of the agent.
    pub agent_name: Names,
    /// JSON objects that say where in a program a span is.
    pub(crate) context: Names,
    /// Members of the context: the agent that a span is part of. Its own span has its name.
    pub(crate) context_agent: Names,
    /// Members of the context: the step that a span is part of. Its own span has its name.
    pub(crate) context_step: Names,
    /// The user.
    pub caller: Names,
    /// The conversation or session.
    pub channel: Names,
    /// What connects the logs of one run, if they belong to no trace.
    pub(crate) group: Names,

    /// The provider of the model.
    pub provider: Names,
    /// The model that answered.
    pub response_model: Names,
    /// The model that was asked for.
    pub request_model: Names,
    /// The input tokens.
    pub input_tokens: Names,
    /// The input tokens read from a cache.
    pub cache_read_tokens: Names,
    /// The input tokens written to a cache.
    pub cache_write_tokens: Names,
    /// Whether the input tokens leave out those read from and written to a cache.
    pub(crate) excludes_cache: bool,
    /// The output tokens.
    pub output_tokens: Names,
    /// The output tokens spent on reasoning.
    pub thinking_tokens: Names,
    /// The cost in US dollars.
    pub(crate) cost: Names,
    /// The cost in millionths of a US dollar.
    pub(crate) cost_micros: Names,

    /// The id of the answer.
    pub response_id: Names,
    /// Why the model stopped.
    pub finish_reasons: Names,
    /// Prefixes of parameters of a request.
    pub(crate) request_prefixes: Names,
    /// JSON objects of parameters of a request.
    pub(crate) request_parameters: Names,

    /// The name of the tool.
    pub tool_name: Names,
    /// The id of the call of a tool.
    pub(crate) call_id: Names,
    /// The arguments of the tool.
    pub tool_arguments: Names,
    /// The result of the tool.
    pub tool_result: Names,
    /// Events of a span that hold the result of the tool.
    pub(crate) result_events: Names,

    /// The system instructions.
    pub system: Names,
    /// The input as messages.
    pub messages: Names,
    /// The input of a run and all that followed, as messages.
    pub(crate) transcript: Names,
    /// The index of the first message of a transcript that belongs to no earlier run.
    pub(crate) transcript_start: Names,
    /// Prefixes of input messages in one attribute for each part.
    pub(crate) indexed_messages: Names,
    /// Events of a span that are input messages.
    pub(crate) message_events: Names,
    /// The input as a text or JSON.
    pub input: Names,
    /// The output as messages.
    pub output_messages: Names,
    /// Prefixes of output messages in one attribute for each part.
    pub(crate) indexed_output: Names,
    /// Events of a span that are output messages.
    pub(crate) output_events: Names,
    /// The output as a text or JSON.
    pub output: Names,
    /// Parts of indexed names that don't tell anything, such as `message` in
    /// `llm.input_messages.0.message.role`.
    pub(crate) fillers: Names,
    /// Further attributes (patterns) with texts of prompts, answers and tools.
    pub content: Names,
    /// Attributes of events of a span that belong to the span.
    pub(crate) hoisted: Names,
    /// JSON objects whose members are attributes.
    pub(crate) expanded: Names,

    /// Why it failed.
    pub error: Names,
    /// Whether it succeeded, as `true` or `false`.
    pub(crate) success: Names,
    /// How long it took in milliseconds.
    pub(crate) duration_ms: Names,
}

impl Convention {
    /// A convention without any names.
    pub(crate) const NONE: Self = Self {
        marks: &[],
        prefixes: &[],
        operation: &[],
        operations: &[],
        span_names: &[],
        log_prefix: "",
        logs: &[],
        skill: "",
        agent_name: &[],
        context: &[],
        context_agent: &[],
        context_step: &[],
        caller: &[],
        channel: &[],
        group: &[],
        provider: &[],
        response_model: &[],
        request_model: &[],
        input_tokens: &[],
        cache_read_tokens: &[],
        cache_write_tokens: &[],
        excludes_cache: false,
        output_tokens: &[],
        thinking_tokens: &[],
        cost: &[],
        cost_micros: &[],
        response_id: &[],
        finish_reasons: &[],
        request_prefixes: &[],
        request_parameters: &[],
        tool_name: &[],
        call_id: &[],
        tool_arguments: &[],
        tool_result: &[],
        result_events: &[],
        system: &[],
        messages: &[],
        transcript: &[],
        transcript_start: &[],
        indexed_messages: &[],
        message_events: &[],
        input: &[],
        output_messages: &[],
        indexed_output: &[],
        output_events: &[],
        output: &[],
        fillers: &[],
        content: &[],
        hoisted: &[],
        expanded: &[],
        error: &[],
        success: &[],
        duration_ms: &[],
    };

    /// Whether an attribute has the text of a prompt, an answer or a tool call.
    pub fn is_content(&self, name: &str) -> bool {
        let exact = [
            self.tool_arguments,
            self.tool_result,
            self.system,
            self.messages,
            self.transcript,
            self.input,
            self.output_messages,
            self.output,
        ];
        let prefixes = [self.indexed_messages, self.indexed_output];
        exact.iter().any(|names| names.contains(&name))
            || self.content.iter().any(|pattern| matches(pattern, name))
            || prefixes
                .iter()
                .any(|prefixes| has_prefix(name, prefixes).is_some())
    }

    /// Whether this convention describes a span or log.
    pub(crate) fn applies<'a>(
        &self,
        name: &str,
        source: &Source,
        attributes: impl Iterator<Item = &'a String> + Clone,
    ) -> bool {
        let service = source.resource.text(&["service.name"]).unwrap_or_default();
        self.marks.is_empty()
            || self.marks.iter().any(|mark| match mark {
                Mark::Service(prefix) => service.starts_with(prefix),
                Mark::Scope(prefix) => source.scope.starts_with(prefix),
                Mark::Name(prefix) => name.starts_with(prefix),
                Mark::Attribute(prefix) => attributes.clone().any(|name| name.starts_with(prefix)),
            })
    }
}

/// Whether a name matches a pattern, which may end in `*`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// Returns what follows the first of these prefixes that the name has.
pub(crate) fn has_prefix<'n>(name: &'n str, prefixes: &[&str]) -> Option<&'n str> {
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))
}
