//! Group commit: concurrent calls return the same results as single calls, though one statement
//! writes several.

use futures_util::future::join_all;
use runtrail_audit::{Error, Result, RunStats, SkillRun, SkillRunLog, Storage};
use runtrail_store::AuditStore;
use serde_json::json;

use crate::fixture::*;

/// Concurrent calls: enough for group commits, and more than fit into the queue.
const CALLS: u64 = 600;

/// Describes a result, without anything that differs between two executions of a test.
fn description<T>(answer: &Result<T>) -> String {
    match answer {
        Ok(_) => "ok".into(),
        Err(err @ Error::Backend { .. }) => panic!("{err:?}"),
        Err(err) => err.to_string(),
    }
}

fn run(number: u64, seconds: &[f64]) -> SkillRun {
    let number_of_kind = number / 5;
    let id = format!("run-{number}");
    match number % 5 {
        // New runs, running and finished.
        0 => with(running(&id), |run| {
            run.inputs = object(json!({"n": number, "text": "a\u{0}b \\u0000 \"quoted\" '; --"}));
            run.skill_id = "skill \"1\" '".into();
        }),
        1 => with(finished_at(&id, 5), |run| {
            run.runtime_seconds = seconds[number_of_kind as usize % seconds.len()];
            run.output = "\0 and \u{10FFFF} \u{7f} \\".into();
        }),
        // Stored runs: running, finished with the same values, finished with other values.
        2 => with(running(&format!("running-{number_of_kind}")), |run| {
            run.skill_id = "another".into()
        }),
        3 => finished_at(&format!("finished-{number_of_kind}"), 1),
        _ => with(
            finished_at(&format!("finished-other-{number_of_kind}"), 1),
            |run| run.skill_id = "another".into(),
        ),
    }
}

const SECONDS: [f64; 10] = [
    0.0,
    0.1,
    1.0 / 3.0,
    2.5,
    1e-9,
    0.000_312_7,
    123_456_789.123_456_79,
    9_007_199_254_740_991.0,
    9_007_199_254_740_993.0,
    1e18,
];

/// Seconds that are too large or too close to zero to be passed as a quotient of integers. A group
/// with such a value is written call by call.
const SECONDS_WITHOUT_FRACTION: [f64; 4] = [5e-324, 1e19, 3.749_833_400_878_642_6e296, f64::MAX];

async fn prepare(cx: &Cx<'_, AuditStore>) {
    cx.sql("DELETE FROM skill_runs").await;
    for number in 0..CALLS / 5 {
        cx.store
            .start_run(&running(&format!("running-{number}")))
            .await
            .unwrap();
        cx.store
            .start_run(&finished_at(&format!("finished-{number}"), 1))
            .await
            .unwrap();
        cx.store
            .start_run(&finished_at(&format!("finished-other-{number}"), 1))
            .await
            .unwrap();
    }
}

/// Returns every row as text.
async fn stored(db: &sea_orm::DatabaseConnection) -> Vec<String> {
    let runs = "SELECT id || skill_id || status || inputs || output || error || \
                COALESCE(finished_at, 0) || '|' || tool_calls \
                FROM skill_runs ORDER BY id";
    let events = "SELECT run_id || sequence || event_type || payload || created_at \
                  FROM skill_run_logs \
                  ORDER BY run_id, sequence";
    let mut rows: Vec<String> = fetch(db, runs).await;
    rows.extend(fetch::<String>(db, events).await);
    rows
}

async fn seconds(db: &sea_orm::DatabaseConnection) -> Vec<u64> {
    let seconds: Vec<f64> = fetch(db, "SELECT runtime_seconds FROM skill_runs ORDER BY id").await;
    seconds.into_iter().map(f64::to_bits).collect()
}

cases_of_the_store! {
    async fn grouped_starts_return_the_same_results_as_single_ones(cx) {
        for seconds_of_runs in [&SECONDS[..], &SECONDS_WITHOUT_FRACTION] {
            let runs: Vec<SkillRun> = (0..CALLS)
                .map(|number| run(number, seconds_of_runs))
                .collect();
            prepare(cx).await;
            let grouped = join_all(runs.iter().map(|run| cx.store.start_run(run))).await;
            let rows = (stored(cx.db).await, seconds(cx.db).await);

            prepare(cx).await;
            for (run, grouped) in runs.iter().zip(&grouped) {
                let single = cx.store.start_run(run).await;
                assert_eq!(description(grouped), description(&single), "{run:?}");
            }
            assert_eq!(rows, (stored(cx.db).await, seconds(cx.db).await));
            assert!(grouped.iter().any(Result::is_err));
        }
    }

    async fn grouped_events_return_the_same_results_as_single_ones(cx) {
        let event_of = |number: u64| {
            let (run_id, sequence) = match number % 4 {
                0 => ("unknown".to_owned(), number),
                1 => ("finished-1".to_owned(), number),
                _ => (format!("running-{}", number % 10), number),
            };
            let payload = match number % 3 {
                0 => json!({"n": number, "text": "\0 \\u0000 🙂 \u{2028}"}),
                _ => json!("hello"),
            };
            with(event(&run_id, sequence), |event| event.payload = payload)
        };
        let events: Vec<SkillRunLog> = (0..CALLS).map(event_of).collect();
        // Some events are already stored, and some of those have another type.
        let before = |number: u64| match number % 5 {
            0 => Some(event_of(number)),
            1 => Some(with(event_of(number), |event| {
                event.event_type = "other".into()
            })),
            _ => None,
        };
        let prepare_events = async || {
            prepare(cx).await;
            for event in (0..CALLS).filter_map(before) {
                let _ = cx.store.append_log(&event).await;
            }
        };
        prepare_events().await;
        let grouped = join_all(events.iter().map(|event| cx.store.append_log(event))).await;
        let rows = stored(cx.db).await;

        prepare_events().await;
        for (event, grouped) in events.iter().zip(&grouped) {
            let single = cx.store.append_log(event).await;
            assert_eq!(description(grouped), description(&single), "{event:?}");
        }
        assert_eq!(rows, stored(cx.db).await);
    }

    async fn grouped_finishes_return_the_same_results_as_single_ones(cx) {
        for seconds_of_runs in [&SECONDS[..], &SECONDS_WITHOUT_FRACTION] {
            let finish = |number: u64| {
                let run_id = match number % 3 {
                    0 => format!("running-{}", number / 5 % 100),
                    1 => format!("finished-{}", number % 100),
                    _ => format!("unknown-{number}"),
                };
                let stats = match number % 2 {
                    0 => finished_at("r", 1).stats(),
                    _ => stats(),
                }
                .runtime_seconds(seconds_of_runs[number as usize % seconds_of_runs.len()])
                .output("\0 and 🙂 \\");
                (run_id, stats)
            };
            let mut finishes: Vec<(String, RunStats)> = (0..CALLS).map(finish).collect();
            // Either of two contradicting calls may be written first, so each run is finished once
            // here.
            finishes.sort_by(|left, right| left.0.cmp(&right.0));
            finishes.dedup_by(|left, right| left.0 == right.0);
            prepare(cx).await;
            let grouped = join_all(
                finishes
                    .iter()
                    .map(|(id, stats)| cx.store.finish_run(id, stats)),
            )
            .await;
            let rows = (stored(cx.db).await, seconds(cx.db).await);

            prepare(cx).await;
            for ((id, stats), grouped) in finishes.iter().zip(&grouped) {
                let single = cx.store.finish_run(id, stats).await;
                assert_eq!(description(grouped), description(&single), "{id}");
            }
            assert_eq!(rows, (stored(cx.db).await, seconds(cx.db).await));
        }
    }

    async fn grouped_calls_of_several_kinds_return_the_same_results_as_single_ones(cx) {
        /// Starts, events and finishes of runs that are new, running, finished or unknown. Some of
        /// the events are already stored.
        async fn call(store: &AuditStore, number: u64) -> Result<()> {
            let run_of_kind = number / 5;
            let id = match run_of_kind % 3 {
                0 => format!("running-{run_of_kind}"),
                1 => format!("finished-{run_of_kind}"),
                _ => format!("unknown-{run_of_kind}"),
            };
            match number % 5 {
                0 => store.start_run(&run(run_of_kind, &SECONDS)).await,
                1 => store.append_log(&event(&id, 1)).await,
                2 if run_of_kind.is_multiple_of(2) => store.finish_run(&id, &stats()).await,
                2 => store.start_run(&running(&format!("new-{number}"))).await,
                3 => store.append_log(&event(&id, 2)).await,
                _ => store.append_log(&event(&id, 3)).await,
            }
        }
        let prepare_events = async || {
            prepare(cx).await;
            for number in 0..CALLS / 5 {
                let stored = with(event(&format!("running-{number}"), 2), |event| {
                    event.event_type = "other".into()
                });
                cx.store.append_log(&stored).await.unwrap();
            }
        };
        prepare_events().await;
        let grouped = join_all((0..CALLS).map(|number| call(cx.store, number))).await;
        let rows = stored(cx.db).await;

        prepare_events().await;
        for (number, grouped) in (0..).zip(&grouped) {
            let single = call(cx.store, number).await;
            assert_eq!(description(grouped), description(&single), "{number}");
        }
        assert_eq!(rows, stored(cx.db).await);
        let starts = grouped.iter().step_by(5);
        let is_refused = |answer: &&Result<()>| matches!(answer, Err(Error::RunFinished { .. }));
        assert!(starts.filter(is_refused).count() > 10);
    }

    async fn the_calls_for_one_run_are_written_in_call_order(cx) {
        let calls = (0..1_000).map(|number| async move {
            let id = format!("r-{number}");
            let (run, event, other_event) = (running(&id), event(&id, 0), event(&id, 1));
            let stats = stats();
            // All of these are pending at once, and called in this order.
            let started = cx.store.start_run(&run);
            let appended = cx.store.append_log(&event);
            let finished = cx.store.finish_run(&id, &stats);
            let appended_late = cx.store.append_log(&other_event);
            let started_again = cx.store.start_run(&run);
            let (a, b, c, d, e) =
                futures_util::join!(started, appended, finished, appended_late, started_again);
            a.and(b).and(c).and(d).and(e)
        });
        for answer in join_all(calls).await {
            answer.unwrap();
        }
    }

    async fn of_two_contradicting_events_one_is_stored_and_one_refused(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for round in 0..50 {
            let other = with(event("r", round), |event| event.payload = json!("other"));
            let same = event("r", round);
            let answers =
                futures_util::join!(cx.store.append_log(&same), cx.store.append_log(&other));
            assert!(
                matches!(answers, (Ok(()), Err(Error::Conflict { .. }))),
                "{answers:?}"
            );
            assert_eq!(
                cx.store.list_logs_by_run("r").await.unwrap()[round as usize].payload,
                same.payload
            );
        }
    }

    async fn texts_of_the_maximum_size_can_be_written_concurrently(cx) {
        let text = "\u{1}".repeat(1 << 20);
        let large: Vec<SkillRun> = (0..12)
            .map(|number| {
                with(finished_at(&format!("r-{number}"), 1), |run| {
                    run.output = text.clone();
                    run.error = text.clone();
                })
            })
            .collect();
        for answer in join_all(large.iter().map(|run| cx.store.start_run(run))).await {
            answer.unwrap();
        }
        for run in &large {
            assert_eq!(cx.store.get_run(&run.id).await.unwrap(), *run);
        }
    }

    async fn a_damaged_run_does_not_prevent_other_writes(cx) {
        prepare(cx).await;
        cx.sql("UPDATE skill_runs SET inputs = '{', tool_calls = -1 WHERE id = 'finished-3'")
            .await;
        cx.store.append_log(&event("running-3", 1)).await.unwrap();
        let finished: Vec<SkillRun> = (0..20)
            .map(|number| finished_at(&format!("finished-{number}"), 1))
            .collect();
        let answers = join_all(finished.iter().map(|run| cx.store.start_run(run))).await;
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(answer.is_ok(), number != 3, "{answer:?}");
        }
    }
}

#[test]
fn many_calls_are_written_in_few_transactions() {
    run_on_own_store(Backend::Postgres, async |cx| {
        cx.store.start_run(&running("r")).await.unwrap();
        let events: Vec<SkillRunLog> = (0..CALLS).map(|number| event("r", number)).collect();
        for answer in join_all(events.iter().map(|event| cx.store.append_log(event))).await {
            answer.unwrap();
        }
        let transactions = "SELECT COUNT(DISTINCT xmin::text) FROM skill_run_logs";
        let transactions: Vec<i64> = fetch(cx.db, transactions).await;
        assert!(transactions[0] <= 20, "{transactions:?}");
    });
}

#[test]
fn calls_of_several_kinds_share_a_transaction() {
    run_on_own_store(Backend::Postgres, async |cx| {
        for number in 0..200 {
            let run = running(&format!("r-{number}"));
            cx.store.start_run(&run).await.unwrap();
        }
        let calls = (0..100).map(|number| async move {
            let run = running(&format!("new-{number}"));
            let event = event(&format!("r-{number}"), 0);
            let finished = format!("r-{}", number + 100);
            let stats = stats();
            let (a, b, c) = futures_util::join!(
                cx.store.start_run(&run),
                cx.store.append_log(&event),
                cx.store.finish_run(&finished, &stats)
            );
            a.and(b).and(c)
        });
        for answer in join_all(calls).await {
            answer.unwrap();
        }
        let transactions = "SELECT COUNT(*) FROM ( \
                            SELECT xmin::text FROM skill_run_logs \
                            INTERSECT SELECT xmin::text FROM skill_runs WHERE id LIKE 'new-%' \
                            INTERSECT SELECT xmin::text FROM skill_runs \
                            WHERE finished_at IS NOT NULL) shared";
        let transactions: Vec<i64> = fetch(cx.db, transactions).await;
        assert!(transactions[0] > 0);
    });
}

#[test]
fn a_refused_event_costs_no_other_call() {
    run_on_own_store(Backend::Postgres, async |cx| {
        cx.sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.event_type = 'refused' THEN RAISE EXCEPTION 'refused'; END IF; \
             RETURN NEW; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON skill_run_logs \
             FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
        cx.store.start_run(&running("r")).await.unwrap();
        let calls = (0..100).map(|number| async move {
            let refused = with(event("r", number), |event| {
                event.event_type = "refused".into()
            });
            let id = format!("new-{number}");
            let (run, event, stats) = (running(&id), event(&id, 0), stats());
            let (refused, started, appended, finished) = futures_util::join!(
                cx.store.append_log(&refused),
                cx.store.start_run(&run),
                cx.store.append_log(&event),
                cx.store.finish_run(&id, &stats)
            );
            assert_kind(refused, runtrail_audit::ErrorKind::Backend);
            started.and(appended).and(finished)
        });
        for answer in join_all(calls).await {
            answer.unwrap();
        }
    });
}

/// A host's open transaction on PostgreSQL, where it locks single rows.
#[test]
fn a_locked_row_delays_only_the_calls_for_it() {
    run_on_own_store(Backend::Postgres, async |cx| {
        use sea_orm::TransactionTrait;

        let ids: Vec<String> = (0..40).map(|number| format!("r-{number}")).collect();
        for id in &ids {
            cx.store.start_run(&running(id)).await.unwrap();
        }
        let other = finished_at("r", 1).stats();
        let txn = cx.db.begin().await.unwrap();
        cx.store.on(&txn).finish_run("r-7", &other).await.unwrap();
        cx.store.on(&txn).start_run(&running("new")).await.unwrap();

        // These must wait: a single call, one for the inserted run, and one among many.
        let single = tokio::spawn({
            let store = cx.store.clone();
            async move { store.finish_run("r-7", &stats()).await }
        });
        let inserted = tokio::spawn({
            let store = cx.store.clone();
            async move { store.start_run(&running("new")).await }
        });
        let among_many: Vec<_> = ids
            .iter()
            .map(|id| {
                let (store, id) = (cx.store.clone(), id.clone());
                tokio::spawn(async move { store.finish_run(&id, &stats()).await })
            })
            .collect();
        let others = async {
            cx.store.append_log(&event("r-1", 1)).await.unwrap();
            cx.store.start_run(&running("another")).await.unwrap();
            for (id, finish) in ids.iter().zip(among_many) {
                if id == "r-7" {
                    assert!(!finish.is_finished());
                    finish.abort();
                } else {
                    finish.await.unwrap().unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, others).await.unwrap();
        assert!(!single.is_finished() && !inserted.is_finished());

        txn.commit().await.unwrap();
        assert_kind(
            single.await.unwrap(),
            runtrail_audit::ErrorKind::RunFinished,
        );
        inserted.await.unwrap().unwrap();
        assert_eq!(cx.store.get_run("r-7").await.unwrap().stats(), other);
    });
}
