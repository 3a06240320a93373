//! Times.

use chrono::{DateTime, TimeDelta, Utc};
use runtrail_audit::ErrorKind;

use crate::support::*;

cases! {
    ($) Storage, times_cases: times

    async fn times_are_read_back_to_the_microsecond(cx) {
        let time: DateTime<Utc> = "2026-11-24T12:34:56.123456Z".parse().unwrap();
        let run = with(finished_at("r", 0), |run| {
            run.started_at = time;
            run.finished_at = Some(time + TimeDelta::microseconds(1));
        });
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
    }

    async fn times_are_truncated_to_microseconds(cx) {
        let nanos = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let run = with(finished_at("r", 0), |run| {
            run.started_at = nanos("2026-11-24T12:34:56.123456999Z");
            run.finished_at = Some(nanos("1969-12-31T23:59:59.999999999Z"));
        });
        cx.store.start_run(&run).await.unwrap();
        let event = event("r", 0).created_at(run.started_at);
        cx.store.append_log(&event).await.unwrap();

        let cut = nanos("2026-11-24T12:34:56.123456Z");
        let stored = cx.store.get_run("r").await.unwrap();
        assert_eq!(stored.started_at, cut);
        assert_eq!(
            stored.finished_at,
            Some(nanos("1969-12-31T23:59:59.999999Z"))
        );
        assert_eq!(
            cx.store.list_logs_by_run("r").await.unwrap()[0].created_at,
            Some(cut)
        );
    }

    async fn the_earliest_and_the_latest_time_are_read_back_unchanged(cx) {
        for (id, time) in [
            ("first", DateTime::<Utc>::MIN_UTC),
            ("epoch", DateTime::UNIX_EPOCH),
            ("last", DateTime::<Utc>::MAX_UTC),
        ] {
            let run = with(finished_at(id, 0), |run| {
                run.started_at = time;
                run.finished_at = Some(time);
            });
            cx.store.start_run(&run).await.unwrap();
            let stored = cx.store.get_run(id).await.unwrap();
            assert_eq!(
                stored.started_at.timestamp_micros(),
                time.timestamp_micros()
            );
            assert_eq!(stored.finished_at, Some(stored.started_at));
        }
        assert_eq!(
            cx.store
                .purge_older_than(DateTime::<Utc>::MAX_UTC)
                .await
                .unwrap(),
            2
        );
        assert_kind(cx.store.get_run("first").await, ErrorKind::NotFound);
    }

    async fn times_before_the_epoch_sort_correctly(cx) {
        for second in [-3, 2, -1, 0, 1, -2] {
            let run = with(running(&second.to_string()), |run| {
                run.started_at = DateTime::UNIX_EPOCH + TimeDelta::microseconds(second)
            });
            cx.store.start_run(&run).await.unwrap();
        }
        let runs = cx.store.list_runs_by_skill("skill", None).await.unwrap();
        assert_eq!(ids(&runs), ["2", "1", "0", "-1", "-2", "-3"]);
    }
}
