//! The ids of traces and spans. They depend only on the ids of runs, so that a repeated export has
//! the same ones.

use sha2::{Digest, Sha256};

use crate::wire::hex;

const TRACE_DIGITS: usize = 32;
const SPAN_DIGITS: usize = 16;

/// Returns the id of the trace of a tree, given the id of the run at its top.
pub(super) fn trace_id(top: &str) -> String {
    match received_ids(top) {
        Some((trace, _)) => trace.to_owned(),
        None => digest::<{ TRACE_DIGITS / 2 }>(&["trace", top]),
    }
}

/// Returns the id of the span of a run.
pub(super) fn span_id(run: &str) -> String {
    match received_ids(run) {
        Some((_, span)) => span.to_owned(),
        None => digest::<{ SPAN_DIGITS / 2 }>(&["run", run]),
    }
}

/// Returns the id of the span of an event. `received` is the one that it was received with, if any.
pub(super) fn event_span_id(
    run: &str,
    run_span: &str,
    sequence: u64,
    received: Option<&str>,
) -> String {
    match received {
        // A run that was received as a call is also an event with the same id.
        Some(id) if is_id(id, SPAN_DIGITS) && id != run_span => id.to_owned(),
        _ => digest::<{ SPAN_DIGITS / 2 }>(&["event", run, &sequence.to_string()]),
    }
}

/// Returns the ids of the trace and the span from which a run was received.
fn received_ids(run: &str) -> Option<(&str, &str)> {
    let (trace, span) = run.split_once('-')?;
    (is_id(trace, TRACE_DIGITS) && is_id(span, SPAN_DIGITS)).then_some((trace, span))
}

/// Whether a text is an id of OTLP in lower case. All zeros isn't one.
fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
        && text.bytes().any(|it| it != b'0')
}

fn digest<const BYTES: usize>(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    let id = &digest[..BYTES];
    match id.iter().all(|byte| *byte == 0) {
        true => format!("{:0width$x}", 1, width = BYTES * 2),
        false => hex(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT_0_OF_RUN_1: &str = "dcfd38a2588566d7";
    const RECEIVED: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

    #[test]
    fn a_received_run_keeps_its_ids() {
        assert_eq!(trace_id(RECEIVED), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span_id(RECEIVED), "b7ad6b7169203331");
        let own = "b7ad6b7169203331";
        let event = |received| event_span_id(RECEIVED, own, 7, received);
        assert_eq!(event(Some("00f067aa0ba902b7")), "00f067aa0ba902b7");
        // The same span can't be both.
        assert_eq!(event(Some(own)), event(None));
        assert_ne!(event(Some(own)), own);
    }

    #[test]
    fn other_ids_are_digests() {
        // Pinned: a repeated export must have the same ids.
        assert_eq!(trace_id("run-1"), "2597e05a1d9f81929dd6fd32d02e7d12");
        assert_eq!(span_id("run-1"), "d62c9904895f360d");
        assert_eq!(event_span_id("run-1", "", 0, None), EVENT_0_OF_RUN_1);
        assert_ne!(event_span_id("run-1", "", 1, None), EVENT_0_OF_RUN_1);
        // Parts aren't merely joined.
        let joined = [("run-1", 11), ("run-11", 1)];
        let [a, b] = joined.map(|(run, sequence)| event_span_id(run, "", sequence, None));
        assert_ne!(a, b);
    }

    #[test]
    fn ids_are_never_zero() {
        let zeros = format!("{:032}-{:016}", 0, 0);
        for run in [zeros.as_str(), "", "-"] {
            assert!(is_id(&trace_id(run), TRACE_DIGITS), "{run}");
            assert!(is_id(&span_id(run), SPAN_DIGITS), "{run}");
        }
        let zero = event_span_id("run-1", "", 0, Some("0000000000000000"));
        assert_eq!(zero, EVENT_0_OF_RUN_1);
        for (run, sequence) in (0..1_000).map(|number| (number.to_string(), number)) {
            assert!(is_id(&event_span_id(&run, "", sequence, None), SPAN_DIGITS));
        }
    }

    #[test]
    fn only_lower_case_ids_of_the_right_length_are_kept() {
        for run in [
            "0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331",
            "0af7651916cd43dd8448eb211c80319c",
            "0af7651916cd43dd8448eb211c80319c-b7ad6b716920333",
            "01a20d17-16e6-778c-afcf-93258ad41f2c",
            "00000000000000000000000000000000-b7ad6b7169203331",
        ] {
            assert_eq!(received_ids(run), None, "{run}");
        }
    }
}
