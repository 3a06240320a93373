use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use runtrail_audit::{ErrorKind, History, RunQuery, RunSummary, SkillRun, SkillRunLog};
use serde_json::{Map, Value};

use crate::error::{Failure, Result};
use crate::url::{self, Parameters};
use crate::{Grant, WebOptions};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) history: Arc<dyn History>,
    pub(crate) options: WebOptions,
}

/// A request, and the part of the history that it may see.
///
/// Handlers read runs and events through it, so that none is shown that the grant excludes.
#[derive(Debug)]
pub(crate) struct Visitor {
    site: Arc<Site>,
    grant: Grant,
    /// The time at which the request arrived.
    pub(crate) now: DateTime<Utc>,
    pub(crate) parameters: Parameters,
    pub(crate) headers: HeaderMap,
    /// The relative path from this page to the list of runs: `./`, `../`, and so on.
    pub(crate) root: String,
    path: Vec<(String, String)>,
}

impl Visitor {
    /// Asks the host what the request may see.
    ///
    /// # Errors
    ///
    /// 403 if the host forbids the request, 404 for a path that isn't UTF-8.
    pub(crate) async fn admit(site: &Arc<Site>, mut parts: Parts) -> Result<Self> {
        let params = RawPathParams::from_request_parts(&mut parts, &()).await;
        let params = params.map_err(|_| Failure::not_found("There is no such page."))?;
        let grant = site.options.access.grant(&parts).await;
        if grant.is_forbidden() {
            return Err(Failure::forbidden());
        }
        let path = params.iter();
        Ok(Self {
            site: Arc::clone(site),
            grant,
            now: site.options.clock.now(),
            parameters: Parameters::parse(parts.uri.query().unwrap_or_default()),
            root: root(parts.uri.path()),
            path: path
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            headers: parts.headers,
        })
    }

    pub(crate) fn history(&self) -> &dyn History {
        &*self.site.history
    }

    /// Returns the time now, which is later than that of the request in a live stream.
    pub(crate) fn current_time(&self) -> DateTime<Utc> {
        self.site.options.clock.now()
    }

    /// Completes when live streams must end.
    pub(crate) fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        self.site.options.shutdown.clone()
    }

    /// Whether the visitor may see inputs, outputs, errors and payloads.
    pub(crate) fn shows_texts(&self) -> bool {
        self.grant.shows_texts()
    }

    /// Whether the visitor may see every run.
    pub(crate) fn sees_all_runs(&self) -> bool {
        self.grant.restriction().permits_all()
    }

    /// Restricts a query to what the visitor may see.
    pub(crate) fn restrict(&self, query: RunQuery) -> RunQuery {
        self.grant.restriction().apply(query)
    }

    /// Returns a parameter of the path. If the path of the host has one with the same name, the
    /// last one is that of the page.
    pub(crate) fn path(&self, name: &str) -> &str {
        let mut named = self.path.iter().rev();
        let value = named.find(|(other, _)| other == name);
        value.map_or("", |(_, value)| value)
    }

    /// Returns the id of the run that the path names.
    pub(crate) fn run_id(&self) -> &str {
        url::run_id(self.path("run"))
    }

    /// Returns the run that the path names.
    ///
    /// # Errors
    ///
    /// 404 if it isn't stored or the visitor may not see it.
    pub(crate) async fn run(&self) -> Result<SkillRun> {
        self.find_run(self.run_id()).await
    }

    /// Returns a run, without texts unless the visitor may see them.
    ///
    /// # Errors
    ///
    /// 404 if it isn't stored or the visitor may not see it.
    pub(crate) async fn find_run(&self, run_id: &str) -> Result<SkillRun> {
        let mut run = match self.history().get_run(run_id).await {
            // No run can have such an id.
            Err(err) if err.kind() == ErrorKind::InvalidInput => {
                return Err(Failure::no_run(run_id));
            }
            run => run?,
        };
        if !self.grant.restriction().permits(&run) {
            return Err(Failure::no_run(run_id));
        }
        if !self.shows_texts() {
            run.inputs = Map::new();
            run.output = String::new();
            run.error = String::new();
        }
        Ok(run)
    }

    /// Leaves out the runs that the visitor may not see.
    ///
    /// A summary has no labels, so with a restriction each run is read.
    pub(crate) async fn retain_visible(&self, runs: Vec<RunSummary>) -> Result<Vec<RunSummary>> {
        if self.sees_all_runs() {
            return Ok(runs);
        }
        let mut visible = Vec::with_capacity(runs.len());
        for run in runs {
            match self.find_run(&run.id).await {
                Ok(_) => visible.push(run),
                Err(err) if err.is_about_the_run() => {}
                Err(err) => return Err(err),
            }
        }
        Ok(visible)
    }

    /// Removes the payload of an event unless the visitor may see it. The event must belong to a
    /// run that the visitor may see.
    pub(crate) fn visible_event(&self, mut event: SkillRunLog) -> SkillRunLog {
        if !self.shows_texts() {
            event.payload = Value::Null;
        }
        event
    }
}

/// Returns the relative path from a page to the list of runs. Relative links are right whatever the
/// path at which a host mounts the page, which the page need not know.
pub(crate) fn root(path: &str) -> String {
    match path.matches('/').count() {
        0 | 1 => "./".to_owned(),
        slashes => "../".repeat(slashes - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::root;

    #[test]
    fn links_lead_from_any_depth_to_the_list_of_runs() {
        for (path, expected) in [
            ("/", "./"),
            ("/statistics", "./"),
            ("/runs/a%2Fb", "../"),
            ("/runs/a/events/1", "../../../"),
        ] {
            assert_eq!(root(path), expected, "{path}");
        }
    }
}
