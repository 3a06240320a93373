//! The form with the filters.

use maud::{Markup, html};

use crate::filters::{self, Filters, Show};
use crate::format;

/// The statuses to choose from; a filter can have others.
const STATUSES: [&str; 6] = [
    "running",
    "ok",
    "error",
    "timeout",
    "interrupted",
    "dry_run",
];

/// Ages that are one click away.
const AGES: [(&str, &str); 4] = [
    ("1h", "the last hour"),
    ("24h", "the last 24 hours"),
    ("7d", "the last 7 days"),
    ("30d", "the last 30 days"),
];

pub(crate) fn show(filters: &Filters) -> Markup {
    let is_detailed = !filters.channels.is_empty()
        || !filters.labels.is_empty()
        || filters.from.is_some()
        || filters.to.is_some();
    html! {
        form.filters method="get" action="./" role="search" aria-label="Filter runs" {
            (statuses(filters))
            div.fields {
                (inputs(filters::SKILL, "Skill", &filters.skills, ""))
                (inputs(filters::CALLER, "Caller", &filters.callers, ""))
                label {
                    "Id begins with"
                    input name=(filters::ID) value=(filters.id) autocomplete="off" spellcheck="false";
                }
            }
            details open[is_detailed] {
                summary { "Channel, labels and time" }
                div.fields {
                    (inputs(filters::CHANNEL, "Channel", &filters.channels, ""))
                    (inputs(filters::LABEL, "Label", &filters.labels, "env=prod"))
                    @if !filters.labels.is_empty() {
                        (inputs(filters::LABEL, "Another label", &[], "team or zone!=eu"))
                    }
                    (time(filters::FROM, "Started from", filters.earliest()))
                    (time(filters::TO, "Started until", filters.latest()))
                }
            }
            div.actions {
                @match filters.show {
                    Show::Fitting => {}
                    Show::TopLevel => { input type="hidden" name=(filters::SHOW) value="top"; }
                    Show::All => { input type="hidden" name=(filters::SHOW) value="all"; }
                }
                button.primary { "Filter" }
                @if filters.is_set() { a href="./" { "Clear" } }
                span.ages {
                    @for (age, description) in AGES {
                        @let is_current = filters.earliest().as_deref() == Some(age);
                        a href=(filters.since(age).link("./")) title=(description)
                            aria-current=[is_current.then_some("true")] { (age) }
                    }
                }
            }
        }
    }
}

/// Links to the top-level runs, and to all runs.
pub(super) fn levels(filters: &Filters) -> Markup {
    let link = |show| {
        let filters = Filters {
            show,
            ..filters.clone()
        };
        filters.parameters().link("./")
    };
    let current = |is_current: bool| is_current.then_some("true");
    html! {
        nav.choice aria-label="Level" {
            a href=(link(Show::TopLevel)) aria-current=[current(!filters.shows_all())] {
                "Top-level runs"
            }
            a href=(link(Show::All)) aria-current=[current(filters.shows_all())] { "All runs" }
        }
    }
}

fn statuses(filters: &Filters) -> Markup {
    let others = filters.statuses.iter().map(String::as_str);
    let others = others.filter(|status| !STATUSES.contains(status));
    html! {
        fieldset.statuses {
            legend.hidden { "Status" }
            @for status in STATUSES.into_iter().chain(others) {
                @let is_chosen = filters.statuses.iter().any(|it| it == status);
                label.chip {
                    input type="checkbox" name=(filters::STATUS) value=(status) checked[is_chosen];
                    (format::status(&status.into()))
                }
            }
        }
    }
}

/// Shows an input for each value, and at least one.
pub(crate) fn inputs(name: &str, label: &str, values: &[String], placeholder: &str) -> Markup {
    let blank = values.is_empty().then_some("");
    html! {
        @for value in values.iter().map(String::as_str).chain(blank) {
            label {
                (label)
                input name=(name) value=(value) placeholder=(placeholder) autocomplete="off"
                    spellcheck="false";
            }
        }
    }
}

pub(crate) fn time(name: &str, label: &str, value: Option<String>) -> Markup {
    html! {
        label {
            (label)
            input name=(name) value=(value.unwrap_or_default()) placeholder="24h or 2026-11-24T09:30"
                autocomplete="off";
        }
    }
}
