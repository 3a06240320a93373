//! Durations and usages of events.

use std::time::Duration;

use runtrail_audit::{ErrorKind, SkillRunLog, Usage};

use crate::support::*;

const LARGEST: u64 = i64::MAX as u64;

/// A usage with a distinct value in every part.
fn usage() -> Usage {
    Usage::new()
        .provider("provider")
        .model("model \u{1F600}")
        .input_tokens(1_200)
        .cache_read_tokens(1_000)
        .cache_write_tokens(150)
        .output_tokens(90)
        .thinking_tokens(60)
        .cost_micros(4_321)
}

/// Usages that aren't valid, and the field that the error names.
fn invalid_usages() -> Vec<(&'static str, Usage)> {
    let too_large = LARGEST + 1;
    vec![
        ("provider", usage().provider("")),
        ("provider", usage().provider("a\0")),
        ("model", usage().model("")),
        ("model", usage().model("m".repeat(256))),
        ("input_tokens", usage().input_tokens(too_large)),
        ("output_tokens", usage().output_tokens(u64::MAX)),
        ("cost_micros", usage().cost_micros(too_large)),
        ("cache_read_tokens", usage().cache_read_tokens(1_201)),
        ("cache_write_tokens", usage().cache_write_tokens(201)),
        ("cache_write_tokens", usage().cache_write_tokens(LARGEST)),
        ("thinking_tokens", usage().thinking_tokens(91)),
        ("cache_read_tokens", Usage::new().cache_read_tokens(0)),
        ("cache_write_tokens", Usage::new().cache_write_tokens(1)),
        (
            "thinking_tokens",
            Usage::new().input_tokens(5).thinking_tokens(1),
        ),
    ]
}

cases! {
    ($) Storage, usage_cases: usage

    async fn a_duration_and_a_usage_are_read_back_as_written(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let events = [
            event("r", 0).created_at(at(0)),
            event("r", 1).created_at(at(1)).usage(usage()),
            event("r", 2).created_at(at(2)).duration(Duration::from_micros(1)),
            event("r", 3)
                .created_at(at(3))
                .duration(Duration::ZERO)
                .usage(Usage::new().cost_micros(0)),
            event("r", 4).created_at(at(4)),
        ];
        for event in &events {
            cx.store.append_log(event).await.unwrap();
        }
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), events);
    }

    async fn each_part_of_a_usage_can_be_the_only_one(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let parts = [
            Usage::new().provider("p".repeat(255)),
            Usage::new().model("m".repeat(255)),
            Usage::new().input_tokens(LARGEST),
            Usage::new().output_tokens(LARGEST),
            Usage::new().cost_micros(LARGEST),
            Usage::new().input_tokens(3).cache_read_tokens(3),
            Usage::new().input_tokens(3).cache_write_tokens(3),
            Usage::new().output_tokens(0).thinking_tokens(0),
        ];
        for (sequence, usage) in parts.iter().enumerate() {
            let event = event("r", sequence as u64).usage(usage.clone());
            cx.store.append_log(&event).await.unwrap();
        }
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        let stored: Vec<_> = stored.into_iter().filter_map(|event| event.usage).collect();
        assert_eq!(stored, parts);
    }

    async fn a_usage_without_any_part_is_read_back_as_none(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let event = event("r", 0).usage(Usage::new());
        cx.store.append_log(&event).await.unwrap();
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        assert_eq!(stored[0].usage, None);
        cx.store.append_log(&event).await.unwrap();
    }

    async fn a_duration_is_truncated_to_microseconds(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let event = event("r", 0).duration(Duration::from_nanos(1_999));
        cx.store.append_log(&event).await.unwrap();
        cx.store.append_log(&event).await.unwrap();
        let stored = cx.store.list_logs_by_run("r").await.unwrap();
        assert_eq!(stored[0].duration, Some(Duration::from_micros(1)));
    }

    async fn an_invalid_usage_is_refused_naming_the_field(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for (field, usage) in invalid_usages() {
            assert_invalid(
                cx.store.append_log(&event("r", 0).usage(usage)).await,
                field,
            );
        }
        let too_long = Duration::from_micros(LARGEST + 1);
        for duration in [too_long, Duration::MAX] {
            let event = event("r", 0).duration(duration);
            assert_invalid(cx.store.append_log(&event).await, "duration");
        }
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
    }

    async fn the_same_usage_again_is_ok_and_another_one_is_a_conflict(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let first = event("r", 0)
            .created_at(at(0))
            .duration(Duration::from_secs(2))
            .usage(usage());
        cx.store.append_log(&first).await.unwrap();
        cx.store.append_log(&first).await.unwrap();
        let others: Vec<SkillRunLog> = vec![
            event("r", 0),
            first.clone().duration(Duration::from_secs(3)),
            first.clone().usage(usage().provider("other")),
            first.clone().usage(usage().model("other")),
            first.clone().usage(usage().input_tokens(1_201)),
            first.clone().usage(usage().cache_read_tokens(999)),
            first.clone().usage(usage().cache_write_tokens(149)),
            first.clone().usage(usage().output_tokens(91)),
            first.clone().usage(usage().thinking_tokens(59)),
            first.clone().usage(usage().cost_micros(0)),
            with(first.clone(), |event| event.usage = None),
        ];
        for other in &others {
            assert_kind(cx.store.append_log(other).await, ErrorKind::Conflict);
        }
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap(), [first]);
    }
}
