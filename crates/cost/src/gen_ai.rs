use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use genai_prices::{Calculator, ErrorKind, PriceRequest, Usage, UsageKey};

use crate::{PricedCalls, Prices};

/// The prices of the large providers, from the crate [`genai_prices`].
///
/// They are estimates: discounts, batches and service tiers aren't known. A price that depends on
/// the time of day is that of midnight in UTC.
///
/// A provider that the list doesn't know by its name is found by the name of the model.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct GenAiPrices;

impl GenAiPrices {
    /// Returns the prices. The first use of them decodes the list, which takes some tens of
    /// milliseconds.
    pub fn new() -> Self {
        Self
    }
}

/// The numbers of input tokens above which a price changes. `genai_prices` doesn't publish them; a
/// test compares them with its list.
const TIERS: [u64; 9] = [
    32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288,
];

/// The days, in UTC, on which a price changes; see [`TIERS`].
const CHANGES: [(i32, u32, u32); 29] = [
    (2025, 5, 22),
    (2025, 6, 10),
    (2025, 12, 2),
    (2025, 12, 18),
    (2026, 1, 5),
    (2026, 3, 13),
    (2026, 3, 16),
    (2026, 4, 30),
    (2026, 6, 16),
    (2026, 6, 23),
    (2026, 7, 30),
    (2026, 8, 5),
    (2026, 8, 11),
    (2026, 8, 17),
    (2026, 8, 21),
    (2026, 8, 27),
    (2026, 9, 1),
    (2026, 9, 10),
    (2026, 9, 22),
    (2026, 9, 28),
    (2026, 10, 7),
    (2026, 10, 12),
    (2026, 10, 14),
    (2026, 10, 15),
    (2026, 10, 18),
    (2026, 10, 19),
    (2026, 10, 20),
    (2026, 12, 1),
    (2027, 1, 1),
];

impl Prices for GenAiPrices {
    fn cost(&self, calls: &PricedCalls<'_>) -> Option<u64> {
        let count = calls.totals.calls as f64;
        // The tier of an average call is that of each call.
        let usage = average(calls);
        let request = PriceRequest::new(calls.model?, &usage)
            // The earliest time of chrono is before that of the system on some platforms.
            .with_timestamp(SystemTime::from(calls.at.max(DateTime::UNIX_EPOCH)));
        let prices = Calculator::bundled();
        let price = match calls.provider {
            Some(provider) => match prices.calculate(&request.clone().with_provider_id(provider)) {
                Err(err) if err.kind() == ErrorKind::ProviderNotFound => prices.calculate(&request),
                price => price,
            },
            None => prices.calculate(&request),
        };
        let micros = price.ok()?.total_price * count * 1e6;
        // Saturates.
        Some(micros.round() as u64)
    }

    fn input_tiers(&self) -> Vec<u64> {
        TIERS.iter().map(|tokens| tokens + 1).collect()
    }

    fn changes(&self) -> Vec<DateTime<Utc>> {
        let days = CHANGES
            .iter()
            .filter_map(|&(year, month, day)| NaiveDate::from_ymd_opt(year, month, day));
        days.map(|day| day.and_time(NaiveTime::MIN).and_utc())
            .collect()
    }
}

/// Returns the usage of an average call.
fn average(calls: &PricedCalls<'_>) -> Usage {
    let totals = &calls.totals;
    let count = totals.calls.max(1) as f64;
    // A call may report cached tokens only.
    let input = totals.input_tokens.max(calls.cached_tokens());
    Usage::from([
        (UsageKey::INPUT_TOKENS, input as f64 / count),
        (
            UsageKey::CACHE_READ_TOKENS,
            totals.cache_read_tokens as f64 / count,
        ),
        (
            UsageKey::CACHE_WRITE_TOKENS,
            totals.cache_write_tokens as f64 / count,
        ),
        (UsageKey::OUTPUT_TOKENS, totals.output_tokens as f64 / count),
    ])
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use runtrail_audit::CallStatistics;

    use super::*;

    fn calls(provider: Option<&'static str>, model: &'static str) -> PricedCalls<'static> {
        let mut totals = CallStatistics::default();
        totals.calls = 4;
        totals.input_tokens = 400_000;
        totals.output_tokens = 40_000;
        let at = NaiveDate::from_ymd_opt(2025, 11, 1).unwrap();
        let at = at.and_time(NaiveTime::MIN).and_utc();
        PricedCalls::new(provider, Some(model), at, None, totals)
    }

    #[test]
    fn a_known_model_has_a_price() {
        // 3 dollars for a million input tokens, and 15 for a million output tokens.
        let expected = Some(1_200_000 + 600_000);
        let model = "claude-sonnet-4-5-20250929";
        assert_eq!(GenAiPrices.cost(&calls(Some("anthropic"), model)), expected);
        assert_eq!(GenAiPrices.cost(&calls(Some("a proxy"), model)), expected);
        assert_eq!(GenAiPrices.cost(&calls(None, model)), expected);
    }

    #[test]
    fn cache_reads_are_cheaper() {
        let mut calls = calls(Some("anthropic"), "claude-sonnet-4-5-20250929");
        calls.totals.cache_read_tokens = 400_000;
        assert_eq!(GenAiPrices.cost(&calls), Some(120_000 + 600_000));
    }

    #[test]
    fn an_unknown_model_has_no_price() {
        assert_eq!(
            GenAiPrices.cost(&calls(Some("anthropic"), "sonnet of Shakespeare")),
            None
        );
        let mut nameless = calls(Some("anthropic"), "");
        nameless.model = None;
        assert_eq!(GenAiPrices.cost(&nameless), None);
    }

    /// Compares the prices of every model at both ends, and in the middle, of each tier and period.
    #[test]
    fn no_price_changes_within_a_tier_or_period() {
        let price = |provider: &str, model: &str, at: DateTime<Utc>, input: u64| {
            let usage = Usage::from([(UsageKey::INPUT_TOKENS, input as f64)]);
            let request = PriceRequest::new(model, &usage)
                .with_provider_id(provider)
                .with_timestamp(SystemTime::from(at));
            let price = Calculator::bundled().calculate(&request);
            price.map_or(-1.0, |price| price.total_price)
        };
        let equal = |left: f64, right: f64| (left - right).abs() <= 1e-9 * left.abs().max(1e-9);
        let mut tiers = vec![1];
        tiers.extend(GenAiPrices.input_tiers());
        tiers.push(4_000_001);
        let changes = GenAiPrices.changes();
        let mut periods = vec![changes[0] - TimeDelta::days(600)];
        periods.extend(&changes);
        periods.push(changes[changes.len() - 1] + TimeDelta::days(600));
        let (mut models, mut tiered) = (0, 0);
        for provider in Calculator::bundled().providers() {
            for model in provider.models() {
                let (provider, model) = (provider.id(), model.id());
                models += 1;
                let now = periods[periods.len() - 2];
                for tier in tiers.windows(2) {
                    let of = |tokens| price(provider, model, now, tokens);
                    let (begin, end) = (tier[0], tier[1] - 1);
                    let middle = begin.midpoint(end);
                    // A call may have a price besides that of its tokens.
                    let expected = match end - begin {
                        0 => of(begin),
                        width => {
                            let share = (middle - begin) as f64 / width as f64;
                            of(begin) + (of(end) - of(begin)) * share
                        }
                    };
                    assert!(equal(of(middle), expected), "{provider} {model}: {tier:?}");
                    let jump = of(tier[1]) - of(end);
                    tiered += usize::from(jump > 0.01 * of(end));
                }
                for period in periods.windows(2) {
                    let days = (period[1] - period[0]).num_days();
                    let begin = price(provider, model, period[0], 1_000);
                    let last_day = period[0] + TimeDelta::days(days - 1);
                    let end = price(provider, model, last_day, 1_000);
                    assert!(equal(begin, end), "{provider} {model}: {period:?}");
                }
            }
        }
        assert!(models > 1_000 && tiered > 50, "{models} {tiered}");
    }
}
