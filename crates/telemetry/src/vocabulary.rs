use runtrail_audit::Usage;
use runtrail_audit::rules;
use serde_json::{Map, Value};

use crate::attributes::{Attributes, amount, json_or_text};
use crate::convention::{Convention, LogRule, Meaning, Names, has_prefix, matches};
use crate::conventions::{GEN_AI, OPEN_INFERENCE};
use crate::identifier::identifier;
use crate::span::SpanEvent;

/// The conventions by which a span or log is read; the first ones take precedence.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a>(pub(crate) &'a [&'static Convention]);

/// The conventions that spans of `tracing` follow.
pub const TRACING: Vocabulary<'static> = Vocabulary(&[&GEN_AI, &OPEN_INFERENCE]);

impl Vocabulary<'_> {
    /// The conventions.
    pub fn conventions(&self) -> impl Iterator<Item = &'static Convention> {
        self.0.iter().copied()
    }

    /// Returns the first text that isn't empty.
    pub fn text<'v>(
        &self,
        attributes: &'v (impl Attributes + ?Sized),
        names: impl Fn(&Convention) -> Names,
    ) -> Option<&'v str> {
        self.conventions()
            .find_map(|convention| attributes.text(names(convention)))
    }

    /// Returns the first count that can be stored.
    pub fn number(
        &self,
        attributes: &(impl Attributes + ?Sized),
        names: impl Fn(&Convention) -> Names,
    ) -> Option<u64> {
        self.conventions()
            .find_map(|convention| attributes.number(names(convention)))
    }

    /// Whether these names include `name`.
    pub fn has(&self, name: &str, names: impl Fn(&Convention) -> Names) -> bool {
        self.conventions()
            .any(|convention| names(convention).contains(&name))
    }

    /// Whether an attribute has the text of a prompt, an answer or a tool call.
    pub fn is_content(&self, name: &str) -> bool {
        self.conventions()
            .any(|convention| convention.is_content(name))
    }

    /// Returns what the operation of a span stands for; `None` if it has none.
    pub fn operation(&self, attributes: &(impl Attributes + ?Sized)) -> Option<Meaning> {
        self.conventions().find_map(|convention| {
            let operation = attributes.text(convention.operation)?;
            Some(convention.meaning(operation))
        })
    }

    /// Returns the usage that a span reports, in a form that can be stored, without its cost. If
    /// its numbers contradict each other, only the names are returned.
    pub fn usage(&self, attributes: &(impl Attributes + ?Sized)) -> Option<Usage> {
        let model = self
            .text(attributes, |names| names.response_model)
            .or_else(|| self.text(attributes, |names| names.request_model));
        let provider = self.text(attributes, |names| names.provider);
        let tokens = self.tokens(attributes);
        let mut usage = match rules::usage(&tokens) {
            Ok(()) => tokens,
            Err(_) => Usage::new(),
        };
        usage.provider = provider.map(identifier);
        usage.model = model.map(identifier);
        (!usage.is_empty()).then_some(usage)
    }

    fn tokens(&self, attributes: &(impl Attributes + ?Sized)) -> Usage {
        let input = self.conventions().find_map(|convention| {
            let tokens = attributes.number(convention.input_tokens)?;
            Some((tokens, convention.excludes_cache))
        });
        let mut usage = Usage::new();
        usage.cache_read_tokens = self.number(attributes, |names| names.cache_read_tokens);
        usage.cache_write_tokens = self.number(attributes, |names| names.cache_write_tokens);
        usage.thinking_tokens = self.number(attributes, |names| names.thinking_tokens);
        let cached = [usage.cache_read_tokens, usage.cache_write_tokens];
        usage.input_tokens = match input {
            Some((tokens, true)) => Some(tokens.saturating_add(sum(&cached))),
            input => whole(input.map(|(tokens, _)| tokens), &cached),
        };
        let output = self.number(attributes, |names| names.output_tokens);
        usage.output_tokens = whole(output, &[usage.thinking_tokens]);
        usage
    }

    /// Returns the cost that a span or log reports, in millionths of a US dollar.
    pub(crate) fn cost(&self, attributes: &Map<String, Value>) -> Option<u64> {
        // More than this for one call is an error of the sender.
        const MAX_DOLLARS: f64 = 1e9;

        let dollars = |convention: &Convention| {
            let mut names = convention.cost.iter();
            names.find_map(|name| amount(attributes.get(*name)?))
        };
        self.number(attributes, |names| names.cost_micros)
            .or_else(|| {
                let dollars = self.conventions().find_map(dollars)?;
                (dollars <= MAX_DOLLARS).then_some((dollars * 1e6).round() as u64)
            })
    }

    /// Returns what a span stands for: by its name, or else by its operation.
    pub(crate) fn meaning(&self, name: &str, attributes: &Map<String, Value>) -> Option<Meaning> {
        self.conventions().find_map(|convention| {
            let by_name = convention
                .span_names
                .iter()
                .find(|(pattern, _)| matches(pattern, name));
            let by_operation = || {
                let operation = attributes.text(convention.operation)?;
                let meaning = convention.meaning(operation);
                Some(convention.meaning_in_context(meaning, name, attributes))
            };
            by_name.map(|(_, meaning)| *meaning).or_else(by_operation)
        })
    }

    /// Returns what follows the fixed part of the name of a span.
    pub(crate) fn suffix<'n>(&self, name: &'n str) -> Option<&'n str> {
        let mut patterns = self.conventions().flat_map(|names| names.span_names);
        patterns.find_map(|(pattern, _)| name.strip_prefix(pattern.strip_suffix('*')?))
    }

    /// Returns the rule by which a log is read.
    pub(crate) fn log_rule(
        &self,
        name: &str,
        attributes: &Map<String, Value>,
    ) -> Option<&'static LogRule> {
        self.conventions().find_map(|convention| {
            let name = name.strip_prefix(convention.log_prefix).unwrap_or(name);
            let applies = |rule: &&LogRule| {
                let has = |(name, value)| attributes.text(&[name]) == Some(value);
                rule.name == name && rule.only_if.is_none_or(has)
            };
            convention.logs.iter().find(applies)
        })
    }

    /// Whether an attribute shows that a span or log is about agents.
    pub(crate) fn is_agentic(&self, attributes: &Map<String, Value>) -> bool {
        attributes.keys().any(|name| {
            self.conventions()
                .any(|convention| has_prefix(name, convention.prefixes).is_some())
        })
    }

    /// Adds attributes of events that belong to the span, and members of JSON objects that are
    /// attributes. Existing attributes are kept.
    pub(crate) fn complete(&self, attributes: &mut Map<String, Value>, events: &[SpanEvent]) {
        for (name, value) in events.iter().flat_map(|event| &event.attributes) {
            if self.has(name, |names| names.hoisted) && !attributes.contains_key(name) {
                attributes.insert(name.clone(), value.clone());
            }
        }
        for name in self.conventions().flat_map(|names| names.expanded) {
            let members = match attributes.get(*name) {
                Some(Value::String(text)) => serde_json::from_str(text).ok(),
                Some(Value::Object(members)) => Some(members.clone()),
                _ => None,
            };
            for (member, value) in members.into_iter().flatten() {
                let member = format!("{name}.{member}");
                attributes.entry(member).or_insert(value);
            }
        }
    }

    /// Removes the attributes with these names, and returns the first one that isn't empty.
    pub(crate) fn take(
        &self,
        attributes: &mut Map<String, Value>,
        names: impl Fn(&Convention) -> Names,
    ) -> Option<Value> {
        let mut first = None;
        for name in self.conventions().flat_map(names) {
            let value = attributes.remove(*name).filter(|value| !is_empty(value));
            first = first.or(value);
        }
        first
    }
}

impl Convention {
    fn meaning(&self, operation: &str) -> Meaning {
        let mut operations = self.operations.iter();
        let known = operations.find(|(name, _)| *name == operation);
        known.map_or(Meaning::Step, |(_, meaning)| *meaning)
    }

    /// Corrects what a sender guesses from the name of a span.
    fn meaning_in_context(
        &self,
        meaning: Meaning,
        name: &str,
        attributes: &Map<String, Value>,
    ) -> Meaning {
        if self.context.is_empty() || !matches!(meaning, Meaning::Run | Meaning::Chain) {
            return meaning;
        }
        let context = self.context.iter().find_map(|name| attributes.get(*name));
        let context = context.cloned().map(json_or_text).unwrap_or_default();
        let is_of = |members: Names| members.iter().any(|member| context[*member] == name);
        if is_of(self.context_agent) {
            Meaning::Run
        } else if attributes.text(self.tool_name).is_some() {
            Meaning::ToolCall
        } else if is_of(self.context_step) {
            Meaning::Step
        } else {
            meaning
        }
    }
}

pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn sum(parts: &[Option<u64>]) -> u64 {
    let parts = parts.iter().flatten();
    parts.fold(0, |sum: u64, part| sum.saturating_add(*part))
}

/// Returns the number of all tokens. If the parts exceed the reported number, the sender hasn't
/// included them in it.
fn whole(reported: Option<u64>, parts: &[Option<u64>]) -> Option<u64> {
    if parts.iter().all(Option::is_none) {
        return reported;
    }
    let sum = sum(parts);
    let reported = reported.unwrap_or_default();
    Some(match sum > reported {
        true => reported.saturating_add(sum),
        false => reported,
    })
}
