use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use runtrail_audit::SkillRunLog;

use super::links::Links;
use crate::content::{Preview, preview};
use crate::format;
use crate::visitor::Visitor;

/// An event without its payload, of which a row shows only the preview.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) event: SkillRunLog,
    pub(super) preview: Preview,
}

impl EventRow {
    /// Takes what a row shows of an event that the visitor may see.
    pub(super) fn of(visitor: &Visitor, event: SkillRunLog) -> Self {
        let mut event = visitor.visible_event(event);
        let preview = match visitor.shows_texts() {
            true => preview(&event),
            false => Preview::default(),
        };
        event.payload = serde_json::Value::Null;
        Self { event, preview }
    }

    pub(super) fn end(&self) -> DateTime<Utc> {
        self.event.created_at.unwrap_or_default()
    }

    pub(super) fn start(&self) -> DateTime<Utc> {
        let duration = self.event.duration.unwrap_or_default();
        let duration = TimeDelta::from_std(duration).unwrap_or_default();
        let start = self.end().checked_sub_signed(duration);
        start.unwrap_or_else(|| self.end())
    }

    /// Whether it is about something that took time.
    pub(super) fn is_call(event: &SkillRunLog) -> bool {
        event.duration.is_some()
            || event.usage.is_some()
            || matches!(
                event.event_type.as_str(),
                "model_call" | "tool_call" | "span"
            )
    }

    /// Returns the class of its bar and of the word for its type.
    pub(super) fn class(&self) -> &'static str {
        match self.event.event_type.as_str() {
            _ if self.preview.is_error => "is-error",
            "model_call" => "is-model",
            "tool_call" => "is-tool",
            "stderr" => "is-stderr",
            _ => "is-step",
        }
    }

    /// Renders the names and the beginning of the contents, with a space before each.
    pub(super) fn summary(&self) -> Markup {
        let usage = self.event.usage.as_ref();
        let model = usage.and_then(|usage| usage.model.as_deref());
        let Preview {
            name,
            text,
            is_error,
        } = &self.preview;
        html! {
            @for callee in [model.unwrap_or_default(), name.as_str()] {
                @if !callee.is_empty() { " " span.callee { (format::name(callee)) } }
            }
            @if *is_error { " " span.is-error { "failed:" } }
            @if !text.is_empty() { " " span.preview { (format::name(text)) } }
        }
    }

    pub(super) fn duration(&self) -> Option<String> {
        let duration = self.event.duration?;
        Some(format::duration(duration.as_secs_f64()))
    }

    /// Formats the tokens, for example `1.2k → 80`.
    pub(super) fn tokens(&self) -> Option<Markup> {
        let usage = self.event.usage.as_ref()?;
        let (input, output) = (usage.input_tokens, usage.output_tokens);
        if input.is_none() && output.is_none() {
            return None;
        }
        Some(tokens(
            input.unwrap_or_default(),
            output.unwrap_or_default(),
        ))
    }

    /// Renders a link to the event. A script opens it in place.
    pub(super) fn link(&self, links: &Links, shown: &Markup) -> Markup {
        html! { a href=(links.event(self.event.sequence)) data-open { (shown) } }
    }
}

/// Formats input and output tokens, for example `1.2k → 80`.
pub(super) fn tokens(input: u64, output: u64) -> Markup {
    html! {
        span title=(format_args!("{} in, {} out", format::count(input), format::count(output))) {
            (format::rough_count(input)) " → " (format::rough_count(output))
        }
    }
}
