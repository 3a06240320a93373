//! Upgrading a database that was filled under an earlier schema.

use std::time::Duration;

use runtrail_audit::{
    Amount, Budget, BudgetPeriod, Budgets, BulkStorage, ErrorKind, Owner, Ownership, PagedStorage,
    ReservationRequest, RunLabels, RunQuery, RunStatus, Spending, Storage, Usage,
};
use runtrail_migration::Migrator;
use runtrail_store::AuditStore;
use sea_orm::DatabaseConnection;

use crate::fixture::*;

/// Inserts the running runs `r-0` to `r-49`, with the columns of the first schema.
async fn insert_runs(db: &DatabaseConnection) {
    for number in 0..50 {
        let run = format!(
            "INSERT INTO skill_runs (id, skill_id, caller_id, channel_id, started_at, status, \
            tool_calls, runtime_seconds, total_input_tokens, total_output_tokens, \
            total_thinking_tokens, inputs, output, error) VALUES \
            ('r-{number}', 'skill', '', '', {number}, 'running', 0, 0, 0, 0, 0, '{{}}', '', '')"
        );
        execute(db, &run).await;
    }
}

on_each_backend! {
    async fn runs_without_labels_are_kept_and_can_be_labelled(database) {
        const BEFORE_LABELS: u32 = 7;

        let db = database.connection().await;
        Migrator::new().up(&db, Some(BEFORE_LABELS)).await.unwrap();
        insert_runs(&db).await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        assert_eq!(store.get_run("r-1").await.unwrap().labels.len(), 0);
        let labels = running("").label("env", "prod").labels;
        store.add_labels("r-1", &labels).await.unwrap();
        store.start_run(&running("new").label("env", "prod")).await.unwrap();
        let query = RunQuery::new().label("env", "prod");
        assert_eq!(store.count_runs_by_query(&query).await.unwrap(), 2);

        // An older instance finishes the run, and doesn't know of its labels.
        execute(&db, "UPDATE skill_runs SET status = 'ok', finished_at = 9 WHERE id = 'r-1'").await;
        let run = store.get_run("r-1").await.unwrap();
        assert_eq!((run.status, run.labels), (RunStatus::OK, labels));

        // Reverting deletes the labels, so it has to be confirmed.
        store.close().await.unwrap();
        let migrator = Migrator::new();
        let steps = runtrail_migration::migrations().len() as u32 - BEFORE_LABELS;
        migrator.down(&db, steps).await.unwrap_err();
        migrator.deleting_rows().down(&db, steps).await.unwrap();
        assert_eq!(count(&db, "skill_runs").await, 51);
    }

    /// A host may have rebuilt the table, or restored a dump without the triggers.
    async fn a_migration_restores_lost_triggers_and_what_they_would_have_written(database) {
        let db = database.connection().await;
        let store = database.store().await;
        for id in ["kept", "deleted", "relabelled"] {
            store.start_run(&running(id).label("env", "prod")).await.unwrap();
        }
        for trigger in ["insert", "update", "delete"] {
            let on = match database.backend() {
                Backend::Sqlite => "",
                Backend::Postgres => " ON skill_runs",
            };
            execute(&db, &format!("DROP TRIGGER runtrail_{trigger}_labels{on}")).await;
        }
        execute(&db, "DELETE FROM skill_runs WHERE id = 'deleted'").await;
        store.add_labels("relabelled", &running("").label("env", "dev").labels).await.unwrap();
        store.start_run(&running("new").label("env", "prod")).await.unwrap();
        assert_eq!(count(&db, "runtrail_run_labels").await, 3);

        let applied = Migrator::new().up(&db, None).await.unwrap();
        assert_eq!(applied, ["runtrail_m20261128_000009_index_labels@0.1.0"]);
        let labelled = "SELECT value || ' ' || run_id FROM runtrail_run_labels ORDER BY 1";
        let expected = ["dev relabelled", "prod kept", "prod new"];
        assert_eq!(fetch::<String>(&db, labelled).await, expected);
        let query = RunQuery::new().label("env", "prod");
        assert_eq!(store.count_runs_by_query(&query).await.unwrap(), 2);
        store.add_labels("new", &running("").label("env", "dev").labels).await.unwrap();
        assert_eq!(store.count_runs_by_query(&query).await.unwrap(), 1);
        assert!(Migrator::new().up(&db, None).await.unwrap().is_empty());
    }

    async fn a_migration_restores_lost_triggers_of_budgets(database) {
        let db = database.connection().await;
        let store = database.store().await;
        let on = match database.backend() {
            Backend::Sqlite => "",
            Backend::Postgres => " ON runtrail_budget_reservations",
        };
        execute(&db, &format!("DROP TRIGGER runtrail_check_reservation{on}")).await;
        let applied = Migrator::new().up(&db, None).await.unwrap();
        assert_eq!(applied, ["runtrail_m20261128_000016_count_groups_of_reservations@0.1.0"]);
        let budget = Budget::new("b", Amount::Tokens(1), BudgetPeriod::day());
        store.set_budget(&budget).await.unwrap();
        let request = ReservationRequest::new("1", Spending::new().tokens(2));
        assert_kind(store.reserve(&request).await, ErrorKind::OverBudget);
    }

    async fn reservations_are_kept_and_counted_on_while_the_triggers_are_replaced(database) {
        const BEFORE_GROUPS: u32 = 15;

        let db = database.connection().await;
        let migrator = Migrator::new();
        migrator.up(&db, Some(BEFORE_GROUPS)).await.unwrap();
        let budget = "INSERT INTO runtrail_budgets (name, unit, amount_limit, scope, scope_id, \
            period, period_micros) VALUES ('b', 'tokens', 100, 'everything', '', 'month', 0)";
        execute(&db, budget).await;
        let reserve = async |id: &str, tokens: u64| {
            let now = chrono::Utc::now().timestamp_micros();
            let reservation = format!(
                "INSERT INTO runtrail_budget_reservations (id, caller_id, skill_id, channel_id, \
                tokens, cost_micros, reserved_at) VALUES ('{id}', '', '', '', {tokens}, 0, {now})"
            );
            execute(&db, &reservation).await;
        };
        reserve("1", 30).await;
        reserve("2", 30).await;
        reserve("refused", 41).await;

        let store = AuditStore::connect(database.url()).await.unwrap();
        store.initialize().await.unwrap();
        let counted = async || {
            let status = store.find_budget("b").await.unwrap().unwrap();
            [status.used, status.reserved]
        };
        assert_eq!(counted().await, [0, 60]);
        let tokens = |tokens| Spending::new().tokens(tokens);
        store.settle_reservation("1", &tokens(20)).await.unwrap();
        let refused = store.reserve(&ReservationRequest::new("3", tokens(51))).await;
        assert_kind(refused, ErrorKind::OverBudget);
        store.reserve(&ReservationRequest::new("3", tokens(50))).await.unwrap();
        assert_eq!(counted().await, [20, 80]);

        // No row is lost, so reverting need not be confirmed.
        migrator.down(&db, 1).await.unwrap();
        let settle = "UPDATE runtrail_budget_reservations \
            SET closed_at = 9, actual_tokens = 10, actual_cost_micros = 0 WHERE id = '3'";
        execute(&db, settle).await;
        reserve("refused", 41).await;
        reserve("4", 40).await;
        migrator.up(&db, None).await.unwrap();
        assert_eq!(counted().await, [30, 70]);
        for (id, used) in [("2", 0), ("4", 5)] {
            store.settle_reservation(id, &tokens(used)).await.unwrap();
        }
        assert_eq!(counted().await, [35, 0]);
        assert_eq!(count(&db, "runtrail_budget_reservations").await, 4);
        assert_eq!(count(&db, "runtrail_budget_charges").await, 0);
    }

    async fn runs_without_an_owner_are_kept_and_new_ones_have_it(database) {
        const BEFORE_OWNERS: u32 = 4;

        let db = database.connection().await;
        Migrator::new().up(&db, Some(BEFORE_OWNERS)).await.unwrap();
        insert_runs(&db).await;
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_kind(store.sweep_interrupted().await, ErrorKind::SchemaOutdated);
        store.initialize().await.unwrap();
        let owned = store.clone().with_owner(Owner::new("").id("o"));
        owned.start_run(&running("owned")).await.unwrap();
        // A process that resumes one of the runs.
        let resumed = with(store.get_run("r-1").await.unwrap(), |run| run.owner_id = None);
        owned.start_run(&resumed).await.unwrap();
        execute(&db, "UPDATE runtrail_owners SET last_seen_at = 1").await;
        assert_eq!(store.sweep_interrupted().await.unwrap(), 2);
        for number in (0..50).filter(|number| *number != 1) {
            let run = store.get_run(&format!("r-{number}")).await.unwrap();
            assert!(run.is_running() && run.owner_id.is_none(), "{}", run.id);
        }

        // Reverting deletes the owners, so it has to be confirmed.
        store.close().await.unwrap();
        let migrator = Migrator::new();
        let steps = runtrail_migration::migrations().len() as u32 - BEFORE_OWNERS;
        migrator.down(&db, steps).await.unwrap_err();
        migrator.deleting_rows().down(&db, steps).await.unwrap();
        assert_eq!(count(&db, "skill_runs").await, 51);
        let store = database.store().await;
        assert_eq!(store.get_run("owned").await.unwrap().status, RunStatus::INTERRUPTED);
    }

    async fn events_without_a_usage_are_kept_and_new_ones_have_it(database) {
        const BEFORE_USAGE: u32 = 3;

        let db = database.connection().await;
        Migrator::new().up(&db, Some(BEFORE_USAGE)).await.unwrap();
        insert_runs(&db).await;
        for number in 0..50 {
            for sequence in 0..4 {
                let event = format!(
                    "INSERT INTO skill_run_logs (run_id, sequence, created_at, event_type, payload) \
                    VALUES ('r-{number}', {sequence}, {number}, 'message', '{{\"text\": \"hello\"}}')"
                );
                execute(&db, &event).await;
            }
        }
        let store = AuditStore::connect(database.url()).await.unwrap();
        assert_kind(store.get_run("r-0").await, ErrorKind::SchemaOutdated);
        store.initialize().await.unwrap();

        for number in 0..50 {
            let id = format!("r-{number}");
            assert!(store.get_run(&id).await.unwrap().is_running());
            let events = store.list_logs_by_run(&id).await.unwrap();
            assert_eq!(events.len(), 4);
            assert!(events.iter().all(|event| event.usage.is_none() && event.duration.is_none()));
            // A retry by an upgraded instance.
            store.append_logs(&[event(&id, 0), event(&id, 3)]).await.unwrap();
            let new = event(&id, 4)
                .created_at(at(0))
                .duration(Duration::from_millis(20))
                .usage(Usage::new().model("m").input_tokens(7));
            store.append_log(&new).await.unwrap();
            assert_eq!(store.list_logs_by_run(&id).await.unwrap()[4], new);
        }
        assert_eq!(count(&db, "skill_run_logs").await, 250);
        assert_eq!(count(&db, "skill_run_logs WHERE model IS NOT NULL").await, 50);

        // Reverting deletes the usages, so it has to be confirmed.
        store.close().await.unwrap();
        let migrator = Migrator::new();
        let steps = runtrail_migration::migrations().len() as u32 - BEFORE_USAGE;
        migrator.down(&db, steps).await.unwrap_err();
        migrator.deleting_rows().down(&db, steps).await.unwrap();
        assert_eq!(count(&db, "skill_run_logs").await, 250);
        let store = database.store().await;
        assert_eq!(store.list_logs_by_run("r-7").await.unwrap().len(), 5);
    }
}
