use runtrail::{AuditStore, RunLookup, RunSummary};

use crate::failure::Result;

/// The fewest characters of an id to show. A shorter id would soon become ambiguous.
const SHORTEST: usize = 8;

/// Cuts ids to an unambiguous beginning. Ids from the same minute share many characters, so they
/// stay long.
pub(crate) async fn shorten_ids(runs: &mut [RunSummary], store: &AuditStore) -> Result<()> {
    let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
    let mut all = store.adjacent_run_ids(&ids).await?;
    all.extend(ids);
    all.sort_unstable();
    all.dedup();
    for run in runs {
        // The sorted list contains every id.
        let Ok(place) = all.binary_search(&run.id) else {
            continue;
        };
        let before = place.checked_sub(1).and_then(|place| all.get(place));
        let neighbours = before.into_iter().chain(all.get(place + 1));
        let shared = neighbours
            .map(|other| shared_characters(&run.id, other))
            .max();
        let shown = (shared.unwrap_or(0) + 1).max(SHORTEST);
        if let Some((end, _)) = run.id.char_indices().nth(shown) {
            run.id.truncate(end);
        }
    }
    Ok(())
}

fn shared_characters(one: &str, other: &str) -> usize {
    let pairs = one.chars().zip(other.chars());
    pairs.take_while(|(one, other)| one == other).count()
}
