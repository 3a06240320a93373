use serde_json::{Map, Value};

/// Named values: the attributes of a received span, or the fields of a span of `tracing`.
pub trait Attributes {
    /// Returns the value with this name.
    fn get(&self, name: &str) -> Option<&Value>;

    /// Returns the first text under these names that isn't empty.
    fn text(&self, names: &[&str]) -> Option<&str> {
        let texts = names.iter().filter_map(|name| self.get(name)?.as_str());
        texts.into_iter().find(|text| !text.is_empty())
    }

    /// Returns the first count under these names that can be stored. Some senders send numbers as
    /// texts or floats.
    fn number(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| count(self.get(name)?))
    }
}

impl Attributes for Map<String, Value> {
    fn get(&self, name: &str) -> Option<&Value> {
        Map::get(self, name)
    }
}

/// Returns a text that is a JSON object or array as such. Other texts stay texts: the answer `1` of
/// a model isn't a number.
pub(crate) fn json_or_text(value: Value) -> Value {
    match value {
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        value => value,
    }
}

/// Returns a text that is any JSON as such, as far as it can be written again without a loss.
pub(crate) fn any_json_or_text(value: Value) -> Value {
    let Value::String(text) = &value else {
        return value;
    };
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) if number.to_string() != *text => value,
        Ok(json) => json,
        Err(_) => value,
    }
}

fn count(value: &Value) -> Option<u64> {
    let count = match value {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse()
                .ok()
                .or_else(|| whole(text.parse::<f64>().ok()?))
        }
        _ => None,
    };
    count.filter(|count| i64::try_from(*count).is_ok())
}

fn whole(number: f64) -> Option<u64> {
    // Above 2^53, a float doesn't represent every whole number.
    const RANGE: std::ops::RangeInclusive<f64> = 0.0..=9_007_199_254_740_992.0;

    (RANGE.contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

/// Returns an amount that may be a text. It is finite and not negative.
pub(crate) fn amount(value: &Value) -> Option<f64> {
    let amount = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    amount.filter(|amount| amount.is_finite() && *amount >= 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_count_may_be_a_number_or_a_text() {
        for value in [json!(120), json!(120.0), json!("120"), json!(" 120.0 ")] {
            assert_eq!(count(&value), Some(120), "{value}");
        }
        for value in [
            json!(-1),
            json!(0.5),
            json!(u64::MAX),
            json!(1e300),
            json!("NaN"),
            json!("inf"),
            json!(""),
            json!(true),
            json!(null),
        ] {
            assert_eq!(count(&value), None, "{value}");
        }
    }

    #[test]
    fn an_amount_is_finite_and_not_negative() {
        assert_eq!(amount(&json!("0.0875")), Some(0.0875));
        for value in [json!("-1"), json!(-0.5), json!("NaN"), json!("1e999")] {
            assert_eq!(amount(&value), None, "{value}");
        }
    }
}
