use runtrail_store::AuditStore;
use runtrail_store::audit::{RunLookup, RunSummary};

use crate::failure::Result;

/// Fewer characters of an id are not shown: a few more runs would make them ambiguous.
const SHORTEST: usize = 8;

/// Cuts ids to what no other run's begins with. Ids of one minute share many characters, so it may be most of them.
pub(crate) async fn shorten_ids(runs: &mut [RunSummary], store: &AuditStore) -> Result<()> {
    let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
    let mut all = store.neighbours_of_run_ids(&ids).await?;
    all.extend(ids);
    all.sort_unstable();
    all.dedup();
    for run in runs {
        // It is there: it is among those that were sorted.
        let Ok(place) = all.binary_search(&run.id) else {
            continue;
        };
        let before = place.checked_sub(1).and_then(|place| all.get(place));
        let beside = before.into_iter().chain(all.get(place + 1));
        let shared = beside.map(|other| shared_characters(&run.id, other)).max();
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
