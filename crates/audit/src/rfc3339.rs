//! Times in JSON: RFC 3339 in UTC with exactly six fractional digits, so equal times have equal
//! texts.
//!
//! The records of this crate use these functions; a host can use them in
//! `#[serde(serialize_with = …)]` for its own records.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// Formats a time, such as `2026-11-24T09:19:12.123456Z`.
pub fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Serialises a time in the format of [`text`].
///
/// # Errors
///
/// The serializer's errors.
pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*time))
}

/// Serialises a time in the format of [`text`], and `None` as null.
///
/// # Errors
///
/// The serializer's errors.
pub fn serialize_option<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_some(&text(*time)),
        None => serializer.serialize_none(),
    }
}
