//! What is inside the cursors of a store.

use runtrail_audit::{
    Cursor, ErrorKind, ListOrder, LogFilter, PageRequest, PagedStorage, Parent, RunQuery, Storage,
};
use runtrail_conformance::pages::{many_runs, page};

use crate::fixture::*;

cases_of_the_store! {
    /// Clients store cursors for a long time, across versions of the library. These cursors must
    /// stay valid.
    async fn stored_cursors_stay_valid_across_versions(cx) {
        for number in 0..3 {
            cx.store
                .start_run(&running_at(&format!("r-{number}"), number))
                .await
                .unwrap();
            cx.store
                .append_log(&event("r-0", number as u64))
                .await
                .unwrap();
        }
        let every_part = with(
            RunQuery::new()
                .statuses(["running"])
                .except_skills(["x"])
                .callers(["caller"])
                .except_channels(["x"])
                .runtime_seconds(0.0..)
                .id_prefix("r-")
                .include_dry_run(),
            |query| {
                query.parent = Parent::None;
                query.started = (at(-9)..=at(9)).into();
            },
        );
        let mut cursors = Vec::new();
        for query in [RunQuery::new(), every_part] {
            let page = page(
                cx.store,
                &query,
                ListOrder::NewestFirst,
                PageRequest::first(1),
            )
            .await;
            cursors.push(page.next.unwrap());
        }
        let filter = LogFilter::new().event_type("message");
        for filter in [LogFilter::new(), filter] {
            let page = cx
                .store
                .page_logs(
                    "r-0",
                    &filter,
                    ListOrder::OldestFirst,
                    &PageRequest::first(1),
                )
                .await
                .unwrap();
            cursors.push(page.next.unwrap());
        }
        let text: Vec<String> = cursors.iter().map(|cursor| format!("{cursor}\n")).collect();
        assert_golden_file("cursors.txt", &text.concat());
    }
}

#[test]
fn a_forged_cursor_is_refused_on_postgres() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    run_on_own_store(Backend::Postgres, async |cx| {
        many_runs(cx.store).await;
        let query = RunQuery::new();
        let first = page(
            cx.store,
            &query,
            ListOrder::NewestFirst,
            PageRequest::first(1),
        )
        .await;
        let token = URL_SAFE_NO_PAD
            .decode(first.next.unwrap().as_str())
            .unwrap();
        let token: serde_json::Value = serde_json::from_slice(&token).unwrap();
        for key in [
            serde_json::json!([{"t": "x"}, {"t": "y"}]),
            serde_json::json!([{"i": 1}, {"t": "\u{0}"}]),
            serde_json::json!([{"i": 1}, {"x": [0, 255]}]),
            serde_json::json!([{"f": 1}, {"i": 1}]),
            serde_json::json!([{"i": 1}]),
        ] {
            let mut forged = token.clone();
            forged["k"] = key;
            let cursor = Cursor::from(URL_SAFE_NO_PAD.encode(forged.to_string()));
            let result = cx
                .store
                .page_runs(
                    &query,
                    ListOrder::NewestFirst,
                    &PageRequest::first(1).at(cursor),
                )
                .await;
            assert_kind(result, ErrorKind::InvalidInput);
        }
    });
}
