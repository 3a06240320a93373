use std::time::Duration;

use runtrail_audit::{
    Amount, Budget, BudgetPeriod, BudgetScope, Budgets, Cursor, ErrorKind, ListOrder, Owner,
    Ownership, PageRequest, PagedStorage, ReservationRequest, RunLabels, RunQuery, SkillRun,
    Spending, Storage,
};
use runtrail_copy::{DifferenceKind, HistoryCopy, Notice, RowKey};
use runtrail_migration::SchemaName;
use runtrail_store::AuditStore;
use serde_json::json;

use super::{
    difference, event_key, fill, run_copy, run_copy_with, run_key, write_from_another_program,
};
use crate::fixture::*;

async fn stores(from: &TestDatabase, to: &TestDatabase) -> (AuditStore, AuditStore) {
    (from.store().await, to.store().await)
}

fn tokens(name: &str, limit: u64) -> Budget {
    let window = BudgetPeriod::Window(Duration::from_secs(24 * 60 * 60));
    Budget::new(name, Amount::Tokens(limit), window)
}

async fn reserve(store: &AuditStore, id: &str, tokens: u64) -> runtrail_audit::Result<()> {
    let request = ReservationRequest::new(id, Spending::new().tokens(tokens)).caller("alice");
    store.reserve(&request).await
}

async fn settle(store: &AuditStore, id: &str, tokens: u64) {
    let actual = Spending::new().tokens(tokens).cost_micros(7);
    store.settle_reservation(id, &actual).await.unwrap();
}

/// What a budget has used and reserved.
async fn counted(store: &AuditStore, name: &str) -> [u64; 2] {
    let status = store.find_budget(name).await.unwrap().unwrap();
    [status.used, status.reserved]
}

fn budget_difference(name: &str, kind: DifferenceKind) -> runtrail_copy::Difference {
    difference(RowKey::Budget { name: name.into() }, kind)
}

on_each_pair! {
    async fn everything_is_copied_to_the_byte_and_a_repetition_changes_nothing(from, to) {
        let (source, target) = stores(from, to).await;
        fill(&source).await;
        let (summary, differences) =
            run_copy(HistoryCopy::new(source.clone(), target.clone()).last()).await;
        assert!(summary.is_complete(), "{summary:?}");
        assert_eq!(differences, []);
        assert_eq!(
            (summary.copied.runs.copied, summary.copied.events.copied),
            (1_100, 3_000)
        );
        let verified = summary.verified.unwrap();
        assert_eq!((verified.runs.same, verified.events.same), (1_100, 3_000));
        assert_eq!(verified.source, verified.target);

        let (again, differences) =
            run_copy(HistoryCopy::new(source.clone(), target.clone()).last()).await;
        assert!(again.is_complete() && differences.is_empty(), "{again:?}");
        assert_eq!(
            (again.copied.runs.copied, again.copied.events.copied),
            (0, 0)
        );
        assert_eq!(
            (again.copied.runs.same, again.copied.events.same),
            (1_100, 3_000)
        );
        assert_eq!(again.verified.unwrap().target, verified.source);

        for id in ["r-0", "r-1", "r-2", "r-5"] {
            assert_eq!(
                target.get_run(id).await.unwrap(),
                source.get_run(id).await.unwrap()
            );
        }
        let events = source.list_logs_by_run("r-7").await.unwrap();
        assert_eq!(target.list_logs_by_run("r-7").await.unwrap(), events);
        assert_eq!(events.len(), 1_500 + 137);
    }

    async fn a_cursor_of_the_source_continues_in_the_target(from, to) {
        let (source, target) = stores(from, to).await;
        for number in 0..10 {
            source
                .start_run(&running_at(&format!("r-{number}"), number))
                .await
                .unwrap();
        }
        let query = RunQuery::default();
        let first = source
            .page_runs(&query, ListOrder::NewestFirst, &PageRequest::first(4))
            .await
            .unwrap();
        run_copy(HistoryCopy::new(source, target.clone())).await;
        let cursor: Cursor = first.next.unwrap();
        let second = target
            .page_runs(
                &query,
                ListOrder::NewestFirst,
                &PageRequest::first(4).at(cursor),
            )
            .await
            .unwrap();
        assert_eq!(ids(&second.items), ["r-5", "r-4", "r-3", "r-2"]);
    }

    async fn owners_are_copied_and_late_outcomes_replace_interruptions(from, to) {
        let (source, target) = stores(from, to).await;
        let owner = Owner::new("host-1").id("o").lease(Duration::from_secs(60));
        let owned = source.clone().with_owner(owner);
        for id in ["a", "b", "c"] {
            owned.start_run(&running(id)).await.unwrap();
        }
        let copy = HistoryCopy::new(source.clone(), target.clone());
        run_copy(copy.clone()).await;
        let copied = target.find_owner("o").await.unwrap().unwrap();
        assert_eq!(copied, source.find_owner("o").await.unwrap().unwrap());
        // The target is swept as well, at another time.
        for (database, last_seen_at) in [(from, 2), (to, 1)] {
            let db = database.connection().await;
            let sql = format!("UPDATE runtrail_owners SET last_seen_at = {last_seen_at}");
            execute(&db, &sql).await;
            assert_eq!(database.store().await.sweep_interrupted().await.unwrap(), 3);
        }
        let (summary, _) = run_copy(copy.clone()).await;
        assert_eq!(summary.copied.runs.finished, 3);
        assert_eq!(target.get_run("a").await.unwrap(), source.get_run("a").await.unwrap());

        owned.heartbeat().await.unwrap();
        owned.finish_run("a", &stats()).await.unwrap();
        owned.finish_run("b", &stats().runtime_seconds(1e300)).await.unwrap();
        let (summary, differences) = run_copy(copy.last()).await;
        assert!(summary.is_complete(), "{summary:?} {differences:?}");
        assert_eq!(summary.copied.runs.finished, 2);
        for id in ["a", "b", "c"] {
            assert_eq!(target.get_run(id).await.unwrap(), source.get_run(id).await.unwrap());
        }
        assert!(target.find_owner("o").await.unwrap().unwrap().is_alive);
    }

    async fn labels_are_copied_and_later_changes_follow(from, to) {
        let (source, target) = stores(from, to).await;
        let labels = |key: &str, value: &str| running("").label(key, value).labels;
        for id in ["a", "b", "c", "conflict"] {
            source.start_run(&running(id).label("env", "prod")).await.unwrap();
        }
        let copy = HistoryCopy::new(source.clone(), target.clone());
        run_copy(copy.clone()).await;
        source.add_labels("a", &labels("env", "dev")).await.unwrap();
        source.finish_run("a", &stats()).await.unwrap();
        source.add_labels("b", &labels("team", "x")).await.unwrap();
        // The source is authoritative.
        target.add_labels("c", &labels("only", "there")).await.unwrap();
        source.start_run(&running_at("conflict", 7).label("env", "dev")).await.unwrap();
        let checked = run_copy(copy.clone().last()).await;
        let (summary, differences) = checked;
        assert_eq!((summary.copied.runs.labelled, summary.copied.runs.finished), (3, 1));
        assert_eq!(differences, [difference(run_key("conflict"), DifferenceKind::Conflict)]);
        for id in ["a", "b", "c"] {
            assert_eq!(target.get_run(id).await.unwrap(), source.get_run(id).await.unwrap());
        }
        for store in [&source, &target] {
            let query = RunQuery::new().label("env", "dev").skills(["skill"]).started(..=at(6));
            assert_eq!(store.count_runs_by_query(&query).await.unwrap(), 1);
        }
    }

    async fn budgets_are_copied_with_what_they_have_used(from, to) {
        let (source, target) = stores(from, to).await;
        let utc_offset = "+02:00".parse().unwrap();
        let money = Amount::CostMicros(1_000);
        let of_alice = Budget::new("alice", money, BudgetPeriod::month().at_offset(utc_offset))
            .scope(BudgetScope::Caller("alice".into()));
        for budget in [&tokens("all", 100), &of_alice] {
            source.set_budget(budget).await.unwrap();
        }
        for id in ["settled", "open"] {
            reserve(&source, id, 30).await.unwrap();
        }
        settle(&source, "settled", 25).await;
        let copy = HistoryCopy::new(source.clone(), target.clone());
        let (summary, differences) = run_copy(copy.clone()).await;
        assert!(summary.is_complete() && differences.is_empty(), "{summary:?}");
        assert_eq!(summary.copied.budgets.copied, 2);
        assert_eq!(target.find_budget("alice").await.unwrap().unwrap().budget, of_alice);
        assert_eq!(counted(&target, "alice").await, [7, 0]);
        assert_eq!(counted(&target, "all").await, [25, 0]);
        assert_kind(reserve(&target, "refused", 76).await, ErrorKind::OverBudget);

        // A further pass follows the source.
        settle(&source, "open", 40).await;
        let (summary, differences) = run_copy(copy.clone().last()).await;
        assert!(summary.is_complete() && differences.is_empty(), "{summary:?}");
        assert_eq!(summary.copied.budgets.copied, 2);
        assert_eq!(summary.verified.unwrap().budgets.same, 2);
        assert_eq!(counted(&target, "all").await, [65, 0]);

        // Nothing that the target has counted is forgotten.
        for (id, amount) in [("of the target", 5), ("open in the target", 10)] {
            reserve(&target, id, amount).await.unwrap();
        }
        settle(&target, "of the target", 5).await;
        let (summary, _) = run_copy(copy.last()).await;
        assert!(summary.is_complete(), "{summary:?}");
        assert_eq!(summary.copied.budgets.same, 2);
        assert_eq!(counted(&target, "all").await, [70, 10]);
        settle(&target, "open in the target", 10).await;
        assert_eq!(counted(&target, "all").await, [80, 0]);
    }

    async fn budgets_of_the_target_with_other_limits_are_reported_and_left_alone(from, to) {
        let (source, target) = stores(from, to).await;
        source.set_budget(&tokens("all", 100)).await.unwrap();
        reserve(&source, "1", 30).await.unwrap();
        settle(&source, "1", 30).await;
        for budget in [tokens("all", 50), tokens("other", 50)] {
            target.set_budget(&budget).await.unwrap();
        }
        let copy = HistoryCopy::new(source.clone(), target.clone());
        let conflict = budget_difference("all", DifferenceKind::Conflict);
        let (summary, differences) = run_copy(copy.clone()).await;
        assert_eq!(differences, std::slice::from_ref(&conflict));
        assert_eq!(
            summary.shortfall().unwrap().to_string(),
            "1 row with different content"
        );
        assert_eq!(counted(&target, "all").await, [0, 0]);
        let (_, differences) = run_copy(copy.clone().last()).await;
        let extra = budget_difference("other", DifferenceKind::Extra);
        assert_eq!(differences, [conflict, extra]);

        for name in ["all", "other"] {
            target.remove_budget(name).await.unwrap();
        }
        let (summary, differences) = run_copy_with(copy.clone().verified(), |notice| {
            if let Notice::Begun { is_verification: true, .. } = notice {
                write_from_another_program(from, async |store: AuditStore| {
                    store.set_budget(&tokens("new", 100)).await.unwrap();
                    reserve(&store, "2", 1).await.unwrap();
                    settle(&store, "2", 1).await;
                });
            }
        })
        .await;
        assert_eq!(
            summary.shortfall().unwrap().to_string(),
            "2 rows missing or outdated"
        );
        assert_eq!(
            differences,
            [
                budget_difference("all", DifferenceKind::LessUsed),
                budget_difference("new", DifferenceKind::Missing),
            ]
        );
        assert!(run_copy(copy.last()).await.0.is_complete());
    }

    async fn a_further_pass_copies_what_was_added_and_finished(from, to) {
        let (source, target) = stores(from, to).await;
        for id in ["a", "b", "c"] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
        }
        let copy = HistoryCopy::new(source.clone(), target.clone());
        run_copy(copy.clone()).await;
        source.finish_run("b", &stats()).await.unwrap();
        // A finish with 1e300 is written by its own statement.
        source
            .finish_run("c", &stats().runtime_seconds(1e300))
            .await
            .unwrap();
        source.append_log(&event("b", 2)).await.unwrap();
        source.start_run(&finished_at("d", 1)).await.unwrap();
        source.append_log(&event("d", 0)).await.unwrap();

        let (behind, differences) = run_copy(copy.clone().last().unverified()).await;
        assert!(behind.is_complete(), "{behind:?} {differences:?}");
        let tallies = (behind.copied.runs, behind.copied.events);
        assert_eq!(
            (tallies.0.same, tallies.0.finished, tallies.0.copied),
            (1, 2, 1)
        );
        assert_eq!((tallies.1.same, tallies.1.copied), (3, 2));
        for id in ["a", "b", "c", "d"] {
            assert_eq!(
                target.get_run(id).await.unwrap(),
                source.get_run(id).await.unwrap()
            );
        }
        assert!(run_copy(copy.last()).await.0.is_complete());
    }

    async fn rows_of_the_target_with_other_content_are_reported_and_left_alone(from, to) {
        let (source, target) = stores(from, to).await;
        for id in [
            "finished",
            "finished-there",
            "other-start",
            "other-start-finished",
            "same",
            "event",
        ] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
            let run = match id.starts_with("other-start") {
                true => running_at(id, 1),
                false => running(id),
            };
            target.start_run(&run).await.unwrap();
        }
        for id in ["finished", "other-start-finished"] {
            source.finish_run(id, &stats()).await.unwrap();
        }
        target
            .finish_run("finished", &finished_at("x", 1).stats())
            .await
            .unwrap();
        target.finish_run("finished-there", &stats()).await.unwrap();
        target
            .append_log(&with(event("event", 1), |event| {
                event.payload = json!("other")
            }))
            .await
            .unwrap();
        target.start_run(&running("only-there")).await.unwrap();
        let before: Vec<SkillRun> = target
            .list_runs_filtered(&Default::default(), Default::default())
            .await
            .unwrap();

        let conflicts = [
            difference(event_key("event", 1), DifferenceKind::Conflict),
            difference(run_key("finished"), DifferenceKind::Conflict),
            difference(run_key("finished-there"), DifferenceKind::Conflict),
            difference(run_key("other-start"), DifferenceKind::Conflict),
            difference(run_key("other-start-finished"), DifferenceKind::Conflict),
        ];
        let (summary, mut differences) =
            run_copy(HistoryCopy::new(source.clone(), target.clone())).await;
        differences.sort_by_key(|difference| difference.to_string());
        assert_eq!(
            summary.shortfall().unwrap().to_string(),
            "5 rows with different content"
        );
        assert_eq!(differences, conflicts);
        assert_eq!(
            (summary.copied.events.behind, summary.copied.events.blocked),
            (0, 4)
        );
        assert_eq!(
            target
                .list_runs_filtered(&Default::default(), Default::default())
                .await
                .unwrap(),
            before
        );
        // No events are copied to conflicting runs.
        assert_eq!(target.list_logs_by_run("finished").await.unwrap(), []);
        assert_eq!(target.list_logs_by_run("same").await.unwrap().len(), 1);
        assert_eq!(
            target.list_logs_by_run("event").await.unwrap()[0].payload,
            json!("other")
        );

        let (summary, differences) = run_copy(HistoryCopy::new(source, target).last()).await;
        assert!(!summary.is_complete());
        assert!(
            differences.contains(&difference(run_key("only-there"), DifferenceKind::Extra)),
            "{differences:?}"
        );
        assert!(
            differences.contains(&difference(
                event_key("finished", 1),
                DifferenceKind::Missing
            )),
            "{differences:?}"
        );
        assert!(
            conflicts
                .iter()
                .all(|conflict| differences.contains(conflict)),
            "{differences:?}"
        );
        assert_eq!(differences.len(), 5 + 1 + 4);
        let shortfall =
            "5 rows with different content, 4 rows missing or outdated, 1 row only in the target";
        assert_eq!(summary.shortfall().unwrap().to_string(), shortfall);
        assert!(!summary.counts.is_empty());
    }

    async fn equal_event_counts_do_not_hide_different_events(from, to) {
        let (source, target) = stores(from, to).await;
        for (store, sequence) in [(&source, 1), (&target, 2)] {
            store.start_run(&running("r")).await.unwrap();
            store.append_log(&event("r", sequence)).await.unwrap();
        }
        let copy = HistoryCopy::new(source, target.clone());
        let (summary, differences) = run_copy(copy.clone().last()).await;
        assert!(!summary.is_complete());
        assert_eq!(
            differences,
            [
                difference(event_key("r", 1), DifferenceKind::Missing),
                difference(event_key("r", 2), DifferenceKind::Extra),
            ]
        );
        let (summary, differences) = run_copy(copy).await;
        assert!(summary.is_complete() && differences.is_empty());
        assert_eq!(target.list_logs_by_run("r").await.unwrap().len(), 2);
    }

    async fn extra_runs_in_the_target_fail_only_a_verification(from, to) {
        let (source, target) = stores(from, to).await;
        source.start_run(&running("a")).await.unwrap();
        target.start_run(&running("b")).await.unwrap();
        let copy = HistoryCopy::new(source, target);
        let (summary, differences) = run_copy(copy.clone().last().unverified()).await;
        assert!(summary.is_complete() && differences.is_empty());
        let (summary, differences) = run_copy(copy.verified()).await;
        assert!(!summary.is_complete());
        assert_eq!(
            differences,
            [difference(run_key("b"), DifferenceKind::Extra)]
        );
    }

    async fn rows_written_during_a_copy_are_left_to_a_further_pass(from, to) {
        let (source, target) = stores(from, to).await;
        for id in ["a", "c"] {
            source.start_run(&running(id)).await.unwrap();
        }
        // Writes between the copy's reads of runs and of events.
        let write = || {
            write_from_another_program(from, async |store: AuditStore| {
                store.start_run(&running("b")).await.unwrap();
                store.append_log(&event("b", 1)).await.unwrap();
            })
        };
        let copy = HistoryCopy::new(source, target.clone());
        let (summary, differences) = run_copy_with(copy.clone(), |notice| {
            if let Notice::Read { runs: 2, .. } = notice {
                write();
            }
        })
        .await;
        assert!(
            summary.is_complete() && differences.is_empty(),
            "{differences:?}"
        );
        let events = summary.copied.events;
        assert_eq!((events.copied, events.behind, events.orphans), (0, 1, 0));
        let (summary, _) = run_copy(copy.last()).await;
        assert!(summary.is_complete());
        assert_eq!(target.list_logs_by_run("b").await.unwrap().len(), 1);
    }

    async fn rows_written_before_the_verification_are_differences(from, to) {
        let (source, target) = stores(from, to).await;
        source.start_run(&running("a")).await.unwrap();
        let copy = HistoryCopy::new(source, target).verified();
        let (summary, differences) = run_copy_with(copy.clone(), |notice| {
            if let Notice::Begun {
                is_verification: true,
                ..
            } = notice
            {
                write_from_another_program(from, async |store: AuditStore| {
                    store.append_log(&event("a", 1)).await.unwrap();
                    store.start_run(&running("b")).await.unwrap();
                    store.append_log(&event("b", 1)).await.unwrap();
                    store.finish_run("a", &stats()).await.unwrap();
                });
            }
        })
        .await;
        assert_eq!(
            summary.shortfall().unwrap().to_string(),
            "4 rows missing or outdated"
        );
        assert_eq!(
            differences,
            [
                difference(run_key("b"), DifferenceKind::Missing),
                difference(run_key("a"), DifferenceKind::Unfinished),
                difference(event_key("a", 1), DifferenceKind::Missing),
                difference(event_key("b", 1), DifferenceKind::Missing),
            ]
        );
        assert!(!summary.counts.is_empty());
        assert!(run_copy(copy).await.0.is_complete());
    }

    async fn a_difference_in_any_column_is_found(from, to) {
        let (source, target) = stores(from, to).await;
        source.start_run(&finished_at("r", 1)).await.unwrap();
        source.append_log(&event("r", 1)).await.unwrap();
        let copy = HistoryCopy::new(source, target);
        run_copy(copy.clone()).await;
        let db = to.connection().await;
        let texts = [
            "skill_id",
            "caller_id",
            "channel_id",
            "parent_run_id",
            "status",
            "output",
            "error",
        ];
        let numbers = [
            "started_at",
            "finished_at",
            "tool_calls",
            "runtime_seconds",
            "total_input_tokens",
            "total_output_tokens",
            "total_thinking_tokens",
        ];
        let changes = texts
            .map(|column| ("skill_runs", column, format!("{column} || 'x'")))
            .into_iter()
            .chain(numbers.map(|column| ("skill_runs", column, format!("{column} + 1"))))
            .chain([
                ("skill_runs", "inputs", "'{}'".into()),
                ("skill_run_logs", "created_at", "created_at + 1".into()),
                ("skill_run_logs", "event_type", "'other'".into()),
                ("skill_run_logs", "payload", "payload || ' '".into()),
            ]);
        for (table, column, change) in changes {
            let stored = format!("SELECT CAST({column} AS text) FROM {table}");
            let before: Vec<String> = fetch(&db, &stored).await;
            execute(&db, &format!("UPDATE {table} SET {column} = {change}")).await;
            let (summary, differences) = run_copy(copy.clone().last()).await;
            let row = if table == "skill_runs" {
                run_key("r")
            } else {
                event_key("r", 1)
            };
            assert_eq!(
                differences,
                [difference(row, DifferenceKind::Conflict)],
                "{column}"
            );
            let verified = summary.verified.unwrap();
            assert_ne!(verified.source, verified.target, "{column}");
            let kind = if numbers.contains(&column) || column == "created_at" {
                "numeric"
            } else {
                "text"
            };
            let value = before[0].replace('\'', "''");
            execute(
                &db,
                &format!("UPDATE {table} SET {column} = CAST('{value}' AS {kind})"),
            )
            .await;
        }
        assert!(run_copy(copy.last()).await.0.is_complete());
    }

    async fn an_empty_history_equals_only_an_empty_one(from, to) {
        let (source, target) = stores(from, to).await;
        let (summary, differences) =
            run_copy(HistoryCopy::new(source.clone(), target.clone()).last()).await;
        assert!(summary.is_complete() && differences.is_empty());
        target.start_run(&running("only-there")).await.unwrap();
        let (summary, differences) = run_copy(HistoryCopy::new(source, target).last()).await;
        assert!(!summary.is_complete());
        assert_eq!(
            differences,
            [difference(run_key("only-there"), DifferenceKind::Extra)]
        );
    }
}

/// Another program may have deleted a run while foreign keys were off.
#[test]
fn an_event_without_a_run_makes_a_copy_incomplete() {
    on_databases([Backend::Sqlite, Backend::Sqlite], async |[from, to]| {
        let (source, target) = stores(from, to).await;
        for id in ["a", "b"] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
        }
        let db = from.connection().await;
        execute(&db, "PRAGMA foreign_keys = OFF").await;
        execute(&db, "DELETE FROM skill_runs WHERE id = 'b'").await;
        let copy = HistoryCopy::new(source, target);
        for copy in [copy.clone(), copy.last()] {
            let (summary, differences) = run_copy(copy).await;
            assert_eq!(
                differences,
                [difference(event_key("b", 1), DifferenceKind::Orphan)]
            );
            let shortfall = summary.shortfall().unwrap().to_string();
            assert_eq!(shortfall, "1 row that can't be copied");
        }
    });
}

/// Rows that another program has written.
#[test]
fn rows_that_cannot_be_stored_are_refused_and_the_others_copied() {
    on_databases([Backend::Sqlite, Backend::Postgres], async |[from, to]| {
        let (source, target) = stores(from, to).await;
        for id in ["a", "b", "c", "d", "e", "f"] {
            source.start_run(&running(id)).await.unwrap();
            source.append_log(&event(id, 1)).await.unwrap();
        }
        let db = from.connection().await;
        for (id, change) in [
            ("b", "output = 'x' || char(0)"),
            ("c", "tool_calls = 'many'"),
            ("d", "skill_id = x'00ff'"),
            ("e", "caller_id = printf('%.*c', 256, 'x')"),
            ("f", "runtime_seconds = 9e999"),
        ] {
            execute(
                &db,
                &format!("UPDATE skill_runs SET {change} WHERE id = '{id}'"),
            )
            .await;
        }
        execute(
            &db,
            "UPDATE skill_run_logs SET payload = '\"' || char(0) || '\"' WHERE run_id = 'a'",
        )
        .await;
        let copy = HistoryCopy::new(source, target.clone());
        for copy in [copy.clone(), copy.clone().verified(), copy.last()] {
            let (summary, differences) = run_copy(copy).await;
            let mut differences: Vec<String> =
                differences.iter().map(ToString::to_string).collect();
            differences.sort();
            let refused: Vec<_> = differences
                .iter()
                .filter(|it| it.contains("can't be copied"))
                .collect();
            let expected = [
                "event 1 of run \"a\" can't be copied: payload contains a NUL character, which \
                PostgreSQL can't store",
                "run \"b\" can't be copied: output contains a NUL character, which PostgreSQL \
                can't store",
                "run \"c\" can't be copied: ",
                "run \"d\" can't be copied: ",
                "run \"e\" can't be copied: caller_id has 256 bytes, more than 255",
                "run \"f\" can't be copied: runtime_seconds is inf, not a finite number of at \
                least 0",
            ];
            assert_eq!(refused.len(), expected.len(), "{differences:#?}");
            for (difference, expected) in refused.iter().zip(expected) {
                assert!(difference.starts_with(expected), "{difference}");
            }
            // A verification also reports the events of those runs as missing.
            let missing = if summary.verified.is_some() { 5 } else { 0 };
            assert_eq!(
                differences.len(),
                expected.len() + missing,
                "{differences:#?}"
            );
            assert_eq!(summary.shortfall().unwrap().refused, 6);
        }
        let runs = target
            .list_runs_filtered(&Default::default(), Default::default())
            .await
            .unwrap();
        assert_eq!(ids(&runs), ["a"]);
        assert_eq!(count(&to.connection().await, "skill_run_logs").await, 0);
    });
}

#[test]
fn invalid_numbers_of_a_postgres_database_are_refused_too() {
    on_databases([Backend::Postgres, Backend::Sqlite], async |[from, to]| {
        let (source, target) = stores(from, to).await;
        for id in ["a", "b", "c"] {
            source.start_run(&running(id)).await.unwrap();
        }
        let db = from.connection().await;
        execute(
            &db,
            "UPDATE skill_runs SET runtime_seconds = 'NaN' WHERE id = 'a'",
        )
        .await;
        execute(
            &db,
            "UPDATE skill_runs SET runtime_seconds = '-0' WHERE id = 'b'",
        )
        .await;
        let (summary, differences) = run_copy(HistoryCopy::new(source, target.clone())).await;
        assert_eq!(summary.copied.runs.refused, 2, "{differences:?}");
        assert_eq!(
            differences[1].to_string(),
            "run \"b\" can't be copied: runtime_seconds is -0"
        );
        assert_eq!(target.get_run("c").await.unwrap(), running("c"));
    });
}

#[test]
fn a_damaged_row_of_the_target_is_reported_as_such() {
    on_databases([Backend::Postgres, Backend::Sqlite], async |[from, to]| {
        let (source, target) = stores(from, to).await;
        source.start_run(&running("a")).await.unwrap();
        let copy = HistoryCopy::new(source, target);
        run_copy(copy.clone()).await;
        let db = to.connection().await;
        execute(&db, "UPDATE skill_runs SET tool_calls = 'many'").await;
        for copy in [copy.clone(), copy.last()] {
            let (summary, differences) = run_copy(copy).await;
            assert_eq!(summary.shortfall().unwrap().refused, 1);
            let difference = differences[0].to_string();
            assert!(
                difference
                    .starts_with("run \"a\" can't be copied: the target's row can't be read: "),
                "{difference}"
            );
        }
    });
}

/// A page of runs ends with an id that can't be a parameter of a PostgreSQL statement.
#[test]
fn an_id_that_only_sqlite_can_store_does_not_end_a_copy() {
    on_databases([Backend::Sqlite, Backend::Postgres], async |[from, to]| {
        let (source, target) = stores(from, to).await;
        let runs = "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
            WHERE value < 1500) \
            INSERT INTO skill_runs (id, skill_id, caller_id, channel_id, parent_run_id, \
            started_at, finished_at, status, tool_calls, runtime_seconds, total_input_tokens, \
            total_output_tokens, total_thinking_tokens, inputs, output, error) \
            SELECT printf('r%05d', value) \
            || CASE value WHEN 1000 THEN char(0) ELSE '' END, 's', '', '', NULL, value, NULL, \
            'running', 0, 0, 0, 0, 0, '{}', '', '' FROM n";
        execute(&from.connection().await, runs).await;
        source.append_log(&event("r01001", 1)).await.unwrap();
        let (summary, differences) = run_copy(HistoryCopy::new(source, target)).await;
        assert_eq!(
            (summary.copied.runs.copied, summary.copied.runs.refused),
            (1_499, 1),
            "{differences:?}"
        );
        assert_eq!(summary.copied.events.copied, 1);
    });
}

/// Row-level security would otherwise hide the runs of others from a copy that seems complete.
#[test]
fn a_role_that_may_not_see_all_rows_is_refused() {
    const ROLE: &str = "runtrail_test_row_security";

    on_databases([Backend::Postgres, Backend::Sqlite], async |[from, to]| {
        let (owner, target) = stores(from, to).await;
        owner.start_run(&running("r")).await.unwrap();
        let db = from.connection().await;
        execute(
            &db,
            &format!(
                "DROP ROLE IF EXISTS {ROLE}; CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'; \
                 GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}; \
                 ALTER TABLE skill_runs ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY own ON skill_runs USING (caller_id = CURRENT_USER)"
            ),
        )
        .await;
        let mut url = url::Url::parse(&from.url()).unwrap();
        url.set_username(ROLE).unwrap();
        url.set_password(Some(ROLE)).unwrap();
        let source = AuditStore::connect(url.as_str()).await.unwrap();
        for source in [
            source.clone(),
            source.in_schema(SchemaName::new("public").unwrap()),
        ] {
            let copy = HistoryCopy::new(source, target.clone()).last();
            let err = assert_kind(copy.run(&|_| {}).await, ErrorKind::Backend);
            assert!(err.to_string().contains("row-level security"), "{err}");
        }
        let copied = HistoryCopy::new(owner, target.clone())
            .last()
            .run(&|_| {})
            .await;
        assert_eq!(copied.unwrap().shortfall(), None);
        execute(&db, &format!("DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")).await;
    });
}
