//! Durations in JSON: whole microseconds.
//!
//! The records of this crate use these functions; a host can use them in `#[serde(with = …)]` for
//! its own records.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Serialises a duration as whole microseconds, and `None` as null; truncates anything below a
/// microsecond.
///
/// # Errors
///
/// The serializer's errors.
pub fn serialize<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&saturating(*duration)),
        None => serializer.serialize_none(),
    }
}

/// Deserialises whole microseconds; null is `None`.
///
/// # Errors
///
/// The deserializer's errors.
pub fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let micros = Option::<u64>::deserialize(deserializer)?;
    Ok(micros.map(Duration::from_micros))
}

/// Stores refuse a duration above [`i64::MAX`] microseconds anyway.
fn saturating(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
