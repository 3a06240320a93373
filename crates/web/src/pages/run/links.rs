use maud::Markup;

use crate::format;
use crate::url::{self, Parameters};

/// The relative path from the page of a run to the list of runs.
///
/// Fragments are inserted into that page, so it is their root too.
pub(super) const ROOT: &str = "../";

/// The links to a run and to what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Links {
    run: String,
}

impl Links {
    /// Creates the links from a page with this root.
    pub(super) fn new(root: &str, run_id: &str) -> Self {
        Self {
            run: format!("{root}runs/{}", url::segment(run_id)),
        }
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// Returns the page of an event.
    pub(super) fn event(&self, sequence: u64) -> String {
        format!("{}/events/{sequence}", self.run)
    }

    /// Returns the list of events that begins with this one.
    pub(super) fn events_from(&self, sequence: u64) -> String {
        let parameters = Parameters::new()
            .with("view", "events")
            .with("from", sequence.to_string());
        parameters.link(&self.run) + &format!("#e-{sequence}")
    }

    /// Returns the fragment with this name.
    pub(super) fn fragment(&self, name: &str, parameters: &Parameters) -> String {
        parameters.link(&format!("{}/{name}", self.run))
    }
}

/// Returns a link to the runs with this value of a filter.
pub(super) fn filtered(root: &str, name: &str, value: &str, shown: &str) -> Markup {
    let parameters = Parameters::new().with(name, value).with("show", "all");
    maud::html! { a href=(parameters.link(root)) { (format::name(shown)) } }
}
