use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Deserializer};

use crate::{PricedCalls, Prices};

/// Prices of your own, as JSON.
///
/// All prices are US dollars for a million tokens. The first entry that matches a call applies.
///
/// ```
/// use runtrail_cost::PriceFile;
///
/// let prices = PriceFile::parse(
///     r#"{
///       "prices": [
///         {
///           "provider": "anthropic",
///           "model": "claude-sonnet-4-5*",
///           "from": "2025-09-29",
///           "input": 3,
///           "cache_read": 0.3,
///           "cache_write": 3.75,
///           "output": 15,
///           "above": [
///             {"input_tokens": 200000, "input": 6, "cache_read": 0.6, "cache_write": 7.5, "output": 22.5}
///           ]
///         },
///         {"model": "local-llama", "input": 0, "output": 0}
///       ]
///     }"#,
/// )?;
/// # let _ = prices;
/// # Ok::<(), runtrail_cost::PriceFileError>(())
/// ```
///
/// | member | meaning |
/// | --- | --- |
/// | `model` | the model, or the beginning of its name, followed by `*` |
/// | `provider` | the provider; without it, any provider |
/// | `from`, `until` | when the price begins, and when it ends: a date (midnight in UTC) or a time in RFC 3339; without them, no limit |
/// | `input`, `output` | the price of input and output tokens; reasoning is output |
/// | `cache_read`, `cache_write` | the price of input tokens read from a cache, or written to one; without it, that of input |
/// | `above` | other prices for calls with more than `input_tokens` input tokens, for all tokens of the call |
#[derive(Clone, Debug)]
pub struct PriceFile(Vec<Entry>);

/// Why a price file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriceFileError {
    /// It isn't JSON of the expected form.
    #[error("the price file can't be read")]
    Json(#[from] serde_json::Error),
    /// An entry contradicts itself.
    #[error("price {number} in the price file {reason}")]
    Entry {
        /// The number of the entry, from 1.
        number: usize,
        /// What is wrong with it, as a phrase that follows the entry.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    prices: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    model: String,
    provider: Option<String>,
    #[serde(default, deserialize_with = "time")]
    from: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    input: Price,
    cache_read: Option<Price>,
    cache_write: Option<Price>,
    output: Price,
    #[serde(default)]
    above: Vec<Tier>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier {
    input_tokens: u64,
    input: Price,
    cache_read: Option<Price>,
    cache_write: Option<Price>,
    output: Price,
}

/// The price of a million tokens in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "f64")]
struct Price(u64);

impl TryFrom<f64> for Price {
    type Error = &'static str;

    fn try_from(dollars: f64) -> Result<Self, Self::Error> {
        // A higher price is a mistake.
        const MAX_DOLLARS: f64 = 1e9;

        match (0.0..=MAX_DOLLARS).contains(&dollars) {
            true => Ok(Self((dollars * 1e6).round() as u64)),
            false => Err("a price must be between 0 and 1000000000 dollars"),
        }
    }
}

impl PriceFile {
    /// Reads prices.
    ///
    /// # Errors
    ///
    /// [`Json`](PriceFileError::Json) for anything but the described JSON, such as an unknown member
    /// or a negative price; [`Entry`](PriceFileError::Entry) for an entry that never applies.
    pub fn parse(json: &str) -> Result<Self, PriceFileError> {
        let Document { mut prices } = serde_json::from_str(json)?;
        for (index, entry) in prices.iter_mut().enumerate() {
            entry.check().map_err(|reason| PriceFileError::Entry {
                number: index + 1,
                reason,
            })?;
            entry.above.sort_by_key(|tier| tier.input_tokens);
        }
        Ok(Self(prices))
    }
}

impl Entry {
    fn check(&self) -> Result<(), &'static str> {
        if self.model.is_empty() {
            return Err("has an empty model");
        }
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            return Err("ends before it begins");
        }
        let mut tiers: Vec<_> = self.above.iter().map(|tier| tier.input_tokens).collect();
        tiers.sort_unstable();
        match tiers.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err("has two prices above the same number of input tokens"),
            false => Ok(()),
        }
    }

    fn applies_to(&self, calls: &PricedCalls<'_>) -> bool {
        let is_model = calls
            .model
            .is_some_and(|model| match self.model.strip_suffix('*') {
                Some(beginning) => model.starts_with(beginning),
                None => model == self.model,
            });
        let is_provider = match &self.provider {
            Some(provider) => calls.provider == Some(provider),
            None => true,
        };
        is_model
            && is_provider
            && self.from.is_none_or(|from| from <= calls.at)
            && self.until.is_none_or(|until| calls.at < until)
    }

    /// Returns the prices of the tier in which these calls are.
    fn tier(&self, calls: &PricedCalls<'_>) -> Tier {
        let base = Tier {
            input_tokens: 0,
            input: self.input,
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            output: self.output,
        };
        let tokens = calls.input_tier.unwrap_or_default();
        let above = self.above.iter().rev();
        let mut above = above.filter(|tier| tokens > tier.input_tokens);
        above.next().copied().unwrap_or(base)
    }
}

impl Tier {
    fn cost(&self, calls: &PricedCalls<'_>) -> u64 {
        let of = |tokens: u64, price: Price| u128::from(tokens) * u128::from(price.0);
        let totals = &calls.totals;
        let cost = of(calls.uncached_tokens(), self.input)
            + of(
                totals.cache_read_tokens,
                self.cache_read.unwrap_or(self.input),
            )
            + of(
                totals.cache_write_tokens,
                self.cache_write.unwrap_or(self.input),
            )
            + of(totals.output_tokens, self.output);
        let micros = (cost + 500_000) / 1_000_000;
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

impl Prices for PriceFile {
    fn cost(&self, calls: &PricedCalls<'_>) -> Option<u64> {
        let entry = self.0.iter().find(|entry| entry.applies_to(calls))?;
        Some(entry.tier(calls).cost(calls))
    }

    fn input_tiers(&self) -> Vec<u64> {
        let tiers = self.0.iter().flat_map(|entry| &entry.above);
        tiers
            .map(|tier| tier.input_tokens.saturating_add(1))
            .collect()
    }

    fn changes(&self) -> Vec<DateTime<Utc>> {
        let times = self.0.iter().flat_map(|entry| [entry.from, entry.until]);
        times.flatten().collect()
    }
}

/// Reads a date or a time.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(Some(date.and_time(chrono::NaiveTime::MIN).and_utc()));
    }
    let time = DateTime::parse_from_rfc3339(&text);
    time.map(|time| Some(time.to_utc())).map_err(|_| {
        serde::de::Error::custom("expected a date such as 2026-01-31, or a time in RFC 3339")
    })
}

#[cfg(test)]
mod tests {
    use runtrail_audit::CallStatistics;

    use super::*;

    const PRICES: &str = r#"{"prices": [
        {"provider": "anthropic", "model": "sonnet*", "until": "2026-02-01",
         "input": 3, "cache_read": 0.3, "cache_write": 3.75, "output": 15,
         "above": [{"input_tokens": 200000, "input": 6, "output": 22.5}]},
        {"model": "sonnet*", "from": "2026-02-01T00:00:00Z", "input": 0.000001, "output": 1},
        {"model": "free", "input": 0, "output": 0}
    ]}"#;

    fn cost(provider: &str, model: &str, at: &str, tier: Option<u64>) -> Option<u64> {
        let mut totals = CallStatistics::default();
        totals.calls = 2;
        totals.input_tokens = 1_000_000;
        totals.cache_read_tokens = 400_000;
        totals.cache_write_tokens = 100_000;
        totals.output_tokens = 10_000;
        let at = DateTime::parse_from_rfc3339(at).unwrap().to_utc();
        let calls = PricedCalls::new(Some(provider), Some(model), at, tier, totals);
        PriceFile::parse(PRICES).unwrap().cost(&calls)
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let micros = cost("anthropic", "sonnet-4", "2026-01-31T23:59:59Z", None);
        assert_eq!(micros, Some(1_500_000 + 120_000 + 375_000 + 150_000));
    }

    #[test]
    fn cached_tokens_without_a_price_of_their_own_cost_as_much_as_input() {
        let micros = cost(
            "anthropic",
            "sonnet-4",
            "2026-01-31T23:59:59Z",
            Some(200_001),
        );
        assert_eq!(micros, Some(6_000_000 + 225_000));
    }

    #[test]
    fn the_price_of_the_time_of_the_call_applies() {
        let micros = cost("anthropic", "sonnet-4", "2026-02-01T00:00:00Z", None);
        // 1 millionth of a dollar for a million input tokens.
        assert_eq!(micros, Some(1 + 10_000));
    }

    #[test]
    fn an_unknown_model_or_provider_has_no_price() {
        assert_eq!(
            cost("anthropic", "opus", "2026-01-01T00:00:00Z", None),
            None
        );
        assert_eq!(
            cost("other", "sonnet-4", "2026-01-01T00:00:00Z", None),
            None
        );
        assert_eq!(cost("any", "free", "2026-01-01T00:00:00Z", None), Some(0));
        assert_eq!(cost("any", "free-2", "2026-01-01T00:00:00Z", None), None);
    }

    #[test]
    fn tiers_and_changes_are_those_of_all_entries() {
        let prices = PriceFile::parse(PRICES).unwrap();
        assert_eq!(prices.input_tiers(), [200_001]);
        let change = DateTime::parse_from_rfc3339("2026-02-01T00:00:00Z").unwrap();
        assert_eq!(prices.changes(), [change.to_utc(), change.to_utc()]);
    }

    #[test]
    fn a_contradictory_price_is_refused() {
        let refused = |entry: &str| {
            let json = format!(r#"{{"prices": [{entry}]}}"#);
            let error = PriceFile::parse(&json).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}; {}", source.unwrap_or_default())
        };
        let error = refused(r#"{"model": "", "input": 1, "output": 1}"#);
        assert_eq!(error, "price 1 in the price file has an empty model; ");
        let error = refused(
            r#"{"model": "a", "from": "2026-02-01", "until": "2026-01-01", "input": 1, "output": 1}"#,
        );
        assert_eq!(error, "price 1 in the price file ends before it begins; ");
        let tier = r#"{"input_tokens": 5, "input": 1, "output": 1}"#;
        let error = refused(&format!(
            r#"{{"model": "a", "input": 1, "output": 1, "above": [{tier}, {tier}]}}"#
        ));
        assert!(
            error.contains("two prices above the same number"),
            "{error}"
        );
        for entry in [
            r#"{"model": "a", "input": -1, "output": 1}"#,
            r#"{"model": "a", "input": 1e300, "output": 1}"#,
            r#"{"model": "a", "input": 1}"#,
            r#"{"model": "a", "input": 1, "output": 1, "form": "2026-01-01"}"#,
            r#"{"model": "a", "input": 1, "output": 1, "from": "yesterday"}"#,
        ] {
            let error = refused(entry);
            assert!(
                error.starts_with("the price file can't be read; "),
                "{error}"
            );
        }
    }
}
