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
            assert_corrupt(cx.store.get_run("damaged").await, ("skill_runs", "damaged", column));
            cx.sql("DELETE FROM skill_runs").await;
        }
    }

    async fn a_damaged_run_hides_no_other(cx) {
        for (change, _) in DAMAGES {
            damage(cx, change).await;
            let undamaged = ["last", "first"];
            assert_eq!(ids(&cx.store.list_runs_by_skill("skill", None).await.unwrap()), undamaged, "{change}");
            assert_eq!(ids(&cx.store.list_runs_by_skill_paginated("skill", Page::ALL, true).await.unwrap()), undamaged);
            assert_eq!(ids(&cx.store.list_runs_by_caller("caller", None).await.unwrap()), undamaged);
            assert_eq!(ids(&cx.store.list_runs_filtered(&RunFilter::new(), Page::ALL).await.unwrap()), undamaged);
            assert_eq!(ids(&cx.store.list_finished_runs_before(at(11), None).await.unwrap()), undamaged);
            assert_eq!(ids(&cx.store.list_children_by_parent("damaged").await.unwrap()), ["last"]);
            assert_eq!(ids(&cx.store.walk_parent_chain("last").await.unwrap()), undamaged);
            cx.sql("DELETE FROM skill_runs").await;
        }
    }

    async fn a_damaged_run_is_reported(cx) {
        damage(cx, "inputs = 'no JSON'").await;
        let (reports, _guard) = Reports::capture();
        cx.store.list_runs_by_skill("skill", None).await.unwrap();
        let text = reports.text();
        for part in ["WARN", "table=\"skill_runs\"", "id=\"damaged\"", "column=\"inputs\""] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    async fn starting_a_damaged_run_again_is_refused(cx) {
        damage(cx, "inputs = 'no JSON'").await;
        let run = with(finished_at("damaged", 10), |run| run.started_at = at(2));
        assert!(cx.store.start_run(&run).await.is_err());
        let inputs: Vec<String> = fetch(cx.db, "SELECT inputs FROM skill_runs WHERE id = 'damaged'").await;
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
            cx.sql(&format!("UPDATE skill_run_logs SET {change} WHERE sequence = 1")).await;
            let (reports, _guard) = Reports::capture();
            let stored = cx.store.list_logs_by_run("r").await.unwrap();
            let sequences: Vec<_> = stored.iter().map(|event| event.sequence).collect();
            assert_eq!(sequences, [0, 2]);
            let text = reports.text();
            assert!(text.contains("table=\"skill_run_logs\" id=\"r/1\""), "{text}");
        }
    }

    async fn an_event_conflicts_with_its_damaged_row(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.append_log(&event("r", 0)).await.unwrap();
        cx.sql("UPDATE skill_run_logs SET payload = '{'").await;
        assert_kind(cx.store.append_log(&event("r", 0)).await, ErrorKind::Conflict);
    }

    async fn a_damaged_run_hides_no_last_run(cx) {
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
