use chrono::{DateTime, Utc};

#[expect(clippy::disallowed_methods, reason = "no result depends on the time")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}
