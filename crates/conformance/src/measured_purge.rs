//! The size of a purge.

use runtrail_audit::{PurgeSize, PurgeSummary};

use crate::support::*;

cases! {
    ($) History, measured_purge_cases: measured_purge

    async fn measuring_a_purge_counts_its_runs_and_events_exactly(cx) {
        for (id, second, events) in [("a", 1, 3), ("b", 9, 0), ("at", 10, 5), ("after", 11, 7)] {
            cx.store.start_run(&finished_at(id, second)).await.unwrap();
            let events: Vec<_> = (0..events).map(|sequence| event(id, sequence)).collect();
            cx.store.append_logs(&events).await.unwrap();
        }
        cx.store.start_run(&running("running")).await.unwrap();
        cx.store.append_log(&event("running", 0)).await.unwrap();

        let size = cx.store.measure_purge(at(10)).await.unwrap();
        assert_eq!((size.runs, size.events), (2, 3));
        assert_eq!(
            cx.store.measure_purge(at(1)).await.unwrap(),
            PurgeSize::default()
        );
        assert_eq!(cx.store.purge_older_than(at(10)).await.unwrap(), 2);
        assert_eq!(
            cx.store.measure_purge(at(10)).await.unwrap(),
            PurgeSize::default()
        );
        let size = cx.store.measure_purge(at(12)).await.unwrap();
        assert_eq!((size.runs, size.events), (2, 12));
    }

    async fn a_purge_with_nothing_due_reports_no_batch(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let purged = cx
            .store
            .purge_in_batches(at(2), &|_| panic!("nothing to report"))
            .await
            .unwrap();
        assert_eq!(purged, PurgeSummary::default());
    }
}
