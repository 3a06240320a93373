//! What every implementation of [`Storage`](crate::Storage) refuses, rewrites or takes as it is.
//!
//! What can be refused takes the name of its field, for the error; what can be rewritten is given back as it is to
//! be stored.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, Limits, Result, RunStatus};

/// The longest identifier, in bytes: PostgreSQL's index rows would refuse much longer ones.
pub const MAX_IDENTIFIER_BYTES: usize = 255;

/// The deepest nesting of JSON that is taken: parsers give up at 128 and would then never read the row.
pub const MAX_JSON_DEPTH: usize = 64;

/// An identifier: at most [`MAX_IDENTIFIER_BYTES`], no NUL (which PostgreSQL can't hold); may be empty.
///
/// # Errors
///
/// [`Error::InvalidInput`].
pub fn identifier<'a>(field: &'static str, value: &'a str) -> Result<&'a str> {
    if value.len() > MAX_IDENTIFIER_BYTES {
        let reason = format!(
            "has {} bytes, more than {MAX_IDENTIFIER_BYTES}",
            value.len()
        );
        return Err(Error::invalid(field, reason));
    }
    if value.contains('\0') {
        return Err(Error::invalid(field, "contains a NUL character"));
    }
    Ok(value)
}

/// The id of a run: an identifier that is not empty.
///
/// # Errors
///
/// [`Error::InvalidInput`].
pub fn run_id<'a>(field: &'static str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    identifier(field, value)
}

/// The status of a run's outcome: any word but [`RunStatus::RUNNING`].
///
/// # Errors
///
/// [`Error::InvalidInput`].
pub fn outcome(field: &'static str, status: &RunStatus) -> Result<()> {
    if *status == RunStatus::RUNNING {
        return Err(Error::invalid(field, "is `running`, which is no outcome"));
    }
    Ok(())
}

/// Free text, with each NUL character (which PostgreSQL can't hold) replaced by U+FFFD.
///
/// The limit is on the text as given, so that a NUL never makes it too large.
///
/// # Errors
///
/// [`Error::TooLarge`].
pub fn free_text<'a>(field: &'static str, value: &'a str, limits: &Limits) -> Result<Cow<'a, str>> {
    size(field, value, limits)?;
    if value.contains('\0') {
        return Ok(Cow::Owned(value.replace('\0', "\u{FFFD}")));
    }
    Ok(Cow::Borrowed(value))
}

/// The text of a JSON value, as it is stored.
///
/// # Errors
///
/// [`Error::InvalidInput`] when it is nested deeper than [`MAX_JSON_DEPTH`], [`Error::TooLarge`].
pub fn json(field: &'static str, value: &Value, limits: &Limits) -> Result<String> {
    depth(field, value, MAX_JSON_DEPTH)?;
    json_text(field, value, limits)
}

/// The text of a JSON object, as it is stored.
///
/// # Errors
///
/// Those of [`json`].
pub fn json_object(
    field: &'static str,
    object: &Map<String, Value>,
    limits: &Limits,
) -> Result<String> {
    for value in object.values() {
        depth(field, value, MAX_JSON_DEPTH - 1)?;
    }
    json_text(field, object, limits)
}

/// A count as databases hold it: signed, 64 bits.
///
/// # Errors
///
/// [`Error::InvalidInput`] beyond [`i64::MAX`].
pub fn count(field: &'static str, value: u64) -> Result<i64> {
    i64::try_from(value)
        .map_err(|_| Error::invalid(field, format!("is {value}, more than {}", i64::MAX)))
}

/// A duration in seconds: finite, not negative, and zero without a sign.
///
/// # Errors
///
/// [`Error::InvalidInput`].
pub fn seconds(field: &'static str, value: f64) -> Result<f64> {
    if !value.is_finite() || value < 0.0 {
        return Err(Error::invalid(
            field,
            format!("is {value}, not a finite number of at least 0"),
        ));
    }
    // SQLite keeps no sign on zero, PostgreSQL does.
    Ok(value + 0.0)
}

/// A time as databases hold it: whole microseconds since the epoch, the rest cut off.
pub fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// Refuses numbers that not every program can read, and values nested deeper than `allowed`. It descends no deeper than
/// that, since a value that a program has built can be deep enough to overflow the stack.
fn depth(field: &'static str, value: &Value, allowed: usize) -> Result<()> {
    match value {
        Value::Array(_) | Value::Object(_) if allowed == 0 => {
            let reason = format!("is nested deeper than {MAX_JSON_DEPTH} levels");
            Err(Error::invalid(field, reason))
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| depth(field, item, allowed - 1)),
        Value::Object(object) => object
            .values()
            .try_for_each(|member| depth(field, member, allowed - 1)),
        // Any crate of a program may enable serde_json's feature `arbitrary_precision`. A number may then be one that
        // programs without the feature can't read.
        Value::Number(number) if number.as_f64().is_none_or(|float| !float.is_finite()) => {
            Err(Error::invalid(
                field,
                format!("has the number {number}, which is out of range"),
            ))
        }
        _ => Ok(()),
    }
}

fn json_text(field: &'static str, value: &impl Serialize, limits: &Limits) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|err| Error::invalid(field, format!("is not JSON: {err}")))?;
    size(field, &text, limits)?;
    Ok(text)
}

fn size(field: &'static str, text: &str, limits: &Limits) -> Result<()> {
    if text.len() > limits.value_bytes() {
        return Err(Error::TooLarge {
            field,
            size: text.len(),
            limit: limits.value_bytes(),
        });
    }
    Ok(())
}
