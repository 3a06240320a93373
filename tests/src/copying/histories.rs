use runtrail_audit::{
    Cursor, Order, PageRequest, PagedStorage, RunQuery, SkillRun, SkillRunLog, Storage,
};
use runtrail_store::AuditStore;
use runtrail_store::copy::{DifferenceKind, HistoryCopy};
use serde_json::json;

use super::{copied, difference, event_of, fill, run};
use crate::fixture::*;

async fn stores(from: &TestDatabase, to: &TestDatabase) -> (AuditStore, AuditStore) {
    (from.store().await, to.store().await)
}

from_each_to_each! {
    async fn everything_is_copied_to_the_byte_and_a_second_time_changes_nothing(from, to) {
        let (source, target) = stores(from, to).await;
        fill(&source).await;
        let (summary, told) = copied(HistoryCopy::new(source.clone(), target.clone()).last()).await;
        assert!(summary.is_complete(), "{summary:?}");
        assert_eq!(told, []);
        assert_eq!((summary.copied.runs.copied, summary.copied.events.copied), (1_100, 3_000));
        let verified = summary.verified.unwrap();
        assert_eq!((verified.runs.same, verified.events.same), (1_100, 3_000));
        assert_eq!(verified.source, verified.target);

        let (again, told) = copied(HistoryCopy::new(source.clone(), target.clone()).last()).await;
        assert!(again.is_complete() && told.is_empty(), "{again:?}");
        assert_eq!((again.copied.runs.copied, again.copied.events.copied), (0, 0));
        assert_eq!((again.copied.runs.same, again.copied.events.same), (1_100, 3_000));
        assert_eq!(again.verified.unwrap().target, verified.source);

        for id in ["r-0", "r-1", "r-2", "r-5"] {
            assert_eq!(target.get_run(id).await.unwrap(), source.get_run(id).await.unwrap());
        }
        let events = source.list_logs_by_run("r-7").await.unwrap();
        assert_eq!(target.list_logs_by_run("r-7").await.unwrap(), events);
        assert_eq!(events.len(), 1_500 + 137);
    }

    async fn a_cursor_of_the_source_goes_on_in_the_target(from, to) {
        let (source, target) = stores(from, to).await;
        for number in 0..10 {
            source.start_run(&running_at(&format!("r-{number}"), number)).await.unwrap();
        }
        let query = RunQuery::default();
        let first = source.page_runs(&query, Order::NewestFirst, &PageRequest::first(4)).await.unwrap();
        copied(HistoryCopy::new(source, target.clone())).await;
        let cursor: Cursor = first.next.unwrap();
        let second = target.page_runs(&query, Order::NewestFirst, &PageRequest::first(4).at(cursor)).await.unwrap();
        assert_eq!(ids(&second.items), ["r-5", "r-4", "r-3", "r-2"]);
    }

    async fn a_further_pass_carries_over_what_was_added_and_finished(from, to) {
        let (source, target) = stores(from, to).await;
        for id in ["a", "b", "c"] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
        }
        let copy = HistoryCopy::new(source.clone(), target.clone());
        copied(copy.clone()).await;
        source.finish_run("b", &stats()).await.unwrap();
        source.append_log(&event("b", 2)).await.unwrap();
        source.start_run(&finished_at("d", 1)).await.unwrap();
        source.append_log(&event("d", 0)).await.unwrap();

        let (behind, told) = copied(copy.clone().last().verified(false)).await;
        assert!(behind.is_complete(), "{behind:?} {told:?}");
        let tallies = (behind.copied.runs, behind.copied.events);
        assert_eq!((tallies.0.same, tallies.0.finished, tallies.0.copied), (2, 1, 1));
        assert_eq!((tallies.1.same, tallies.1.copied), (3, 2));
        for id in ["a", "b", "c", "d"] {
            assert_eq!(target.get_run(id).await.unwrap(), source.get_run(id).await.unwrap());
        }
        assert!(copied(copy.last()).await.0.is_complete());
    }

    async fn what_the_target_has_with_other_content_is_told_and_stays(from, to) {
        let (source, target) = stores(from, to).await;
        for id in ["finished", "finished-there", "other-start", "same", "event"] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
            let run = SkillRun { skill_id: if id == "other-start" { "other".into() } else { running(id).skill_id }, ..running(id) };
            target.start_run(&run).await.unwrap();
        }
        source.finish_run("finished", &stats()).await.unwrap();
        target.finish_run("finished", &finished_at("x", 1).stats()).await.unwrap();
        target.finish_run("finished-there", &stats()).await.unwrap();
        target.append_log(&SkillRunLog { payload: json!("other"), ..event("event", 1) }).await.unwrap();
        target.start_run(&running("only-there")).await.unwrap();
        let before: Vec<SkillRun> = target.list_runs_filtered(&Default::default(), Default::default()).await.unwrap();

        let conflicts = [
            difference(event_of("event", 1), DifferenceKind::Conflict),
            difference(run("finished"), DifferenceKind::Conflict),
            difference(run("finished-there"), DifferenceKind::Conflict),
            difference(run("other-start"), DifferenceKind::Conflict),
        ];
        let (summary, mut told) = copied(HistoryCopy::new(source.clone(), target.clone())).await;
        told.sort_by_key(|difference| difference.to_string());
        assert!(!summary.is_complete());
        assert_eq!(told, conflicts);
        assert_eq!(target.list_runs_filtered(&Default::default(), Default::default()).await.unwrap(), before);
        // Events of another run are not mixed into it.
        assert_eq!(target.list_logs_by_run("finished").await.unwrap(), []);
        assert_eq!(target.list_logs_by_run("same").await.unwrap().len(), 1);
        assert_eq!(target.list_logs_by_run("event").await.unwrap()[0].payload, json!("other"));

        let (summary, told) = copied(HistoryCopy::new(source, target).last()).await;
        assert!(!summary.is_complete());
        assert!(told.contains(&difference(run("only-there"), DifferenceKind::Extra)), "{told:?}");
        assert!(told.contains(&difference(event_of("finished", 1), DifferenceKind::Missing)), "{told:?}");
        assert!(conflicts.iter().all(|conflict| told.contains(conflict)), "{told:?}");
        assert_eq!(told.len(), 4 + 1 + 3);
        assert!(!summary.counts.is_empty());
    }

    async fn as_many_events_need_not_be_the_same_ones(from, to) {
        let (source, target) = stores(from, to).await;
        for (store, sequence) in [(&source, 1), (&target, 2)] {
            store.start_run(&running("r")).await.unwrap();
            store.append_log(&event("r", sequence)).await.unwrap();
        }
        let copy = HistoryCopy::new(source, target.clone());
        let (summary, told) = copied(copy.clone().last()).await;
        assert!(!summary.is_complete());
        assert_eq!(told, [
            difference(event_of("r", 1), DifferenceKind::Missing),
            difference(event_of("r", 2), DifferenceKind::Extra),
        ]);
        let (summary, told) = copied(copy).await;
        assert!(summary.is_complete() && told.is_empty());
        assert_eq!(target.list_logs_by_run("r").await.unwrap().len(), 2);
    }

    async fn an_empty_history_is_the_same_as_an_empty_one(from, to) {
        let (source, target) = stores(from, to).await;
        let (summary, told) = copied(HistoryCopy::new(source.clone(), target.clone()).last()).await;
        assert!(summary.is_complete() && told.is_empty());
        target.start_run(&running("only-there")).await.unwrap();
        let (summary, told) = copied(HistoryCopy::new(source, target).last()).await;
        assert!(!summary.is_complete());
        assert_eq!(told, [difference(run("only-there"), DifferenceKind::Extra)]);
    }
}

/// Rows that somebody else has written.
#[test]
fn what_cannot_be_stored_is_refused_and_keeps_nothing_else_away() {
    on_databases([Backend::Sqlite, Backend::Postgres], async |[from, to]| {
        let (source, target) = stores(from, to).await;
        for id in ["a", "b", "c", "d"] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
        }
        let db = from.connection().await;
        execute(
            &db,
            "UPDATE skill_runs SET output = 'x' || char(0) WHERE id = 'b'",
        )
        .await;
        execute(
            &db,
            "UPDATE skill_runs SET tool_calls = 'many' WHERE id = 'c'",
        )
        .await;
        execute(&db, "PRAGMA foreign_keys = OFF").await;
        let (summary, told) = copied(HistoryCopy::new(source, target.clone())).await;
        assert!(!summary.is_complete());
        let rows: Vec<_> = told
            .iter()
            .map(|difference| difference.row.clone())
            .collect();
        assert_eq!(rows, [run("c"), run("b")]);
        assert!(
            told.iter()
                .all(|it| matches!(it.kind, DifferenceKind::Refused(_))),
            "{told:?}"
        );
        let runs = target
            .list_runs_filtered(&Default::default(), Default::default())
            .await
            .unwrap();
        assert_eq!(ids(&runs), ["d", "a"]);
        assert_eq!(target.list_logs_by_run("d").await.unwrap().len(), 1);
    });
}
