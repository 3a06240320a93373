//! The events of a run, in windows.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use runtrail_audit::{
    Cursor, CursorPage, ListOrder, LogFilter, PageRequest, SkillRun, SkillRunLog,
};

use super::event_row::EventRow;
use super::links::Links;
use super::window::Next;
use crate::error::{Failure, Result};
use crate::filters::{self, ORDER};
use crate::format;
use crate::url::Parameters;
use crate::visitor::Visitor;

const ROWS: u64 = 200;

/// Types that are suggested beside those of the window.
const TYPES: [&str; 5] = ["model_call", "tool_call", "span", "stdout", "stderr"];

/// Which events are listed, and where a window of them begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EventQuery {
    event_type: Option<String>,
    order: ListOrder,
    /// The first sequence; `None` for all.
    from: Option<u64>,
    at: Option<Cursor>,
}

impl EventQuery {
    /// The events of a running run are listed newest first, unless another order is asked for.
    pub(super) fn parse(parameters: &Parameters, run: &SkillRun) -> Result<Self> {
        let from = parameters.first("from").map(sequence).transpose()?;
        let default = match run.is_running() && from.is_none() {
            true => ListOrder::NewestFirst,
            false => ListOrder::OldestFirst,
        };
        let order = filters::order(parameters)?.unwrap_or(default);
        Ok(Self {
            event_type: parameters.first("type").map(str::to_owned),
            order,
            from,
            at: parameters.first("at").map(Cursor::from),
        })
    }

    /// Whether the parameters can only be about events.
    pub(super) fn is_asked_for(parameters: &Parameters) -> bool {
        ["type", ORDER, "from"]
            .iter()
            .any(|name| parameters.first(name).is_some())
    }

    fn filter(&self) -> LogFilter {
        let mut filter = LogFilter::new();
        filter.event_type.clone_from(&self.event_type);
        filter.after = self.from.and_then(|from| from.checked_sub(1));
        filter
    }

    fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new().with("view", "events");
        if let Some(event_type) = &self.event_type {
            parameters.push("type", event_type);
        }
        parameters.push(ORDER, word(self.order));
        if let Some(from) = self.from {
            parameters.push("from", from.to_string());
        }
        if let Some(at) = &self.at {
            parameters.push("at", at.as_str());
        }
        parameters
    }

    fn is_first(&self) -> bool {
        self.at.is_none() && self.from.is_none()
    }

    fn at(&self, at: Option<Cursor>) -> Self {
        Self { at, ..self.clone() }
    }
}

fn word(order: ListOrder) -> &'static str {
    match order {
        ListOrder::NewestFirst => "newest",
        ListOrder::OldestFirst => "oldest",
    }
}

/// Parses the sequence of an event.
pub(super) fn sequence(text: &str) -> Result<u64> {
    let sequence = text.parse().ok();
    let sequence = sequence.filter(|sequence: &u64| i64::try_from(*sequence).is_ok());
    sequence.ok_or_else(|| Failure::bad_request("The sequence of an event is a number."))
}

/// A window of events.
#[derive(Debug)]
pub(super) struct Events {
    query: EventQuery,
    page: CursorPage<EventRow>,
}

impl Events {
    pub(super) async fn read(visitor: &Visitor, run_id: &str, query: EventQuery) -> Result<Self> {
        let request = PageRequest::first(ROWS).at(query.at.clone());
        let history = visitor.history();
        let page = history
            .page_logs(run_id, &query.filter(), query.order, &request)
            .await?;
        let rows = page
            .items
            .into_iter()
            .map(|event| EventRow::of(visitor, event));
        let mut rows = CursorPage::new(rows.collect());
        (rows.next, rows.previous) = (page.next, page.previous);
        Ok(Self { query, page: rows })
    }

    pub(super) fn render(&self, run: &SkillRun, links: &Links) -> Markup {
        let live = self.live(run, links);
        html! {
            (self.tools(links))
            @if self.page.items.is_empty() {
                p.empty {
                    @if self.query.event_type.is_some() { "The run has no events of this type." }
                    @else if run.is_running() { "The run has no events yet." }
                    @else { "The run has no events." }
                }
            }
            @if let Some(previous) = &self.page.previous {
                p.more {
                    a.button rel="prev" href={
                        (self.query.at(Some(previous.clone())).parameters().link(links.run()))
                        "#steps"
                    } { "Previous events" }
                }
            }
            @if live.is_some() || !self.page.items.is_empty() {
                table.steps.events data-windows data-live=[live]
                    data-order=(word(self.query.order)) {
                    caption.hidden { "Events" }
                    thead {
                        tr {
                            th scope="col" { "Time" }
                            th scope="col" { "Type" }
                            th scope="col" { "Event" }
                            th.number scope="col" { "Duration" }
                            th.number.wide scope="col" { "Tokens" }
                        }
                    }
                    (self.body(links))
                }
            }
            (self.more(links))
        }
    }

    /// Renders the rows, and a link to those that follow.
    pub(super) fn fragment(&self, links: &Links) -> Markup {
        html! { table { (self.body(links)) } (self.more(links)) }
    }

    fn tools(&self, links: &Links) -> Markup {
        let shown = self
            .page
            .items
            .iter()
            .map(|row| row.event.event_type.as_str());
        let mut types: Vec<&str> = TYPES.into_iter().chain(shown).collect();
        types.sort_unstable();
        types.dedup();
        let other = self.query.order.reversed();
        let turned = EventQuery {
            event_type: self.query.event_type.clone(),
            order: other,
            from: None,
            at: None,
        };
        html! {
            form.tools method="get" action={ (links.run()) "#steps" } {
                input type="hidden" name="view" value="events";
                input type="hidden" name="order" value=(word(self.query.order));
                label {
                    "Type"
                    input name="type" list="event-types" autocomplete="off"
                        value=[self.query.event_type.as_ref()];
                }
                datalist #event-types { @for name in types { option value=(name) {} } }
                button { "Filter" }
                label data-search hidden { "Search in the loaded events" input type="search"; }
                a href={ (turned.parameters().link(links.run())) "#steps" } {
                    @match other {
                        ListOrder::NewestFirst => "Newest first",
                        ListOrder::OldestFirst => "Oldest first",
                    }
                }
                @if !self.query.is_first() {
                    a href={
                        (EventQuery { from: None, at: None, ..self.query.clone() }
                            .parameters().link(links.run()))
                        "#steps"
                    } { "From the beginning" }
                }
            }
        }
    }

    fn body(&self, links: &Links) -> Markup {
        let window = links.fragment("events", &self.query.parameters());
        html! {
            tbody data-window=(window) {
                @for row in &self.page.items { (event_row(row, links)) }
            }
        }
    }

    fn more(&self, links: &Links) -> Markup {
        let next = self.page.next.clone();
        let parameters = next.map(|next| self.query.at(Some(next)).parameters());
        Next {
            fragment: "events",
            parameters,
            label: "Next events",
        }
        .render(links)
    }

    /// Returns the stream of the events of this window and of those that are recorded later. Only a
    /// list that begins with the newest events, or ends with them, is continued.
    fn live(&self, run: &SkillRun, links: &Links) -> Option<String> {
        let sequences = self.page.items.iter().map(|row| row.event.sequence);
        let is_newest = match self.query.order {
            ListOrder::NewestFirst => self.query.at.is_none(),
            ListOrder::OldestFirst => self.page.next.is_none(),
        };
        if !run.is_running() || !is_newest {
            return None;
        }
        let mut parameters = Parameters::new();
        if let Some(event_type) = &self.query.event_type {
            parameters.push("type", event_type);
        }
        // Also events that are recorded late, between those of this window.
        if let Some(before) = sequences.min().and_then(|first| first.checked_sub(1)) {
            parameters.push("after", before.to_string());
        }
        Some(links.fragment("live", &parameters))
    }
}

/// Renders the row of an event.
pub(super) fn event_row(row: &EventRow, links: &Links) -> Markup {
    let event = &row.event;
    let time = html! { (clock_time(row.end())) };
    html! {
        tr id={ "e-" (event.sequence) } data-row {
            th scope="row" { (row.link(links, &time)) }
            td { span class={ "kind " (row.class()) } { (format::name(&event.event_type)) } }
            td.step { (row.summary()) }
            td.number { (row.duration().unwrap_or_default()) }
            td.number.wide { @if let Some(tokens) = row.tokens() { (tokens) } }
        }
    }
}

/// Shows the time of day, with the full time as its title.
fn clock_time(time: DateTime<Utc>) -> Markup {
    let full = format::full_time(time);
    let shown = time.format("%H:%M:%S%.3f").to_string();
    html! {
        time datetime=(format::machine_time(time)) title=(full) { (shown) }
    }
}

/// Reads one event; `None` if it isn't stored or can't be read.
pub(super) async fn find_event(
    visitor: &Visitor,
    run_id: &str,
    sequence: u64,
) -> Result<Option<SkillRunLog>> {
    let mut filter = LogFilter::new();
    filter.after = sequence.checked_sub(1);
    let history = visitor.history();
    let request = PageRequest::first(1);
    let page = history
        .page_logs(run_id, &filter, ListOrder::OldestFirst, &request)
        .await?;
    let event = page
        .items
        .into_iter()
        .find(|event| event.sequence == sequence);
    Ok(event.map(|event| visitor.visible_event(event)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, run: &SkillRun) -> Result<EventQuery> {
        EventQuery::parse(&Parameters::parse(query), run)
    }

    #[test]
    fn a_query_survives_its_link() {
        let run = SkillRun::new("run-1", "skill", DateTime::UNIX_EPOCH);
        for query in [
            "",
            "type=a%26b",
            "order=oldest&at=xyz",
            "from=7",
            "type=x&order=newest",
        ] {
            let parsed = parse(query, &run).unwrap();
            let link = parsed.parameters().link("");
            assert_eq!(parse(&link[1..], &run).unwrap(), parsed, "{query}");
        }
    }

    #[test]
    fn the_order_depends_on_whether_the_run_is_running() {
        let mut run = SkillRun::new("run-1", "skill", DateTime::UNIX_EPOCH);
        assert_eq!(parse("", &run).unwrap().order, ListOrder::NewestFirst);
        assert_eq!(parse("from=3", &run).unwrap().order, ListOrder::OldestFirst);
        run.finished_at = Some(DateTime::UNIX_EPOCH);
        assert_eq!(parse("", &run).unwrap().order, ListOrder::OldestFirst);
        assert_eq!(
            parse("order=newest", &run).unwrap().order,
            ListOrder::NewestFirst
        );
    }

    #[test]
    fn sequences_are_numbers_that_can_be_stored() {
        assert_eq!(sequence("9223372036854775807").unwrap(), i64::MAX as u64);
        for text in ["", "-1", "1.0", "9223372036854775808", "x"] {
            assert!(sequence(text).is_err(), "{text}");
        }
    }
}
