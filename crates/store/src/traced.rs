/// Awaits a call in a span of this name.
///
/// The future is pinned in place: what a call's future stores twice costs concurrent writes more
/// than the span does.
macro_rules! traced {
    ($name:literal, $call:expr) => {{
        let span = tracing::debug_span!($name);
        let call = std::pin::pin!($call);
        match span.is_disabled() {
            true => call.await,
            false => tracing::Instrument::instrument(call, span).await,
        }
    }};
}

pub(crate) use traced;
