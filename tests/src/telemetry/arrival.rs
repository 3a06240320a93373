use std::slice;
use std::time::Duration;

use runtrail_audit::{RunStatus, Staging};
use runtrail_otlp::ReceiverOptions;
use serde_json::json;

use super::exporter::{Span, run_id};
use super::server::{LONG, Server, Stored, types, waiting};
use crate::fixture::*;

/// A trace with two agents, calls, steps, and calls that end in the same microsecond.
fn trace() -> Vec<Span> {
    let message = |text: &str| json!({"role": "user", "content": text});
    let messages = |texts: &[&str]| {
        let messages: Vec<_> = texts.iter().map(|text| message(text)).collect();
        json!({"gen_ai.input.messages": messages})
    };
    vec![
        Span::chat(3, 10)
            .below(2)
            .during(1_100, 2_000)
            .with(messages(&["a"])),
        Span::tool(4, "x").below(2).during(2_500, 3_000),
        Span::tool(5, "y").below(2).during(2_400, 3_000),
        Span::agent(7, "inner").below(6).during(3_200, 3_800),
        Span::chat(8, 5).below(7).during(3_300, 3_700),
        Span::tool(6, "delegate").below(2).during(3_100, 4_000),
        Span::chat(9, 20)
            .below(2)
            .during(5_000, 6_000)
            .with(messages(&["a", "b"])),
        Span::agent(2, "outer").below(1).during(1_000, 8_000),
        Span::new(1, "request"),
    ]
}

on_each_backend! {
    async fn spans_that_are_sent_again_at_once_change_nothing(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        for batch in trace().chunks(2) {
            server.send(1, batch).await;
            server.send(1, batch).await;
        }
        server.flush().await;
        let stored = Stored::read(&store).await;
        assert_eq!(stored.skills(), ["inner", "outer", "request"]);
        let outer = stored.run(&run_id(1, 2));
        let expected = ["model_call", "tool_call", "tool_call", "tool_call", "model_call"];
        assert_eq!(types(stored.events(&outer.id)), expected);
        assert_eq!((outer.total_input_tokens, outer.tool_calls), (30, 3));
    }

    async fn spans_that_are_sent_again_after_they_were_stored_change_nothing(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        server.record(1, &trace()).await;
        let stored = Stored::read(&store).await;
        assert_eq!(stored.0.len(), 3);
        server.record(1, &trace()).await;
        assert_eq!(Stored::read(&store).await, stored);
        // Also one by one, in another order, and to another receiver.
        let other = Server::start(&store).await;
        for span in trace().into_iter().rev() {
            other.record(1, &[span]).await;
        }
        assert_eq!(Stored::read(&store).await, stored);
        assert_eq!(waiting(&store).await, 0);
    }

    /// They are staged and stored once more, with the same ids.
    async fn spans_that_are_sent_again_after_they_were_forgotten_change_nothing(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        for batch in trace().chunks(3) {
            server.record(1, batch).await;
        }
        let stored = Stored::read(&store).await;
        assert_eq!(stored.0.len(), 3);
        for batches in [9, 1, 4] {
            let cutoff = chrono::Utc::now() + chrono::TimeDelta::hours(1);
            assert_eq!(store.forget_settled(cutoff).await.unwrap(), 9);
            for batch in trace().chunks(batches) {
                server.record(1, batch).await;
            }
            assert_eq!(waiting(&store).await, 0);
            assert_eq!(Stored::read(&store).await, stored);
        }
    }

    /// Their sequences depend on the order of their arrival, which may be another one later.
    async fn events_of_the_same_microsecond_are_stored_once_in_whatever_order(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let tool = |id, begin| Span::tool(id, "t").below(1).during(begin, 5_000);
        let [first, second, third] = [tool(2, 3), tool(3, 2), tool(4, 1)];
        server.record(1, &[Span::agent(1, "agent")]).await;
        for span in [&first, &second, &third] {
            server.record(1, slice::from_ref(span)).await;
        }
        let stored = Stored::read(&store).await;
        assert_eq!(stored.events(&run_id(1, 1)).len(), 3);
        let all = [Span::agent(1, "agent"), third, first.clone(), second];
        for again in [&all[..], &[first]] {
            let cutoff = chrono::Utc::now() + chrono::TimeDelta::hours(1);
            store.forget_settled(cutoff).await.unwrap();
            server.record(1, again).await;
            server.receiver.finish(LONG).await.unwrap();
            assert_eq!(Stored::read(&store).await, stored);
        }
    }

    async fn a_span_that_arrives_late_turns_its_provisional_run_into_the_real_one(database) {
        let store = database.store().await;
        let patience = Duration::from_secs(1);
        let server = Server::with(&store, ReceiverOptions::new().patience(patience)).await;
        let call = Span::chat(3, 10).below(2).during(2_000, 3_000);
        server.send(1, &[Span::agent(1, "lead")]).await;
        server.send(1, &[call]).await;
        let id = run_id(1, 2);
        let provisional = Stored::once(&store, |stored| !stored.events(&id).is_empty()).await;
        let run = provisional.run(&id);
        assert!(run.is_running());
        assert_eq!((run.skill_id.as_str(), run.parent_run_id.as_deref()), ("tests", None));

        // Further ones belong to it at once, and other receivers know it, too.
        let other = Server::start(&store).await;
        other.record(1, &[Span::tool(4, "t").below(2).during(3_000, 4_000)]).await;
        let inner = Span::agent(2, "inner").below(1).during(1_000, 5_000);
        other.record(1, slice::from_ref(&inner)).await;
        let stored = Stored::read(&store).await;
        assert_eq!(stored.skills(), ["inner", "lead"]);
        let run = stored.run(&id);
        assert_eq!((run.skill_id.as_str(), &run.status), ("inner", &RunStatus::OK));
        assert_eq!(run.parent_run_id, Some(run_id(1, 1)));
        assert_eq!((run.started_at, run.finished_at), (at(1), Some(at(5))));
        assert_eq!((run.total_input_tokens, run.tool_calls), (10, 1));
        let events = stored.events(&id);
        assert_eq!(types(events), ["model_call", "tool_call"]);
        assert_eq!(events[0], provisional.events(&id)[0]);
        assert_eq!(waiting(&store).await, 0);

        server.record(1, &[inner]).await;
        server.receiver.finish(LONG).await.unwrap();
        assert_eq!(Stored::read(&store).await, stored);
    }

    async fn a_provisional_run_whose_span_never_arrives_is_interrupted(database) {
        let store = database.store().await;
        let options = ReceiverOptions::new()
            .patience(Duration::from_millis(100))
            .abandoned(Duration::from_secs(1));
        let server = Server::with(&store, options).await;
        let call = Span::chat(3, 10).below(2).during(2_000, 3_000);
        let tool = Span::tool(4, "t").below(2).during(3_000, 4_000);
        server.send(1, &[call, tool]).await;
        let is_over = |stored: &Stored| stored.0.iter().any(|(run, _)| !run.is_running());
        let stored = Stored::once(&store, is_over).await;
        let run = stored.run(&run_id(1, 2));
        assert_eq!(run.status, RunStatus::INTERRUPTED);
        assert!(run.error.contains("has not been received"), "{}", run.error);
        // At the end of its last event.
        assert_eq!(run.finished_at, Some(at(4)));
        assert_eq!((run.total_input_tokens, run.tool_calls), (10, 1));
        assert_eq!(types(stored.events(&run.id)), ["model_call", "tool_call"]);
    }
    async fn finishing_stores_what_still_waits(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        server.send(1, &[Span::chat(3, 10).below(2).during(2_000, 3_000)]).await;
        server.send(2, &[Span::new(1, "GET /")]).await;
        server.receiver.finish(LONG).await.unwrap();
        assert_eq!(waiting(&store).await, 0);
        let stored = Stored::read(&store).await;
        assert_eq!(stored.0.len(), 1, "{stored:#?}");
        let run = stored.run(&run_id(1, 2));
        assert_eq!(run.status, RunStatus::INTERRUPTED);
        assert_eq!(run.total_input_tokens, 10);
        assert_eq!(types(stored.events(&run.id)), ["model_call"]);
    }
}
