use maud::{Markup, html};

use super::group::Group;
use super::period::{DEFAULT_RANGE, RANGES};
use super::{BY, Selection};
use crate::filters::{CALLER, CHANNEL, FROM, LABEL, SHOW, SKILL, STATUS, Show, TO};
use crate::url::Parameters;

/// Links to the same statistics about other times.
pub(super) fn ranges(selection: &Selection<'_>) -> Markup {
    let parameters = &selection.visitor.parameters;
    let shown = match (parameters.first(FROM), parameters.first(TO)) {
        (from, None) => from.unwrap_or(DEFAULT_RANGE),
        (_, Some(_)) => "",
    };
    let link = |range| {
        let parameters = selection.parameters_without_time();
        by(parameters, selection.group)
            .with(FROM, range)
            .link("statistics")
    };
    html! {
        nav.choice aria-label="Time" {
            @for (range, name) in RANGES {
                a href=(link(range)) aria-current=[(range == shown).then_some("true")] { (name) }
            }
        }
    }
}

/// Links to the same statistics in other groups.
pub(super) fn groups(selection: &Selection<'_>) -> Markup {
    let link = |group| {
        let mut parameters = by(selection.parameters_without_time(), group);
        for name in [FROM, TO] {
            if let Some(time) = selection.visitor.parameters.first(name) {
                parameters.push(name, time);
            }
        }
        parameters.link("statistics")
    };
    html! {
        nav.choice aria-label="Groups" {
            @for group in Group::ALL {
                a href=(link(group)) aria-current=[(group == selection.group).then_some("true")] {
                    "By " (group.name())
                }
            }
        }
    }
}

fn by(parameters: Parameters, group: Group) -> Parameters {
    match group {
        Group::Skill => parameters,
        group => parameters.with(BY, group.name()),
    }
}

pub(super) fn form(selection: &Selection<'_>) -> Markup {
    let filters = selection.filters;
    let parameters = &selection.visitor.parameters;
    let fields = [
        ("Skill", SKILL, &filters.skills),
        ("Caller", CALLER, &filters.callers),
        ("Channel", CHANNEL, &filters.channels),
        ("Status", STATUS, &filters.statuses),
        ("Label", LABEL, &filters.labels),
    ];
    // As the visitor has written them: an age stays an age.
    let times = [("From", FROM, "7d"), ("To", TO, "now")];
    html! {
        form.filters method="get" action="statistics" role="search" aria-label="Filter runs" {
            @for (title, name, values) in fields {
                label { (title) input name=(name) value=[values.first()]; }
                @for value in values.iter().skip(1) { input type="hidden" name=(name) value=(value); }
            }
            @for (title, name, hint) in times {
                label { (title) input name=(name) value=[parameters.first(name)] placeholder=(hint); }
            }
            @if let Some(group) = parameters.first(BY) { input type="hidden" name=(BY) value=(group); }
            @if filters.show == Show::TopLevel { input type="hidden" name=(SHOW) value="top"; }
            button.primary { "Show" }
        }
    }
}
