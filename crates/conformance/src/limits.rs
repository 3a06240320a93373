//! The sizes of values.

use runtrail_audit::{ErrorKind, SkillRun, SkillRunLog};
use serde_json::json;

use crate::support::*;

#[doc(hidden)]
pub const MIB: usize = 1 << 20;

/// Returns an event whose payload has this many bytes as JSON text, including its quotes.
#[doc(hidden)]
pub fn event_of(bytes: usize) -> SkillRunLog {
    with(event("r", 0), |event| {
        event.payload = json!("x".repeat(bytes - 2))
    })
}

/// Returns a run whose inputs have this many bytes as JSON text, including `{"a":""}`.
#[doc(hidden)]
pub fn run_of(bytes: usize) -> SkillRun {
    running("r").inputs(object(json!({ "a": "x".repeat(bytes - 8) })))
}

cases! {
    ($) Storage, limits_cases: limits

    async fn values_of_one_mebibyte_are_accepted(cx) {
        cx.store.start_run(&run_of(MIB)).await.unwrap();
        cx.store.append_log(&event_of(MIB)).await.unwrap();
        let stats = stats().output("o".repeat(MIB)).error("e".repeat(MIB));
        cx.store.finish_run("r", &stats).await.unwrap();

        let run = cx.store.get_run("r").await.unwrap();
        assert_eq!(run.inputs, run_of(MIB).inputs);
        assert_eq!(run.stats(), stats);
        assert_eq!(
            cx.store.list_logs_by_run("r").await.unwrap()[0].payload,
            event_of(MIB).payload
        );
    }

    async fn one_byte_more_is_too_large_and_nothing_is_stored(cx) {
        let too_large = |field| (field, MIB + 1, MIB);
        assert_too_large(
            cx.store.start_run(&run_of(MIB + 1)).await,
            too_large("inputs"),
        );
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);

        cx.store.start_run(&running("r")).await.unwrap();
        assert_too_large(
            cx.store.append_log(&event_of(MIB + 1)).await,
            too_large("payload"),
        );
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());

        let output = stats().output("o".repeat(MIB + 1));
        assert_too_large(cx.store.finish_run("r", &output).await, too_large("output"));
        let error = stats().error("e".repeat(MIB + 1));
        assert_too_large(cx.store.finish_run("r", &error).await, too_large("error"));
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
    }

    async fn sizes_are_counted_in_bytes_not_characters(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let stats = stats().output("é".repeat(MIB / 2 + 1));
        assert_too_large(
            cx.store.finish_run("r", &stats).await,
            ("output", MIB + 2, MIB),
        );
    }

    async fn the_size_of_a_text_is_checked_before_its_nuls_are_replaced(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let stats = stats().output("\0".repeat(MIB));
        cx.store.finish_run("r", &stats).await.unwrap();
        assert_eq!(
            cx.store.get_run("r").await.unwrap().output,
            "\u{FFFD}".repeat(MIB)
        );
    }
}
