//! The page of a run.

mod axis;
mod detail;
mod event_row;
mod events;
mod head;
mod links;
mod live;
mod tree;
mod waterfall;
mod window;

use axum::response::Response;
use maud::{Markup, html};
use runtrail_audit::SkillRun;

pub(crate) use detail::show as event;
pub(super) use head::{inputs, output};
pub(crate) use live::show as live;

use self::detail::WHOLE;
use self::events::{EventQuery, Events};
use self::links::{Links, ROOT};
use self::tree::Tree;
use self::waterfall::{Waterfall, WaterfallQuery};
use crate::content::Extent;
use crate::error::{Failure, Result};
use crate::layout::{self, Section};
use crate::url::Parameters;
use crate::visitor::Visitor;

/// Which steps of a run are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Waterfall,
    Events,
}

impl View {
    /// Returns the view that is asked for, if any.
    fn parse(parameters: &Parameters) -> Result<Option<Self>> {
        match parameters.first("view") {
            Some("waterfall") => Ok(Some(Self::Waterfall)),
            Some("events") => Ok(Some(Self::Events)),
            Some(_) => Err(Failure::bad_request("view must be waterfall or events.")),
            None => Ok(EventQuery::is_asked_for(parameters).then_some(Self::Events)),
        }
    }
}

/// Shows a run: what is known of it, its texts, and its steps.
pub(crate) async fn show(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let links = Links::new(ROOT, &run.id);
    let view = View::parse(&visitor.parameters)?;
    let tree = Tree::read(&visitor, &run).await?;
    let (view, steps) = steps(&visitor, &run, &tree, view, &links).await?;

    let ids: Vec<_> = tree
        .branches
        .iter()
        .map(|branch| branch.run.id.clone())
        .collect();
    let usage = visitor.history().usage_by_model(&ids).await?;

    let whole = Parameters::new().with(WHOLE, "yes").link(links.run());
    let extent = match visitor.parameters.first(WHOLE) {
        Some(_) => Extent::Whole,
        None => Extent::Cut { whole: &whole },
    };
    let body = html! {
        (head::head(&visitor, &run))
        (head::texts(&visitor, &run, extent))
        (head::usage(&run, tree.branches.len(), &usage))
        section aria-labelledby="steps" {
            h2 #steps { "Steps" }
            (tabs(view, &run, &links))
            (steps)
        }
    };
    let title = match run.skill_id.as_str() {
        "" => run.id.as_str(),
        skill => skill,
    };
    Ok(layout::page(ROOT, title, Section::Runs, body))
}

/// Returns a window of the waterfall.
pub(crate) async fn waterfall(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let query = WaterfallQuery::parse(&visitor.parameters)?;
    let tree = Tree::read(&visitor, &run).await?;
    let waterfall = Waterfall::read(&visitor, &tree, query).await?;
    let links = Links::new(ROOT, &run.id);
    Ok(layout::fragment(waterfall.fragment(&links)))
}

/// Returns a window of the events.
pub(crate) async fn events(visitor: Visitor) -> Result<Response> {
    let run = visitor.run().await?;
    let query = EventQuery::parse(&visitor.parameters, &run)?;
    let events = Events::read(&visitor, &run.id, query).await?;
    let links = Links::new(ROOT, &run.id);
    Ok(layout::fragment(events.fragment(&links)))
}

/// Renders the view that is asked for; otherwise the waterfall, if there is anything in it.
async fn steps(
    visitor: &Visitor,
    run: &SkillRun,
    tree: &Tree,
    view: Option<View>,
    links: &Links,
) -> Result<(View, Markup)> {
    if view != Some(View::Events) {
        let query = WaterfallQuery::parse(&visitor.parameters)?;
        let waterfall = Waterfall::read(visitor, tree, query).await?;
        if view.is_some() || waterfall.has_steps() {
            return Ok((View::Waterfall, waterfall.render(links)));
        }
    }
    let query = EventQuery::parse(&visitor.parameters, run)?;
    let events = Events::read(visitor, &run.id, query).await?;
    Ok((View::Events, events.render(run, links)))
}

fn tabs(view: View, run: &SkillRun, links: &Links) -> Markup {
    let tab = |of: View, name: &str, shown: &str| {
        let current = (view == of).then_some("page");
        let link = Parameters::new().with("view", name).link(links.run());
        html! { a href={ (link) "#steps" } aria-current=[current] { (shown) } }
    };
    html! {
        nav.tabs aria-label="Steps" {
            (tab(View::Waterfall, "waterfall", "Waterfall"))
            (tab(View::Events, "events", if run.is_running() { "Events, live" } else { "Events" }))
        }
    }
}
