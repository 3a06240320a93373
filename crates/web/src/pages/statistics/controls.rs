use maud::{Markup, html};

use super::group::Group;
use super::{BY, Selection};
use crate::filters::{CALLER, CHANNEL, FROM, LABEL, SHOW, SKILL, STATUS, Show, TO};
use crate::pages::runs::form;
use crate::url::Parameters;

/// The time that is shown if a visitor gives none.
const DEFAULT_RANGE: &str = "7d";

/// Times to choose from: how a filter writes it, and its name.
const RANGES: [(&str, &str); 4] = [
    ("24h", "24 hours"),
    (DEFAULT_RANGE, "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
];

pub(super) fn form(selection: &Selection<'_>) -> Markup {
    let filters = selection.filters;
    html! {
        form.filters method="get" action="statistics" role="search" aria-label="Filter runs" {
            div.fields {
                (form::inputs(SKILL, "Skill", &filters.skills, ""))
                (form::inputs(CALLER, "Caller", &filters.callers, ""))
                (form::inputs(CHANNEL, "Channel", &filters.channels, ""))
                (form::inputs(LABEL, "Label", &filters.labels, "env=prod"))
                (form::time(FROM, "Started from", filters.earliest()))
                (form::time(TO, "Started until", filters.latest()))
            }
            @for status in &filters.statuses { (hidden(STATUS, status)) }
            @if filters.show == Show::TopLevel { (hidden(SHOW, "top")) }
            @if selection.group != Group::Skill { (hidden(BY, selection.group.name())) }
            div.actions {
                button.primary { "Show" }
                @if filters.is_set() { a href="statistics" { "Clear" } }
                (ranges(selection))
            }
        }
    }
}

fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// Links to the same statistics about other times.
fn ranges(selection: &Selection<'_>) -> Markup {
    let filters = selection.filters;
    let shown = match (filters.earliest(), filters.to) {
        (None, None) => Some(DEFAULT_RANGE.to_owned()),
        (from, None) => from,
        (_, Some(_)) => None,
    };
    let link = |range| {
        let parameters = by(selection.parameters_without_time(), selection.group);
        parameters.with(FROM, range).link("statistics")
    };
    html! {
        span.ages {
            @for (range, name) in RANGES {
                @let is_shown = shown.as_deref() == Some(range);
                a href=(link(range)) title={ "The last " (name) }
                    aria-current=[is_shown.then_some("true")] { (range) }
            }
        }
    }
}

/// Links to the same statistics in other groups.
pub(super) fn groups(selection: &Selection<'_>) -> Markup {
    let filters = selection.filters;
    let link = |group| {
        let mut parameters = by(selection.parameters_without_time(), group);
        for (name, time) in [(FROM, filters.earliest()), (TO, filters.latest())] {
            if let Some(time) = time {
                parameters.push(name, time);
            }
        }
        parameters.link("statistics")
    };
    html! {
        nav.choice aria-label="Groups" {
            @for group in Group::ALL {
                @let is_shown = group == selection.group;
                a href=(link(group)) aria-current=[is_shown.then_some("true")] {
                    "By " (group.name())
                }
            }
        }
    }
}

/// Adds the grouping, unless it is the default.
fn by(parameters: Parameters, group: Group) -> Parameters {
    match group {
        Group::Skill => parameters,
        group => parameters.with(BY, group.name()),
    }
}
