//! Times in JSON: RFC 3339 in UTC, always with six digits of the second, so that equal times are equal texts.
//!
//! For `#[serde(serialize_with = …)]` on records of one's own; [`SkillRun`](crate::SkillRun) and its like have it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// The text of a time, such as `2026-11-24T09:19:12.123456Z`.
pub fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Serializes a time as [`text`].
///
/// # Errors
///
/// The serializer's own.
pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*time))
}

/// Serializes a time as [`text`], and none as null.
///
/// # Errors
///
/// The serializer's own.
pub fn serialize_option<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_some(&text(*time)),
        None => serializer.serialize_none(),
    }
}
