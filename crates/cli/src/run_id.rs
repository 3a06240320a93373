//! How the command line names a run.

use clap::Args;
use runtrail::{
    AuditStore, Error, ListOrder, PageRequest, PagedStorage, RunLookup, RunQuery, RunStatus,
    RunSummary, rules,
};

use crate::failure::{Failure, Result};

/// The argument of every command that works on one run.
#[derive(Args)]
pub(crate) struct RunId {
    /// Id of the run, or an unambiguous beginning of it; @last for the newest run, @last-failed for
    /// the newest run with the status error or timeout, @last:SKILL and @last-failed:SKILL for
    /// those of one skill.
    ///
    /// An id that a table has cut in the middle is accepted too: HEAD…TAIL, or HEAD...TAIL. @last
    /// and @last-failed ignore dry runs.
    #[arg(value_name = "ID")]
    given: String,
}

/// How many candidates to list for an ambiguous id.
const CANDIDATES: u64 = 5;

impl RunId {
    /// Returns the full id. An exact match takes precedence over longer ids with the same
    /// beginning.
    pub(crate) async fn resolve(&self, store: &AuditStore) -> Result<String> {
        let given = rules::run_id("id", &self.given)?;
        let one_more = CANDIDATES + 1;
        let found = store.find_run_ids(given, "", one_more).await?;
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
            match &*store.find_run_ids(head, tail, one_more).await? {
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
        "the id {given:?} is ambiguous: it matches {}; give more characters",
        candidates.join(", ")
    ))
}

/// Resolves `@last` and `@last-failed`, with or without a skill.
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
        // One query per status: an index finds the newest run of a single status.
        "last-failed" => [RunStatus::ERROR, RunStatus::TIMEOUT]
            .map(|status| of_skill().statuses([status]))
            .into(),
        _ => {
            return Err(Failure::usage(format!(
                "{given:?} is neither the id of a run nor one of @last, @last-failed, \
                @last:SKILL, @last-failed:SKILL"
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

/// Returns the newest run, skipping damaged rows.
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

/// Returns the failure for an unknown id. It suggests the ids that share the longest beginning with
/// it.
async fn unknown(store: &AuditStore, given: &str) -> Result<Failure> {
    /// Ids that share fewer characters are not suggested.
    const MIN_SHARED: usize = 4;

    let lower = given.to_lowercase();
    let mut similar = store.find_run_ids(&lower, "", CANDIDATES).await?;
    let starts: Vec<usize> = given.char_indices().map(|(start, _)| start).collect();
    // Binary search: the longest beginning that matches an id has at least `found` characters, and
    // fewer than `too_long`.
    let (mut found, mut too_long) = (MIN_SHARED.min(starts.len()), starts.len());
    while similar.is_empty() && found < too_long {
        let middle = found.midpoint(too_long);
        let ids = store
            .find_run_ids(&given[..starts[middle]], "", CANDIDATES)
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
