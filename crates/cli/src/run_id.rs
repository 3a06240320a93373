//! Names of runs on the command line.

use clap::Args;
use runtrail::{
    AuditStore, Error, ListOrder, PageRequest, PagedStorage, RunLookup, RunQuery, RunStatus,
    RunSummary, rules,
};

use crate::failure::{Failure, Result};

/// The argument of every command that is about one run.
#[derive(Args)]
pub(crate) struct RunId {
    /// Id of the run, or as much of its beginning as no other has; @last for the newest run, @last-failed for the newest
    /// with the status error or timeout, @last:SKILL and @last-failed:SKILL for those of a skill.
    ///
    /// An id that a table has cut in the middle is found too: HEAD…TAIL, or HEAD...TAIL. Dry runs are never the last one.
    #[arg(value_name = "ID")]
    given: String,
}

/// How many candidates to list for an ambiguous id.
const CANDIDATES: u64 = 5;

impl RunId {
    /// The full id. An exact match takes precedence over longer ids with the same beginning.
    pub(crate) async fn resolve(&self, store: &AuditStore) -> Result<String> {
        let given = rules::run_id("id", &self.given)?;
        let more_than_listed = CANDIDATES + 1;
        let found = store.find_run_ids(given, "", more_than_listed).await?;
        match &*found {
            // In byte order the shortest comes first.
            [first, ..] if first == given => return Ok(given.to_owned()),
            [only] => return Ok(only.clone()),
            [] => {}
            several => return Err(ambiguous(given, several)),
        }
        if let Some(name) = given.strip_prefix('@') {
            return last(store, name, given).await;
        }
        if let Some((head, tail)) = given.split_once('…').or_else(|| given.split_once("...")) {
            match &*store.find_run_ids(head, tail, more_than_listed).await? {
                [only] => return Ok(only.clone()),
                [] => {}
                several => return Err(ambiguous(given, several)),
            }
        }
        Err(unknown(store, given).await?)
    }
}

fn ambiguous(given: &str, found: &[String]) -> Failure {
    let listed = CANDIDATES as usize;
    let mut candidates: Vec<_> = found.iter().take(listed).map(String::as_str).collect();
    if found.len() > listed {
        candidates.push("…");
    }
    Failure::failed(format!(
        "several runs have ids that begin with {given:?}: {}; give more of it",
        candidates.join(", ")
    ))
}

/// `@last`, `@last-failed`, and both with a skill.
async fn last(store: &AuditStore, name: &str, given: &str) -> Result<String> {
    let (kind, skill) = match name.split_once(':') {
        Some((kind, skill)) => (kind, Some(skill)),
        None => (name, None),
    };
    let of_skill = || match skill {
        Some(skill) => RunQuery::new().skills([skill]),
        None => RunQuery::new(),
    };
    let queries = match kind {
        "last" => vec![of_skill()],
        // One query for each status, since an index finds the newest run of a single status.
        "last-failed" => [RunStatus::ERROR, RunStatus::TIMEOUT]
            .map(|status| of_skill().statuses([status]))
            .into(),
        _ => {
            return Err(Failure::usage(format!(
                "{given:?} is neither an id nor one of @last, @last-failed, @last:SKILL, @last-failed:SKILL"
            )));
        }
    };
    let mut newest: Option<RunSummary> = None;
    for query in queries {
        let found = newest_of(store, &query).await?;
        let key = |run: &RunSummary| (run.started_at, run.id.clone());
        newest = newest.into_iter().chain(found).max_by_key(key);
    }
    match newest {
        Some(run) => Ok(run.id),
        None => Err(Failure::NoneYet {
            given: given.to_owned(),
        }),
    }
}

/// The first run that can be read.
async fn newest_of(store: &AuditStore, query: &RunQuery) -> Result<Option<RunSummary>> {
    let mut request = PageRequest::first(1);
    loop {
        let page = store
            .page_run_summaries(query, ListOrder::NewestFirst, &request)
            .await?;
        let newest = page.items.into_iter().next();
        match page.next {
            Some(next) if newest.is_none() => request = PageRequest::first(1).at(next),
            _ => return Ok(newest),
        }
    }
}

/// The failure for an unknown id; suggests the ids that share the longest beginning with it.
async fn unknown(store: &AuditStore, given: &str) -> Result<Failure> {
    /// Fewer shared characters suggest nothing.
    const LEAST: usize = 4;

    let lower = given.to_lowercase();
    let mut similar = store.find_run_ids(&lower, "", CANDIDATES).await?;
    let ends: Vec<usize> = given.char_indices().map(|(place, _)| place).collect();
    // The longest beginning that matches an id lies between these two.
    let (mut found, mut too_long) = (LEAST.min(ends.len()), ends.len());
    while similar.is_empty() && found < too_long {
        let middle = found.midpoint(too_long);
        let ids = store
            .find_run_ids(&given[..ends[middle]], "", CANDIDATES)
            .await?;
        match ids.is_empty() {
            true => too_long = middle,
            false if too_long - middle <= 1 => similar = ids,
            false => found = middle,
        }
    }
    Ok(Failure::NoSuchRun {
        missing: Error::not_found(given),
        similar,
    })
}
