//! Telemetry that waits for its run.

use std::time::Duration;

use runtrail_audit::{Clock, StagedRecord, WaitingGroup};
use serde_json::json;

use crate::support::*;

fn record(group: &str, id: &str) -> StagedRecord {
    StagedRecord::new(
        group,
        id,
        "span",
        at(1),
        json!({"name": format!("{group} {id}")}),
    )
}

fn records(group: &str, ids: &[&str]) -> Vec<StagedRecord> {
    ids.iter().map(|id| record(group, id)).collect()
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn settled(ids: &[&str], run: &str) -> Vec<(String, String)> {
    ids.iter()
        .map(|id| ((*id).to_owned(), run.to_owned()))
        .collect()
}

fn staged_ids(records: &[StagedRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

cases! {
    ($) History, staging_cases: staging

    async fn records_wait_in_the_order_of_their_receipt(cx) {
        cx.store.stage(&records("g", &["b"])).await.unwrap();
        cx.clock.advance(1);
        cx.store.stage(&[record("g", "a").parent("b")]).await.unwrap();
        cx.store.stage(&records("h", &["c"])).await.unwrap();
        let waiting = cx.store.waiting_records("g", 10).await.unwrap();
        assert_eq!(staged_ids(&waiting), ["b", "a"]);
        let expected = with(record("g", "a").parent("b"), |record| {
            record.received_at = Some(cx.clock.now());
            record.content = None;
        });
        assert_eq!(waiting[1], expected);
        let first = cx.store.waiting_records("g", 1).await.unwrap();
        assert_eq!(staged_ids(&first), ["b"]);
        assert_eq!(cx.store.waiting_records("unknown", 10).await.unwrap(), []);
    }

    async fn a_large_group_is_listed_whole(cx) {
        for numbers in [0..4_000, 4_000..8_000, 8_000..12_000] {
            let records = numbers.map(|number| record("g", &format!("{number:05}")));
            cx.store.stage(&records.collect::<Vec<_>>()).await.unwrap();
            cx.clock.advance(1);
        }
        for (limit, expected) in [(7_000, 7_000), (10_000, 10_000), (100_000, 12_000)] {
            let waiting = cx.store.waiting_records("g", limit).await.unwrap();
            let ids = staged_ids(&waiting);
            assert_eq!(ids.len(), expected);
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{limit}");
        }
    }

    async fn a_record_is_staged_once(cx) {
        cx.store.stage(&records("g", &["a"])).await.unwrap();
        let other = with(record("g", "a"), |record| record.content = Some(json!("other")));
        cx.store.stage(&[other, record("g", "b")]).await.unwrap();
        let found = cx.store.find_staged("g", &owned(&["b", "a", "c"])).await.unwrap();
        assert_eq!(staged_ids(&found), ["a", "b"]);
        assert_eq!(found[0].content, Some(json!({"name": "g a"})));
    }

    async fn a_settled_record_has_a_run_and_no_content(cx) {
        cx.store.stage(&records("g", &["a", "b", "c"])).await.unwrap();
        cx.store.stage(&records("h", &["a"])).await.unwrap();
        cx.store.settle("g", &settled(&["a", "unknown"], "run")).await.unwrap();
        cx.store.settle("g", &settled(&["b"], "")).await.unwrap();
        // The first run stays.
        cx.store.settle("g", &settled(&["a"], "other")).await.unwrap();
        // Received again.
        cx.store.stage(&records("g", &["a"])).await.unwrap();

        let waiting = cx.store.waiting_records("g", 10).await.unwrap();
        assert_eq!(staged_ids(&waiting), ["c"]);
        let found = cx.store.find_staged("g", &owned(&["a", "b"])).await.unwrap();
        let runs: Vec<_> = found.iter().map(|it| (it.run_id.as_deref(), &it.content)).collect();
        assert_eq!(runs, [(Some("run"), &None), (Some(""), &None)]);
        let other = cx.store.find_staged("h", &owned(&["a"])).await.unwrap();
        assert_eq!((&other[0].run_id, other[0].content.is_some()), (&None, true));
    }

    async fn forgotten_records_can_be_staged_again(cx) {
        cx.store.stage(&records("g", &["old", "waiting"])).await.unwrap();
        cx.clock.advance(10);
        let cutoff = cx.clock.now();
        cx.store.stage(&records("g", &["new"])).await.unwrap();
        cx.store.settle("g", &settled(&["old", "new"], "run")).await.unwrap();
        assert_eq!(cx.store.forget_settled(cutoff).await.unwrap(), 1);
        assert_eq!(cx.store.forget_settled(cutoff).await.unwrap(), 0);
        cx.store.stage(&records("g", &["old", "new"])).await.unwrap();
        let waiting = cx.store.waiting_records("g", 10).await.unwrap();
        assert_eq!(staged_ids(&waiting), ["waiting", "old"]);
    }

    async fn groups_with_waiting_records_are_listed_in_pages(cx) {
        let first = cx.clock.now();
        for group in ["c", "a", "b", "settled"] {
            cx.store.stage(&records(group, &["1"])).await.unwrap();
        }
        cx.store.settle("settled", &settled(&["1"], "run")).await.unwrap();
        cx.clock.advance(1);
        cx.store.stage(&records("a", &["2"])).await.unwrap();
        let second = first + Duration::from_secs(1);
        let groups = cx.store.waiting_groups("", 2).await.unwrap();
        let expected = [WaitingGroup::new("a", first, second), WaitingGroup::new("b", first, first)];
        assert_eq!(groups, expected);
        let groups = cx.store.waiting_groups("b", 2).await.unwrap();
        assert_eq!(groups, [WaitingGroup::new("c", first, first)]);
    }

    async fn many_records_are_staged_and_settled_at_once(cx) {
        let ids: Vec<_> = (0..2_500).map(|number| format!("{number:05}")).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        cx.store.stage(&records("g", &ids)).await.unwrap();
        let found = cx.store.find_staged("g", &owned(&ids)).await.unwrap();
        assert_eq!(staged_ids(&found), ids);
        cx.store.settle("g", &settled(&ids, "run")).await.unwrap();
        assert_eq!(cx.store.waiting_groups("", 10).await.unwrap(), []);
        let later = cx.clock.now() + Duration::from_secs(1);
        assert_eq!(cx.store.forget_settled(later).await.unwrap(), 2_500);
        cx.store.stage(&[]).await.unwrap();
        cx.store.settle("g", &[]).await.unwrap();
    }

    async fn invalid_records_are_refused(cx) {
        let too_long = "x".repeat(256);
        for id in ["", "a\0", too_long.as_str()] {
            for (invalid, field) in [
                (record(id, "a"), "group_id"),
                (record("g", id), "id"),
                (record("g", "a").parent(id), "parent_id"),
            ] {
                let result = cx.store.stage(&[record("g", "valid"), invalid]).await;
                assert_invalid(result, field);
            }
        }
        let without = with(record("g", "a"), |record| record.content = None);
        assert_invalid(cx.store.stage(&[without]).await, "content");
        assert_eq!(cx.store.waiting_groups("", 10).await.unwrap(), []);
    }
}
