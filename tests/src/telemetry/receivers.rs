use std::time::Duration;

use runtrail_store::AuditStore;
use sea_orm::{DatabaseTransaction, TransactionTrait};
use serde_json::Value;

use super::exporter::{Span, get, run_id, traces};
use super::server::{Server, Stored, settled, types};
use crate::fixture::*;

/// The batches of a trace, as spans end.
fn batches() -> [Vec<Span>; 4] {
    [
        vec![
            Span::chat(3, 10).below(2).during(1_100, 2_000),
            Span::tool(4, "x").below(2).during(2_500, 3_000),
        ],
        vec![
            Span::chat(7, 5).below(6).during(3_300, 3_700),
            Span::agent(6, "inner").below(5).during(3_200, 3_800),
            Span::tool(5, "delegate").below(2).during(3_100, 4_000),
        ],
        vec![Span::chat(8, 20).below(2).during(5_000, 6_000)],
        vec![
            Span::agent(2, "outer").below(1).during(1_000, 8_000),
            Span::new(1, "request"),
        ],
    ]
}

/// The runs and events of a trace, independent of its id.
fn contents(stored: &Stored, trace: u128) -> String {
    let id = format!("{trace:032x}");
    let mut contents = String::new();
    for (run, events) in &stored.0 {
        if run.id.starts_with(&id) {
            contents += &format!("{run:#?}\n{events:#?}\n").replace(&id, "TRACE");
        }
    }
    contents
}

/// Blocks all other writers until the transaction ends.
async fn lock(database: &TestDatabase) -> DatabaseTransaction {
    let transaction = database.connection().await.begin().await.unwrap();
    let lock = match database.backend() {
        Backend::Sqlite => "DELETE FROM skill_runs WHERE id = ''",
        Backend::Postgres => "LOCK TABLE runtrail_staged_records IN ACCESS EXCLUSIVE MODE",
    };
    execute(&transaction, lock).await;
    transaction
}

async fn hasty_store(database: &TestDatabase) -> AuditStore {
    database
        .store()
        .await
        .with_deadline(Duration::from_millis(300))
}

on_each_backend! {
    async fn a_new_receiver_stores_what_the_last_one_has_acknowledged(database) {
        let store = database.store().await;
        let [calls, rest @ ..] = batches();
        let first = Server::start(&store).await;
        first.send(1, &calls).await;
        drop(first);
        // These may be stored before the receiver ends, or not.
        let second = Server::start(&store).await;
        for batch in &rest {
            second.send(1, batch).await;
        }
        drop(second);
        let _third = Server::start(&store).await;
        let stored = Stored::once(&store, |stored| stored.is_over(3)).await;
        let outer = stored.run(&run_id(1, 2));
        let expected = ["model_call", "tool_call", "tool_call", "model_call"];
        assert_eq!(types(stored.events(&outer.id)), expected);
        assert_eq!((outer.total_input_tokens, outer.tool_calls), (30, 2));
        assert_eq!(types(stored.events(&run_id(1, 6))), ["model_call"]);
    }

    /// Both get all batches, and store them at the same time.
    async fn two_receivers_store_a_trace_as_one_does(database) {
        const TRACES: u128 = 20;
        const ALONE: u128 = 100;

        let stores = [database.store().await, database.store().await];
        let store = &stores[0];
        let alone = Server::start(store).await;
        for batch in &batches() {
            alone.send(ALONE, batch).await;
        }
        alone.flush().await;
        drop(alone);
        let servers = [Server::start(&stores[0]).await, Server::start(&stores[1]).await];
        let send = async |server: &Server, trace: u128| {
            for batch in &batches() {
                server.send(trace, batch).await;
                if trace.is_multiple_of(3) {
                    server.flush().await;
                }
            }
        };
        let send_all = (1..=TRACES).flat_map(|trace| servers.iter().map(move |it| send(it, trace)));
        futures_util::future::join_all(send_all).await;
        for server in &servers {
            server.flush().await;
        }
        settled(store).await;
        let stored = Stored::read(store).await;
        assert!(stored.is_over(3 * (TRACES as usize + 1)), "{stored:#?}");
        let expected = contents(&stored, ALONE);
        for trace in 1..=TRACES {
            assert_eq!(contents(&stored, trace), expected, "trace {trace}");
        }
    }

    async fn a_store_that_is_away_is_reported_and_nothing_is_lost(database) {
        let store = hasty_store(database).await;
        let server = Server::start(&store).await;
        let [calls, rest @ ..] = batches();
        server.send(1, &calls).await;
        let locked = lock(database).await;
        for batch in &rest {
            let answer = server.post("/v1/traces", &traces(1, batch)).await;
            assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
            let status: Value = serde_json::from_str(&answer.body).unwrap();
            // `UNAVAILABLE` of gRPC.
            assert_eq!(status["code"], 14);
            assert!(!status["message"].as_str().unwrap().is_empty());
        }
        assert_eq!(get(&format!("{}/healthz", server.url)).await.status, 200);
        if database.backend() == Backend::Postgres {
            // SQLite can be read while it is locked.
            let answer = get(&format!("{}/readyz", server.url)).await;
            assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
        }
        locked.rollback().await.unwrap();
        assert_eq!(get(&format!("{}/readyz", server.url)).await.status, 200);
        for batch in &rest {
            server.send(1, batch).await;
        }
        settled(&store).await;
        let stored = Stored::read(&store).await;
        assert!(stored.is_over(3), "{stored:#?}");
        assert_eq!(stored.events(&run_id(1, 2)).len(), 4);
    }

    /// What was acknowledged is stored once the store is back, without a further request.
    async fn a_receiver_keeps_trying_to_store_what_it_has_acknowledged(database) {
        let store = hasty_store(database).await;
        let server = Server::start(&store).await;
        let spans = batches().concat();
        server.send(1, &spans).await;
        let locked = lock(database).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        locked.rollback().await.unwrap();
        // Before the receiver searches the store, as it does every 30 s.
        tokio::time::timeout(Duration::from_secs(15), settled(&store)).await.unwrap();
        let stored = Stored::read(&store).await;
        assert!(stored.is_over(3), "{stored:#?}");
    }
}
