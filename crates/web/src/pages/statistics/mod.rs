//! Statistics: how many runs there were, how they went, and what they used.

mod chart;
mod controls;
mod figures;
mod group;
mod table;

use axum::response::Response;
use chrono::TimeDelta;
use futures_util::try_join;
use maud::{Markup, html};
use runtrail_audit::{Dimension, StatisticsQuery};

use self::figures::{Figures, Moment};
use self::group::Group;
use crate::error::Result;
use crate::filters::{Filters, Show};
use crate::layout::{self, Section};
use crate::period::Period;
use crate::url::Parameters;
use crate::visitor::Visitor;

/// The parameter that says how the runs are grouped.
const BY: &str = "by";

/// How long the shown time is if a visitor gives none.
const DEFAULT_LENGTH: TimeDelta = TimeDelta::days(7);

pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let filters = Filters::parse(&visitor.parameters, visitor.now)?.all_by_default();
    let group = Group::parse(visitor.parameters.first(BY))?;
    let period = Period::of(&filters, DEFAULT_LENGTH, visitor.now)?;
    let exact = filters.between(period.from, period.to);
    let figures = figures(&visitor, &exact, &period, group).await?;
    let selection = Selection {
        visitor: &visitor,
        filters: &filters,
        group,
        period: &period,
    };
    let body = page(&selection, &figures);
    Ok(layout::page(
        &visitor.root,
        "Statistics",
        Section::Statistics,
        body,
    ))
}

/// What the page is about.
struct Selection<'a> {
    visitor: &'a Visitor,
    filters: &'a Filters,
    group: Group,
    period: &'a Period,
}

impl Selection<'_> {
    /// Returns the filter with the exact time that is shown.
    fn exact_filters(&self) -> Filters {
        self.filters.between(self.period.from, self.period.to)
    }

    /// Returns the parameters of this page, apart from those of the time.
    fn parameters_without_time(&self) -> Parameters {
        let mut timeless = self.exact_filters().without_times();
        // The default of this page.
        if timeless.show == Show::All {
            timeless.show = Show::Fitting;
        }
        timeless.parameters()
    }

    /// Returns a link to the list of runs that match a filter.
    fn list(&self, filters: &Filters) -> String {
        filters.parameters().link(&self.visitor.root)
    }
}

async fn figures(
    visitor: &Visitor,
    filters: &Filters,
    period: &Period,
    group: Group,
) -> Result<Figures> {
    let history = visitor.history();
    let all = StatisticsQuery::of(visitor.restrict(filters.query()));
    let over_time = all.clone().buckets(period.buckets.clone());
    let by_group = all.clone().group_by([group.dimension()]);
    let by_model = all
        .clone()
        .group_by([Dimension::Provider, Dimension::Model]);
    let (total, runs, calls, runs_by_group, calls_by_group, models) = try_join!(
        history.run_statistics(&all),
        history.run_statistics(&over_time),
        history.call_statistics(&over_time),
        history.run_statistics(&by_group),
        history.call_statistics(&by_group),
        history.call_statistics(&by_model),
    )?;
    Ok(Figures {
        total: total.first().map(|row| row.values).unwrap_or_default(),
        moments: Moment::all(period, &runs, &calls),
        groups: figures::groups(runs_by_group, &calls_by_group),
        models: figures::models(models),
    })
}

fn page(selection: &Selection<'_>, figures: &Figures) -> Markup {
    html! {
        div.heading { h1 { "Statistics" } }
        (controls::form(selection))
        @if figures.total.runs == 0 {
            p.empty { "No runs in this time." }
        } @else {
            (table::totals(figures))
            section.charts aria-label="Over time" {
                (chart::all(selection.period, &figures.moments))
            }
            details.periods {
                summary { "Numbers of the charts" }
                (table::moments(selection, &figures.moments))
            }
            div.heading {
                h2 { "Runs by " (selection.group.name()) }
                (controls::groups(selection))
            }
            (table::groups(selection, &figures.groups))
            @if !figures.models.is_empty() {
                h2 { "Calls by model" }
                (table::models(&figures.models))
            }
        }
    }
}
