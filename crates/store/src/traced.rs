/// Awaits a call in a span of this name.
///
/// `#[instrument]` would store the call's future several times, which made concurrent writes about
/// a seventh slower even without a subscriber.
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
