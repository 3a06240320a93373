/// Awaits a call, in a span of this name if a subscriber listens to debug level.
///
/// Otherwise the future is awaited directly: to move it into a span that is disabled made
/// concurrent writes about a seventh slower.
macro_rules! traced {
    ($name:literal, $call:expr) => {
        if tracing::level_filters::LevelFilter::current() < tracing::Level::DEBUG {
            $call.await
        } else {
            tracing::Instrument::instrument($call, tracing::debug_span!($name)).await
        }
    };
}

pub(crate) use traced;
