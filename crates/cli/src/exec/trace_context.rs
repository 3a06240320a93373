//! The W3C trace context: `TRACEPARENT`, by which the telemetry of a program refers to its run.

use std::env;

use runtrail::new_run_id;
use runtrail::otlp::HostRun;

const TRACEPARENT: &str = "TRACEPARENT";

/// The span that stands for a run.
pub(super) struct TraceContext {
    trace_id: String,
    span_id: String,
    flags: String,
    is_inherited: bool,
}

impl TraceContext {
    /// Continues the trace of the environment, if there is one. If the id of the run is a UUID, the
    /// ids are taken from it.
    pub(super) fn of_run(run_id: &str) -> Self {
        let digits = hex_digits(run_id).or_else(|| hex_digits(&new_run_id()));
        let digits = digits.unwrap_or_default();
        let inherited = env::var(TRACEPARENT).ok();
        let inherited = inherited.as_deref().and_then(parse);
        let span_id = digits.get(16..).unwrap_or_default().to_owned();
        let is_inherited = inherited.is_some();
        let (trace_id, flags) = match inherited {
            Some((trace_id, flags)) => (trace_id.to_owned(), flags.to_owned()),
            None => (digits, "01".to_owned()),
        };
        Self {
            trace_id,
            span_id,
            flags,
            is_inherited,
        }
    }

    pub(super) fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    pub(super) fn host_run(&self, run_id: &str) -> HostRun {
        HostRun::new(run_id, self.trace_id.as_str(), self.span_id.as_str())
    }

    /// Returns the variable for the program. With `is_sampled`, libraries that follow the decision
    /// of the caller record the trace.
    pub(super) fn variable(&self, is_sampled: bool) -> (&'static str, Option<String>) {
        let Self {
            trace_id,
            span_id,
            flags,
            ..
        } = self;
        let flags = if is_sampled { "01" } else { flags };
        (
            TRACEPARENT,
            Some(format!("00-{trace_id}-{span_id}-{flags}")),
        )
    }
}

/// Returns the 32 digits of a UUID.
fn hex_digits(uuid: &str) -> Option<String> {
    let digits = uuid.replace('-', "").to_ascii_lowercase();
    (uuid.len() == 36 && is_id(&digits, 32) && is_id(digits.get(16..)?, 16)).then_some(digits)
}

/// Returns the trace and the flags of a `TRACEPARENT`.
fn parse(traceparent: &str) -> Option<(&str, &str)> {
    let mut parts = traceparent.trim().split('-');
    let (version, trace_id, span_id) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = parts.next()?;
    let is_hex = |text: &str| text.len() == 2 && text.bytes().all(|it| it.is_ascii_hexdigit());
    let is_valid = is_hex(version)
        && version != "ff"
        && is_id(trace_id, 32)
        && is_id(span_id, 16)
        && is_hex(flags);
    is_valid.then_some((trace_id, flags))
}

/// Whether a text has this many lower-case hex digits, and not only zeros.
fn is_id(text: &str, length: usize) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(is_digit) && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_is_continued() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let valid = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(parse(&valid), Some((trace, "01")));
        for invalid in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn the_ids_of_a_run_with_a_uuid_are_parts_of_it() {
        let context = TraceContext::of_run("0199f0a1-7c3e-7d2b-9a4c-5e6f70819203");
        assert_eq!(context.span_id, "9a4c5e6f70819203");
        let other = TraceContext::of_run("nightly");
        assert!(is_id(&other.span_id, 16));
    }
}
