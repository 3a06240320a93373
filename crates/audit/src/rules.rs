//! The input checks that are common to all implementations of [`Storage`](crate::Storage).
//!
//! Each function returns the value in the form in which it is stored. `field` names the value in
//! errors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Budget, BudgetPeriod, BudgetScope, Error, Limits, Owner, ReservationRequest, Result, RunStatus,
    Spending, Usage,
};

/// The maximum length of an identifier in bytes. PostgreSQL can't index texts that are much longer.
pub const MAX_IDENTIFIER_BYTES: usize = 255;

/// The maximum nesting of JSON. Some parsers fail at a depth of 128 and could never read the row.
pub const MAX_JSON_DEPTH: usize = 64;

/// Checks an identifier, which may be empty.
///
/// # Errors
///
/// [`Error::InvalidInput`] if it is longer than [`MAX_IDENTIFIER_BYTES`] or contains a NUL, which
/// PostgreSQL can't store.
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

/// Checks the id of a run.
///
/// # Errors
///
/// [`Error::InvalidInput`] if it is empty or not a valid [`identifier`].
pub fn run_id<'a>(field: &'static str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    identifier(field, value)
}

/// Checks the status of an outcome.
///
/// # Errors
///
/// [`Error::InvalidInput`] if it is [`RunStatus::RUNNING`].
pub fn outcome(field: &'static str, status: &RunStatus) -> Result<()> {
    if *status == RunStatus::RUNNING {
        return Err(Error::invalid(
            field,
            "is `running`, which is not an outcome",
        ));
    }
    Ok(())
}

/// Replaces each NUL character, which PostgreSQL can't store, with U+FFFD.
///
/// # Errors
///
/// [`Error::TooLarge`] if the given text exceeds the limit. The replacement, which is longer,
/// doesn't count.
pub fn free_text<'a>(field: &'static str, value: &'a str, limits: &Limits) -> Result<Cow<'a, str>> {
    check_size(field, value, limits)?;
    if value.contains('\0') {
        return Ok(Cow::Owned(value.replace('\0', "\u{FFFD}")));
    }
    Ok(Cow::Borrowed(value))
}

/// Serialises a JSON value.
///
/// # Errors
///
/// [`Error::InvalidInput`] if it is nested deeper than [`MAX_JSON_DEPTH`] or contains a number out
/// of range, [`Error::TooLarge`] if the text exceeds the limit.
pub fn json(field: &'static str, value: &Value, limits: &Limits) -> Result<String> {
    check_depth(field, value, MAX_JSON_DEPTH)?;
    json_text(field, value, limits)
}

/// Serialises a JSON object.
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
        check_depth(field, value, MAX_JSON_DEPTH - 1)?;
    }
    json_text(field, object, limits)
}

/// Converts a count to a signed 64-bit integer, as databases store it.
///
/// # Errors
///
/// [`Error::InvalidInput`] above [`i64::MAX`].
pub fn count(field: &'static str, value: u64) -> Result<i64> {
    i64::try_from(value)
        .map_err(|_| Error::invalid(field, format!("is {value}, more than {}", i64::MAX)))
}

/// Checks a duration in seconds, and removes the sign of a negative zero.
///
/// # Errors
///
/// [`Error::InvalidInput`] if it is negative or not finite.
pub fn seconds(field: &'static str, value: f64) -> Result<f64> {
    if !value.is_finite() || value < 0.0 {
        return Err(Error::invalid(
            field,
            format!("is {value}, not a finite number of at least 0"),
        ));
    }
    // PostgreSQL stores the sign of a zero, SQLite doesn't.
    Ok(value + 0.0)
}

/// Converts a duration to microseconds, as databases store it; truncates smaller fractions.
///
/// # Errors
///
/// [`Error::InvalidInput`] above [`i64::MAX`] microseconds.
pub fn duration(field: &'static str, value: Duration) -> Result<i64> {
    i64::try_from(value.as_micros()).map_err(|_| {
        let micros = value.as_micros();
        let reason = format!("is {micros} microseconds, more than {}", i64::MAX);
        Error::invalid(field, reason)
    })
}

/// Checks a usage.
///
/// # Errors
///
/// [`Error::InvalidInput`] if a name is empty or not a valid [`identifier`], if a number is not a
/// valid [`count`], or if the cache tokens exceed the input tokens or the thinking tokens exceed the
/// output tokens, or if either is given without its total.
pub fn usage(usage: &Usage) -> Result<()> {
    let names = [("provider", &usage.provider), ("model", &usage.model)];
    for (field, name) in names {
        let Some(name) = name else { continue };
        if name.is_empty() {
            return Err(Error::invalid(field, "is empty"));
        }
        identifier(field, name)?;
    }
    let input = ("input_tokens", usage.input_tokens);
    let output = ("output_tokens", usage.output_tokens);
    let cache_read = ("cache_read_tokens", usage.cache_read_tokens);
    let cache_write = ("cache_write_tokens", usage.cache_write_tokens);
    let thinking = ("thinking_tokens", usage.thinking_tokens);
    let cost = ("cost_micros", usage.cost_micros);
    for (field, number) in [input, cache_read, cache_write, output, thinking, cost] {
        number.map(|number| count(field, number)).transpose()?;
    }
    check_parts(input, &[cache_read, cache_write])?;
    check_parts(output, &[thinking])
}

/// The maximum number of labels of a run.
pub const MAX_LABELS: usize = 32;

/// Checks labels, and returns them as the text of a JSON object; `None` if there are none.
///
/// # Errors
///
/// [`Error::InvalidInput`] if there are more than [`MAX_LABELS`], if a key isn't a valid
/// [`label_key`], or if a value isn't a valid [`identifier`].
pub fn labels(labels: &BTreeMap<String, String>) -> Result<Option<String>> {
    if labels.len() > MAX_LABELS {
        let reason = format!("number {}, more than {MAX_LABELS}", labels.len());
        return Err(Error::invalid("labels", reason));
    }
    for (key, value) in labels {
        label_key(key)?;
        identifier("label", value)?;
    }
    if labels.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(labels);
    text.map(Some)
        .map_err(|err| Error::invalid("labels", err.to_string()))
}

/// Checks the key of a label.
///
/// # Errors
///
/// [`Error::InvalidInput`] unless it has 1 to 64 ASCII letters, digits or characters of `_.:/-`.
pub fn label_key(key: &str) -> Result<&str> {
    const MAX_BYTES: usize = 64;

    if !(1..=MAX_BYTES).contains(&key.len()) {
        let reason = format!("has {} bytes, not 1 to {MAX_BYTES}", key.len());
        return Err(Error::invalid("label_key", reason));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte);
    if !key.bytes().all(fits) {
        let reason = "has a character other than ASCII letters, digits and _.:/-";
        return Err(Error::invalid("label_key", reason));
    }
    Ok(key)
}

/// Checks the id of an owner.
///
/// # Errors
///
/// [`Error::InvalidInput`] if it is empty or not a valid [`identifier`].
pub fn owner_id(value: &str) -> Result<&str> {
    run_id("owner_id", value)
}

/// Checks an owner, and returns its lease in microseconds.
///
/// # Errors
///
/// [`Error::InvalidInput`] if the id is empty, if the id or the label isn't a valid
/// [`identifier`], or if the lease is shorter than 100 ms or longer than a year.
pub fn owner(owner: &Owner) -> Result<i64> {
    const LEASE: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(366 * 24 * 60 * 60);

    owner_id(&owner.id)?;
    identifier("owner_label", &owner.label)?;
    if !LEASE.contains(&owner.lease) {
        let reason = format!("is {:?}, not between 100 ms and a year", owner.lease);
        return Err(Error::invalid("lease", reason));
    }
    duration("lease", owner.lease)
}

/// The maximum amount of a budget or a reservation, in tokens or millionths of a US dollar. Sums of
/// thousands of such amounts still fit into a signed 64-bit integer.
pub const MAX_AMOUNT: u64 = 1_000_000_000_000_000;

/// Checks an amount, and converts it to a signed 64-bit integer, as databases store it.
///
/// # Errors
///
/// [`Error::InvalidInput`] above [`MAX_AMOUNT`].
pub fn amount(field: &'static str, value: u64) -> Result<i64> {
    if value > MAX_AMOUNT {
        let reason = format!("is {value}, more than {MAX_AMOUNT}");
        return Err(Error::invalid(field, reason));
    }
    count(field, value)
}

/// Checks the amounts of a reservation.
///
/// # Errors
///
/// [`Error::InvalidInput`] if one is not a valid [`amount`].
pub fn spending(spending: &Spending) -> Result<()> {
    amount("tokens", spending.tokens)?;
    amount("cost_micros", spending.cost_micros)?;
    Ok(())
}

/// Checks the name of a budget.
///
/// # Errors
///
/// [`Error::InvalidInput`] if it is empty or not a valid [`identifier`].
pub fn budget_name(value: &str) -> Result<&str> {
    run_id("budget", value)
}

/// Checks a budget.
///
/// # Errors
///
/// [`Error::InvalidInput`] if the name is not a valid [`budget_name`], the limit not a valid
/// [`amount`], the scope not a valid [`identifier`], or a window shorter than 1 s or longer than
/// 366 days.
pub fn budget(budget: &Budget) -> Result<()> {
    const WINDOW: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 60 * 60);

    budget_name(&budget.name)?;
    amount("limit", budget.limit.number())?;
    match &budget.scope {
        BudgetScope::Everything => {}
        BudgetScope::Caller(id) | BudgetScope::Skill(id) | BudgetScope::Channel(id) => {
            identifier("scope", id)?;
        }
    }
    match budget.period {
        BudgetPeriod::Window(length) if !WINDOW.contains(&length) => {
            let reason = format!("is {length:?}, not between 1 s and 366 days");
            Err(Error::invalid("window", reason))
        }
        _ => Ok(()),
    }
}

/// Checks a request for a reservation.
///
/// # Errors
///
/// [`Error::InvalidInput`] if the id or the id of the run is empty, if one of the ids is not a
/// valid [`identifier`], or if an amount is not a valid [`amount`].
pub fn reservation(request: &ReservationRequest) -> Result<()> {
    run_id("id", &request.id)?;
    spending(&request.amount)?;
    identifier("caller_id", &request.caller_id)?;
    identifier("skill_id", &request.skill_id)?;
    identifier("channel_id", &request.channel_id)?;
    if let Some(id) = &request.run_id {
        run_id("run_id", id)?;
    }
    Ok(())
}

/// Checks that `parts` together don't exceed the number that includes them.
fn check_parts(
    (whole_field, whole): (&'static str, Option<u64>),
    parts: &[(&'static str, Option<u64>)],
) -> Result<()> {
    let mut left = whole;
    for (field, part) in parts {
        let Some(part) = part else { continue };
        let Some(whole) = whole else {
            let reason = format!("is given, but {whole_field}, which includes it, is not");
            return Err(Error::invalid(field, reason));
        };
        left = left.and_then(|left| left.checked_sub(*part));
        if left.is_none() {
            let reason = match parts {
                [_] => format!("is {part}, more than {whole_field} ({whole}), which includes it"),
                _ => {
                    let names: Vec<_> = parts.iter().map(|(name, _)| *name).collect();
                    let names = names.join(" and ");
                    format!(
                        "is {part}: {names} exceed {whole_field} ({whole}), which includes them"
                    )
                }
            };
            return Err(Error::invalid(field, reason));
        }
    }
    Ok(())
}

/// Returns the microseconds since the Unix epoch, as databases store them; truncates smaller
/// fractions.
pub fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// Rejects numbers that not every program can read, and values nested deeper than `allowed`. It
/// stops at that depth, since a value built in memory can be deep enough to overflow the stack.
fn check_depth(field: &'static str, value: &Value, allowed: usize) -> Result<()> {
    match value {
        Value::Array(_) | Value::Object(_) if allowed == 0 => {
            let reason = format!("is nested deeper than {MAX_JSON_DEPTH} levels");
            Err(Error::invalid(field, reason))
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_depth(field, item, allowed - 1)),
        Value::Object(object) => object
            .values()
            .try_for_each(|member| check_depth(field, member, allowed - 1)),
        // Any crate in the program may enable serde_json's feature `arbitrary_precision`. It allows
        // numbers that programs without the feature can't read.
        Value::Number(number) if number.as_f64().is_none_or(|float| !float.is_finite()) => {
            Err(Error::invalid(
                field,
                format!("contains the number {number}, which is out of range"),
            ))
        }
        _ => Ok(()),
    }
}

fn json_text(field: &'static str, value: &impl Serialize, limits: &Limits) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|err| Error::invalid(field, format!("is not JSON: {err}")))?;
    check_size(field, &text, limits)?;
    Ok(text)
}

fn check_size(field: &'static str, text: &str, limits: &Limits) -> Result<()> {
    if text.len() > limits.value_bytes() {
        return Err(Error::TooLarge {
            field,
            size: text.len(),
            limit: limits.value_bytes(),
        });
    }
    Ok(())
}
