use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use runtrail_audit::{
    Error, ErrorKind, History, RunQuery, RunSummary, SkillRun, SkillRunLog, SubtreeTotals,
};
use serde_json::{Map, Value};

use crate::availability::{self, Availability};
use crate::error::{Failure, Result};
use crate::url::{self, Parameters};
use crate::{Grant, WebOptions};

/// The number of runs that are looked up with one query.
const LOOKED_UP: usize = 1_000;

/// The most runs of a tree that are added up.
const MAX_ADDED_UP: u64 = 1_000;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) history: Arc<dyn History>,
    pub(crate) options: WebOptions,
    pub(crate) availability: Availability,
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

    /// Streams whether the database answers, each time that changes.
    pub(crate) fn availability(&self) -> BoxStream<'static, bool> {
        availability::changes(Arc::clone(&self.site))
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

    /// Returns a run, without texts unless the visitor may see them. With a restriction, it has a
    /// parent only if the visitor may see that.
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
            // What the run is can't be read, so the visitor may not even learn that it is stored.
            Err(err) if err.kind() == ErrorKind::Corrupt && !self.sees_all_runs() => {
                tracing::warn!(%err, "could not show a damaged row");
                return Err(Failure::no_run(run_id));
            }
            run => run?,
        };
        if !self.grant.restriction().permits(&run) {
            return Err(Failure::no_run(run_id));
        }
        self.hide_parents(vec![&mut run.parent_run_id]).await?;
        if !self.shows_texts() {
            run.inputs = Map::new();
            run.output = String::new();
            run.error = String::new();
        }
        Ok(run)
    }

    /// Leaves out the runs that the visitor may not see.
    pub(crate) async fn retain_visible(&self, runs: &mut Vec<RunSummary>) -> Result<()> {
        let restriction = self.grant.restriction();
        runs.retain(|run| restriction.permits_apart_from_labels(run));
        // A summary has no labels.
        if !restriction.labels.is_empty() {
            let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
            let visible = self.visible(&ids).await?;
            runs.retain(|run| visible.contains(&run.id));
        }
        Ok(())
    }

    /// Lists a run and its descendants, newest first. Runs that the visitor may not see, and those
    /// that are only reached through them, are left out, as if the former weren't stored.
    pub(crate) async fn subtree(&self, top: &SkillRun) -> Result<Vec<RunSummary>> {
        let mut runs = self.history().list_subtree(&top.id).await?;
        if self.sees_all_runs() {
            return Ok(runs);
        }
        self.retain_visible(&mut runs).await?;
        let reached = reached_from(&top.id, &runs);
        runs.retain(|run| reached.contains(&run.id));
        for run in runs.iter_mut().filter(|run| run.id == top.id) {
            run.parent_run_id.clone_from(&top.parent_run_id);
        }
        Ok(runs)
    }

    /// Removes the ids of parents that the visitor may not see. Without a restriction, a parent may
    /// also be one that isn't stored.
    pub(crate) async fn hide_parents(&self, parents: Vec<&mut Option<String>>) -> Result<()> {
        if self.sees_all_runs() {
            return Ok(());
        }
        let ids: BTreeSet<_> = parents
            .iter()
            .filter_map(|parent| parent.as_deref())
            .collect();
        let ids: Vec<_> = ids.into_iter().map(str::to_owned).collect();
        let visible = self.visible(&ids).await?;
        for parent in parents {
            parent.take_if(|id| !visible.contains(id.as_str()));
        }
        Ok(())
    }

    /// Returns the totals of each run with its descendants, by its id. Runs that the visitor may
    /// not see don't count.
    pub(crate) async fn subtree_totals(
        &self,
        runs: impl IntoIterator<Item = &RunSummary>,
    ) -> Result<HashMap<String, SubtreeTotals>, Error> {
        let run_ids: Vec<_> = runs.into_iter().map(|run| run.id.clone()).collect();
        let query = self.restrict(RunQuery::new().include_dry_run());
        let totals = self
            .history()
            .subtree_totals(&run_ids, &query, MAX_ADDED_UP)
            .await?;
        let by_id = totals.into_iter().map(|it| (it.run_id.clone(), it));
        Ok(by_id.collect())
    }

    /// Returns those of these ids whose runs are stored and visible.
    async fn visible(&self, ids: &[String]) -> Result<HashSet<String>> {
        let query = self.restrict(RunQuery::new().include_dry_run());
        let mut visible = HashSet::new();
        for ids in ids.chunks(LOOKED_UP) {
            let runs = self.history().find_runs(ids, &query).await?;
            visible.extend(runs.into_iter().map(|run| run.id));
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

/// Returns the ids of the run with this id and its descendants among these runs.
fn reached_from(top: &str, runs: &[RunSummary]) -> HashSet<String> {
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for run in runs {
        if let Some(parent) = &run.parent_run_id {
            children.entry(parent).or_default().push(&run.id);
        }
    }
    let mut reached = HashSet::new();
    let mut next = vec![top];
    while let Some(id) = next.pop() {
        if reached.insert(id.to_owned()) {
            next.extend(children.remove(id).unwrap_or_default());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn runs_below_a_missing_one_are_not_reached() {
        let run = |id: &str, parent: &str| {
            let mut run = RunSummary::new(id, "skill", DateTime::UNIX_EPOCH);
            run.parent_run_id = Some(parent.to_owned());
            run
        };
        let runs = [
            run("top", "last"),
            run("shown", "top"),
            run("below", "missing"),
            run("last", "shown"),
        ];
        let expected = ["top", "shown", "last"].map(str::to_owned);
        assert_eq!(reached_from("top", &runs), HashSet::from(expected));
    }

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
