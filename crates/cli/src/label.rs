//! Labels on the command line.

use runtrail::{LabelFilter, rules};

/// Parses `KEY=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((checked_key(key)?, checked_value(value)?))
}

/// Parses a condition: `KEY=VALUE`, `KEY!=VALUE` or `KEY`.
pub(crate) fn condition(text: &str) -> Result<LabelFilter, String> {
    let Some((key, value)) = text.split_once('=') else {
        return Ok(LabelFilter::Exists {
            key: checked_key(text)?,
        });
    };
    let values = vec![checked_value(value)?];
    Ok(match key.strip_suffix('!') {
        Some(key) => LabelFilter::NoneOf {
            key: checked_key(key)?,
            values,
        },
        None => LabelFilter::AnyOf {
            key: checked_key(key)?,
            values,
        },
    })
}

fn checked_key(key: &str) -> Result<String, String> {
    let key = rules::label_key(key).map_err(|err| err.to_string())?;
    Ok(key.to_owned())
}

fn checked_value(value: &str) -> Result<String, String> {
    let value = rules::identifier("label", value).map_err(|err| err.to_string())?;
    Ok(value.to_owned())
}
