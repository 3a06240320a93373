//! Counts and durations.

use runtrail_audit::{ErrorKind, RunStats};

use crate::support::*;

const LARGEST: u64 = i64::MAX as u64;

/// Outcomes with this count in one field each, and the name of that field.
fn stats_with(count: u64) -> [(&'static str, RunStats); 4] {
    [
        ("tool_calls", stats().tool_calls(count)),
        ("input_tokens", stats().input_tokens(count)),
        ("output_tokens", stats().output_tokens(count)),
        ("thinking_tokens", stats().thinking_tokens(count)),
    ]
}

cases! {
    ($) Storage, numbers_cases: numbers

    async fn the_largest_counts_are_read_back_unchanged(cx) {
        let largest = stats()
            .tool_calls(LARGEST)
            .input_tokens(LARGEST)
            .output_tokens(LARGEST)
            .thinking_tokens(LARGEST);
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.finish_run("r", &largest).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().stats(), largest);
        cx.store.append_log(&event("r", LARGEST)).await.unwrap();
        assert_eq!(
            cx.store.list_logs_by_run("r").await.unwrap()[0].sequence,
            LARGEST
        );
    }

    async fn larger_counts_are_refused_naming_the_field(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for count in [LARGEST + 1, u64::MAX] {
            for (field, stats) in stats_with(count) {
                assert_invalid(cx.store.finish_run("r", &stats).await, field);
            }
            assert_invalid(cx.store.append_log(&event("r", count)).await, "sequence");
            let run = with(finished_at("s", 1), |run| run.tool_calls = count);
            assert_invalid(cx.store.start_run(&run).await, "tool_calls");
        }
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
        assert_kind(cx.store.get_run("s").await, ErrorKind::NotFound);
    }

    async fn seconds_are_read_back_to_the_last_bit(cx) {
        let seconds = [
            0.0,
            -0.0,
            5e-324,
            0.1,
            1.0 / 3.0,
            4.0,
            1e15,
            123_456_789.123_456_79,
            f64::MAX,
        ];
        for (number, seconds) in seconds.into_iter().enumerate() {
            let run = with(finished_at(&number.to_string(), 1), |run| {
                run.runtime_seconds = seconds
            });
            cx.store.start_run(&run).await.unwrap();
            let stored = cx.store.get_run(&run.id).await.unwrap();
            assert_eq!(stored, run);
            // The sign of zero is lost: SQLite doesn't store it.
            assert_eq!(stored.runtime_seconds.to_bits(), (seconds + 0.0).to_bits());
            cx.store.start_run(&run).await.unwrap();
        }
    }

    async fn negative_or_non_finite_seconds_are_refused(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for seconds in [-1.0, -5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let stats = stats().runtime_seconds(seconds);
            assert_invalid(cx.store.finish_run("r", &stats).await, "runtime_seconds");
            let run = with(running("s"), |run| run.runtime_seconds = seconds);
            assert_invalid(cx.store.start_run(&run).await, "runtime_seconds");
        }
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
        assert_kind(cx.store.get_run("s").await, ErrorKind::NotFound);
    }

    async fn sequences_may_have_gaps_and_start_anywhere(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for sequence in [LARGEST, 7, 0] {
            cx.store.append_log(&event("r", sequence)).await.unwrap();
        }
        assert_eq!(cx.store.list_logs_by_run("r").await.unwrap().len(), 3);
    }
}
