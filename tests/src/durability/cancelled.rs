use runtrail_audit::{BulkStorage, ErrorKind, RunFilter, Storage};
use runtrail_store::AuditStore;

use crate::fixture::*;

on_each_backend! {
    /// Some of the dropped writes have landed and some have not: that can't be known, and need not be.
    async fn a_cancelled_write_can_be_repeated_and_is_there_once(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let mut cancelled = 0;
        for number in 0..150_u32 {
            let id = number.to_string();
            let (run, event, stats) = (running(&id), event(&id, 0), stats());
            let polls = number % 12;
            cancelled += u32::from(poll_some(store.start_run(&run), polls).await.is_none());
            store.start_run(&run).await.unwrap();
            cancelled += u32::from(poll_some(store.append_log(&event), polls).await.is_none());
            store.append_log(&event).await.unwrap();
            let many = [1, 2, 3].map(|sequence| crate::fixture::event(&id, sequence));
            cancelled += u32::from(poll_some(store.append_logs(&many), polls).await.is_none());
            store.append_logs(&many).await.unwrap();
            cancelled += u32::from(poll_some(store.finish_run(&id, &stats), polls).await.is_none());
            store.finish_run(&id, &stats).await.unwrap();
        }
        assert!(cancelled >= 40, "only {cancelled} were cancelled");

        // Seen by somebody else, so that no open transaction of ours can pretend.
        let db = database.connection().await;
        assert_eq!(count(&db, "skill_runs WHERE finished_at IS NOT NULL").await, 150);
        assert_eq!(count(&db, "skill_run_logs").await, 4 * 150);
    }

    async fn cancelled_calls_poison_no_connection(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let cancel = async |worker: u32| {
            for number in 0..40_u32 {
                let run = running(&format!("{worker}-{number}"));
                poll_some(store.start_run(&run), number % 5).await;
                poll_some(store.list_runs_by_skill("skill", None), number % 7).await;
            }
        };
        futures_util::future::join_all((0..8).map(cancel)).await;
        for number in 0..50 {
            store.start_run(&running(&format!("after {number}"))).await.unwrap();
        }
        let db = database.connection().await;
        assert_eq!(count(&db, "skill_runs WHERE id LIKE 'after%'").await, 50);
        store.close().await.unwrap();
        assert_eq!(count(&db, "skill_runs WHERE id LIKE 'after%'").await, 50);
    }

    async fn a_cancelled_purge_completes_when_it_is_repeated(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let db = database.connection().await;
        for number in 0..1_000 {
            let run = finished_at(&number.to_string(), number);
            store.start_run(&run).await.unwrap();
            store.append_log(&event(&run.id, 0)).await.unwrap();
        }
        store.start_run(&finished_at("kept", 5_000)).await.unwrap();
        store.append_log(&event("kept", 0)).await.unwrap();

        let mut seen_half_way = false;
        for polls in (1..).step_by(3) {
            let done = poll_some(store.purge_older_than(at(2_000)), polls).await;
            assert_eq!(count(&db, ORPHANS).await, 0);
            let left = count(&db, "skill_runs").await;
            seen_half_way |= left > 1 && left < 1_001;
            if done.is_some() {
                break;
            }
        }
        assert!(seen_half_way, "every batch commits by itself");
        let left = store.list_runs_filtered(&RunFilter::new(), Default::default()).await.unwrap();
        assert_eq!(ids(&left), ["kept"]);
        assert_eq!(count(&db, "skill_run_logs").await, 1);
    }

    /// Writers, a purge and cancellations at once.
    async fn a_purge_beside_writers_leaves_no_orphan(database) {
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let write = async |worker: u32| {
            for number in 0..60_u64 {
                let run = finished_at(&format!("{worker}-{number}"), 1);
                store.start_run(&run).await.unwrap();
                for sequence in 0..3 {
                    // Purged meanwhile, perhaps, but nothing else.
                    if let Err(err) = store.append_log(&event(&run.id, sequence)).await {
                        assert_eq!(err.kind(), ErrorKind::NotFound, "{err:?}");
                    }
                }
            }
        };
        let purge = async {
            for polls in 0..60_u32 {
                poll_some(store.purge_older_than(at(2)), polls * 5).await;
            }
        };
        futures_util::future::join(futures_util::future::join_all((0..4).map(write)), purge).await;
        store.purge_older_than(at(2)).await.unwrap();
        let db = database.connection().await;
        assert_eq!(count(&db, ORPHANS).await, 0);
        assert_eq!(count(&db, "skill_runs").await, 0);
    }
}

pub(super) const ORPHANS: &str = "skill_run_logs WHERE run_id NOT IN (SELECT id FROM skill_runs)";
