use std::collections::HashMap;

use runtrail_audit::{ErrorKind, Page, RunFilter, Storage};

use crate::fixture::*;

/// Stores three finished runs, each the parent of the next, and damages the second one.
async fn damage(cx: &Cx<'_, impl Storage + ?Sized>, change: &str) {
    for (id, second, parent) in [
        ("first", 1, None),
        ("damaged", 2, Some("first")),
        ("last", 3, Some("damaged")),
    ] {
        let run = with(finished_at(id, 10), |run| {
            run.started_at = at(second);
            run.parent_run_id = parent.map(Into::into);
        });
        cx.store.start_run(&run).await.unwrap();
    }
    cx.sql(&format!(
        "UPDATE skill_runs SET {change} WHERE id = 'damaged'"
    ))
    .await;
}

async fn assert_last_run_is_undamaged(cx: &Cx<'_, impl Storage + ?Sized>, damage: &str) {
    let last_runs = cx
        .store
        .last_run_by_skills(&["skill".into()], true)
        .await
        .unwrap();
    assert_eq!(
        last_runs,
        HashMap::from([("skill".into(), at(3))]),
        "{damage}"
    );
}

/// Changes that make a run unreadable on either backend, and the column that the error names.
const DAMAGES: [(&str, &str); 7] = [
    ("inputs = '{\"cut off'", "inputs"),
    ("inputs = '[1]'", "inputs"),
    ("tool_calls = -1", "tool_calls"),
    ("total_input_tokens = -1", "total_input_tokens"),
    ("runtime_seconds = -1", "runtime_seconds"),
    ("started_at = 9223372036854775807", "started_at"),
    ("finished_at = -9223372036854775808", "finished_at"),
];

cases_on_own_connection! {
    async fn a_damaged_run_is_corrupt(cx) {
        for (change, column) in DAMAGES {
            damage(cx, change).await;
            assert_corrupt(
                cx.store.get_run("damaged").await,
                ("skill_runs", "damaged", column),
            );
            cx.sql("DELETE FROM skill_runs").await;
        }
    }

    async fn a_damaged_run_hides_no_other(cx) {
        for (change, _) in DAMAGES {
            damage(cx, change).await;
            let undamaged = ["last", "first"];
            assert_eq!(
                ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()),
                undamaged,
                "{change}"
            );
            assert_eq!(
                ids(&cx
                    .store
                    .list_runs_by_skill_paginated("skill", Page::ALL, true)
                    .await
                    .unwrap()),
                undamaged
            );
            assert_eq!(
                ids(&cx.store.list_runs_by_caller("caller", None).await.unwrap()),
                undamaged
            );
            assert_eq!(
                ids(&cx
                    .store
                    .list_runs_filtered(&RunFilter::new(), Page::ALL)
                    .await
                    .unwrap()),
                undamaged
            );
            assert_eq!(
                ids(&cx
                    .store
                    .list_finished_runs_before(at(11), None)
                    .await
                    .unwrap()),
                undamaged
            );
            assert_eq!(
                ids(&cx.store.list_children_by_parent("damaged").await.unwrap()),
                ["last"]
            );
            assert_eq!(
                ids(&cx.store.walk_parent_chain("last").await.unwrap()),
                undamaged
            );
            cx.sql("DELETE FROM skill_runs").await;
        }
    }

    async fn a_damaged_run_is_reported(cx) {
        damage(cx, "inputs = 'no JSON'").await;
        let (reports, _guard) = Reports::capture();
        cx.store.list_runs_by_skill("skill", None).await.unwrap();
        let text = reports.text();
        for part in [
            "WARN",
            "table=\"skill_runs\"",
            "id=\"damaged\"",
            "column=\"inputs\"",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    async fn starting_a_damaged_run_again_is_refused(cx) {
        damage(cx, "inputs = 'no JSON'").await;
        let run = with(finished_at("damaged", 10), |run| run.started_at = at(2));
        assert!(cx.store.start_run(&run).await.is_err());
        let inputs: Vec<String> =
            fetch(cx.db, "SELECT inputs FROM skill_runs WHERE id = 'damaged'").await;
        assert_eq!(inputs, ["no JSON"]);
    }

    async fn a_damaged_run_is_purged(cx) {
        damage(cx, "inputs = 'no JSON'").await;
        assert_eq!(cx.store.purge_older_than(at(11)).await.unwrap(), 3);
    }

    async fn a_damaged_event_hides_no_other_and_is_reported(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for sequence in 0..3 {
            cx.store.append_log(&event("r", sequence)).await.unwrap();
        }
        for change in ["payload = '{'", "created_at = 9223372036854775807"] {
            cx.sql(&format!(
                "UPDATE skill_run_logs SET {change} WHERE sequence = 1"
            ))
            .await;
            let (reports, _guard) = Reports::capture();
            let stored = cx.store.list_logs_by_run("r").await.unwrap();
            let sequences: Vec<_> = stored.iter().map(|event| event.sequence).collect();
            assert_eq!(sequences, [0, 2]);
            let text = reports.text();
            assert!(
                text.contains("table=\"skill_run_logs\" id=\"r/1\""),
                "{text}"
            );
        }
    }

    async fn an_event_conflicts_with_its_damaged_row(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        cx.sql("UPDATE skill_run_logs SET payload = '{'").await;
        assert_kind(
            cx.store.append_log(&event("r", 0)).await,
            ErrorKind::Conflict,
        );
    }

    async fn a_damaged_run_does_not_hide_the_last_run(cx) {
        for (change, _) in DAMAGES {
            damage(cx, change).await;
            assert_last_run_is_undamaged(cx, change).await;
            cx.sql("DELETE FROM skill_runs").await;
        }
    }
}

/// Only SQLite accepts values of any type in any column.
mod types {
    use super::*;
    use crate::fixture::Backend;

    #[test]
    fn a_text_where_a_number_belongs_hides_no_other() {
        run_on_own_store(Backend::Sqlite, async |cx| {
            for column in [
                "tool_calls",
                "started_at",
                "finished_at",
                "runtime_seconds",
                "total_output_tokens",
            ] {
                damage(cx, &format!("{column} = 'yesterday'")).await;
                let expected = ("skill_runs", "damaged", column);
                assert_corrupt(cx.store.get_run("damaged").await, expected);
                assert_eq!(
                    ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()),
                    ["last", "first"]
                );
                assert_eq!(
                    ids(&cx.store.walk_parent_chain("last").await.unwrap()),
                    ["last", "first"]
                );
                assert_last_run_is_undamaged(cx, column).await;
                cx.sql("DELETE FROM skill_runs").await;
            }
        });
    }

    #[test]
    fn a_fraction_where_a_time_belongs_hides_no_other() {
        run_on_own_store(Backend::Sqlite, async |cx| {
            for column in ["started_at", "finished_at"] {
                damage(cx, &format!("{column} = 1e15 + 0.5")).await;
                let expected = ("skill_runs", "damaged", column);
                assert_corrupt(cx.store.get_run("damaged").await, expected);
                assert_last_run_is_undamaged(cx, column).await;
                assert!(
                    cx.store.purge_older_than(at(11)).await.unwrap() >= 2,
                    "{column}"
                );
                assert_kind(cx.store.get_run("first").await, ErrorKind::NotFound);
                cx.sql("DELETE FROM skill_runs").await;
            }
        });
    }

    #[test]
    fn an_id_that_is_not_utf8_does_not_stop_a_purge() {
        run_on_own_store(Backend::Sqlite, async |cx| {
            damage(cx, "id = CAST(X'FF' AS TEXT), finished_at = 1").await;
            assert_eq!(cx.store.purge_older_than(at(11)).await.unwrap(), 2);
            assert_eq!(cx.store.purge_older_than(at(11)).await.unwrap(), 0);
        });
    }
}

mod pages {
    use runtrail_audit::{ListOrder, PagedStorage, RunQuery};
    use runtrail_conformance::pages::{ORDERS, all_pages};

    use super::*;

    #[test]
    fn a_damaged_row_ends_no_page_and_hides_no_other() {
        run_on_own_store(Backend::Sqlite, async |cx| {
            for number in 0..9 {
                cx.store
                    .start_run(&running_at(&format!("r-{number}"), number))
                    .await
                    .unwrap();
            }
            // The last run of a page of three, so that the next page starts after its key.
            cx.sql("UPDATE skill_runs SET started_at = 'a while ago' WHERE id = 'r-4'")
                .await;
            cx.sql("UPDATE skill_runs SET tool_calls = x'00ff' WHERE id = 'r-2'")
                .await;
            for order in ORDERS {
                let mut expected = vec!["r-0", "r-1", "r-3", "r-5", "r-6", "r-7", "r-8"];
                if order == ListOrder::NewestFirst {
                    expected.reverse();
                }
                for limit in 1..5 {
                    assert_eq!(
                        ids(&all_pages(cx.store, &RunQuery::new(), order, limit).await),
                        expected
                    );
                }
            }
        });
    }

    #[test]
    fn a_damaged_parent_counts_as_stored() {
        run_on_own_store(Backend::Sqlite, async |cx| {
            for run in [
                running("top"),
                child("of a damaged one", "top"),
                child("of a missing one", "missing"),
                child("damaged", "top"),
            ] {
                cx.store.start_run(&run).await.unwrap();
            }
            cx.sql(
                "UPDATE skill_runs SET started_at = 'a while ago', tool_calls = x'00ff' WHERE \
                id = 'top'",
            )
            .await;
            cx.sql("UPDATE skill_runs SET parent_run_id = x'00ff' WHERE id = 'damaged'")
                .await;
            let query = RunQuery::new().without_stored_parent();
            let readable = all_pages(cx.store, &query, ListOrder::NewestFirst, 1).await;
            assert_eq!(ids(&readable), ["of a missing one"]);
            // Both damaged runs are counted, as in every count.
            assert_eq!(cx.store.count_runs_by_query(&query).await.unwrap(), 3);
        });
    }
}

mod streams {
    use futures_util::StreamExt;
    use runtrail_audit::{BulkStorage, ListOrder, LogFilter};
    use runtrail_conformance::streams::{damaged, many_runs};

    use super::*;

    cases_of_the_store! {
        async fn damaged_runs_are_error_items_and_hide_no_other(cx) {
            many_runs(cx.store).await;
            // Damages all rows of some of the stream's queries, and the last row of others.
            cx.sql(
                "UPDATE skill_runs SET inputs = '{' WHERE id < 'run-060' OR id IN ('run-100', \
                'run-129')",
            )
            .await;
            for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
                let filter = RunFilter::new().include_dry_run();
                let items: Vec<_> = cx
                    .store
                    .stream_runs(&filter, order, Page::ALL)
                    .collect()
                    .await;
                assert_eq!(items.len(), 130);
                assert_eq!(damaged(&items).len(), 62);
                assert!(
                    damaged(&items)
                        .iter()
                        .all(|err| err.kind() == ErrorKind::Corrupt)
                );
            }
        }

        async fn damaged_events_are_error_items_and_hide_no_other(cx) {
            cx.store.start_run(&running("r")).await.unwrap();
            let written: Vec<_> = (0..250).map(|number| event("r", number)).collect();
            cx.store.append_logs(&written).await.unwrap();
            cx.sql("UPDATE skill_run_logs SET payload = 'no' WHERE sequence BETWEEN 90 AND 219")
                .await;
            let stream = cx
                .store
                .stream_logs("r", &LogFilter::new(), ListOrder::OldestFirst);
            let items: Vec<_> = stream.collect().await;
            assert_eq!(items.len(), 250);
            assert_eq!(damaged(&items).len(), 130);
        }
    }

    /// Only SQLite stores a text, a fraction or bytes in a column of integers.
    #[test]
    fn sort_keys_of_the_wrong_type_hide_no_other_run() {
        run_on_own_store(Backend::Sqlite, async |cx| {
            many_runs(cx.store).await;
            for (value, ids) in [
                ("'yesterday'", "id BETWEEN 'run-010' AND 'run-049'"),
                ("started_at + 0.5", "id BETWEEN 'run-050' AND 'run-089'"),
                ("x'00ff'", "id BETWEEN 'run-090' AND 'run-119'"),
            ] {
                cx.sql(&format!(
                    "UPDATE skill_runs SET started_at = {value} WHERE {ids}"
                ))
                .await;
            }
            for order in [ListOrder::NewestFirst, ListOrder::OldestFirst] {
                let filter = RunFilter::new().include_dry_run();
                let stream = cx.store.stream_runs(&filter, order, Page::ALL);
                let items: Vec<_> = stream.collect().await;
                assert_eq!(items.len(), 130);
                assert_eq!(damaged(&items).len(), 110);
            }
        });
    }
}

mod trees {
    use runtrail_audit::RunTree;

    use super::*;

    cases_of_the_store! {
        async fn a_damaged_run_does_not_hide_its_descendants(cx) {
            for run in [
                running("top"),
                child("damaged", "top"),
                child("below", "damaged"),
            ] {
                cx.store.start_run(&run).await.unwrap();
            }
            cx.sql("UPDATE skill_runs SET tool_calls = -1 WHERE id = 'damaged'")
                .await;
            let mut runs = cx.store.list_subtree("top").await.unwrap();
            runs.sort_by(|left, right| left.id.cmp(&right.id));
            let ids: Vec<_> = runs.iter().map(|run| run.id.as_str()).collect();
            assert_eq!(ids, ["below", "top"]);
        }
    }
}
