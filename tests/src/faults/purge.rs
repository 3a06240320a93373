use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runtrail_audit::{ErrorKind, Page, RunFilter, Storage};

use super::counts;
use super::ledger::Ledger;
use super::script::{EVENTS, Script, Write, event};
use super::sql_client::{History, assert_no_orphans, count};
use super::writer::{Writer, store_for_many_tasks};

on_each_backend! {
    /// Each of sixteen tasks starts a run that never finishes, writes and finishes others, and
    /// lists runs and events.
    async fn a_purge_alongside_writers_deletes_only_due_runs(database) {
        let url = database.url();
        let store = store_for_many_tasks(database).await;
        let ledger = Ledger::temporary();
        let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
        let time = Duration::from_secs(counts::purge_seconds());

        let write = async |task: u64| {
            let writer = Writer {
                store: &store,
                ledger: &ledger,
            };
            let unfinished = Script::for_run(&format!("running-{task}"));
            unfinished.write(&store, Write::Start).await.unwrap();
            let mut written = 0;
            while begun.elapsed() < time {
                // Repeats the event while finished runs of the same age are purged.
                unfinished.write(&store, Write::AppendLog).await.unwrap();
                let id = format!("{task}-{written}");
                writer.write(&id).await;
                // The purge may delete the run at the same time.
                if let Err(err) = store.append_log(&event(&id, EVENTS)).await {
                    assert_eq!(err.kind(), ErrorKind::NotFound, "{err:?}");
                }
                let listed = store
                    .list_runs_filtered(&RunFilter::new(), Page::first(20))
                    .await
                    .unwrap();
                assert!(!listed.is_empty());
                store.list_logs_by_run(&unfinished.run.id).await.unwrap();
                store.count_runs_filtered(&RunFilter::new()).await.unwrap();
                written += 1;
            }
            written
        };
        let writers = async {
            let written: u64 = futures_util::future::join_all((0..16).map(write))
                .await
                .into_iter()
                .sum();
            is_over.store(true, Ordering::Relaxed);
            written
        };
        let purge = async {
            let mut purged = 0;
            while !is_over.load(Ordering::Relaxed) {
                purged += store.purge_older_than(store.now()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            purged
        };
        let (written, purged) = futures_util::future::join(writers, purge).await;

        ledger.entries().assert_no_failure();
        assert_no_orphans(&url);
        assert_eq!(count(&url, "skill_runs WHERE finished_at IS NULL"), 16);
        assert!(purged > 0);
        let left = purged + count(&url, "skill_runs WHERE finished_at IS NOT NULL");
        assert_eq!(left, written, "every run is stored or purged");
        History::read(&url).assert_is_whole();
        eprintln!(
            "{} s of purging on {:?}: {written} runs written, {purged} purged",
            time.as_secs(),
            database.backend()
        );
    }
}
