use serde::{Deserialize, Serialize};

/// The sum and the percentiles of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Durations {
    /// The number of durations.
    pub count: u64,
    /// Their sum in microseconds; at most [`u64::MAX`].
    pub sum_micros: u64,
    /// Their percentiles; `None` without any duration.
    pub percentiles: Option<Percentiles>,
}

/// Percentiles in microseconds, by nearest rank: the 95th percentile is the smallest duration that
/// at least 95 % of all durations don't exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Percentiles {
    /// The median.
    pub p50_micros: u64,
    /// The 90th percentile.
    pub p90_micros: u64,
    /// The 95th percentile.
    pub p95_micros: u64,
    /// The 99th percentile.
    pub p99_micros: u64,
}

impl Durations {
    /// Summarises durations in microseconds, in any order.
    ///
    /// ```
    /// use runtrail_audit::Durations;
    ///
    /// let durations = Durations::of((1..=100).collect());
    /// assert_eq!(durations.sum_micros, 5_050);
    /// assert_eq!(durations.percentiles.map(|it| it.p95_micros), Some(95));
    /// ```
    pub fn of(mut micros: Vec<u64>) -> Self {
        let sum = micros
            .iter()
            .fold(0_u64, |sum, next| sum.saturating_add(*next));
        Self {
            count: micros.len() as u64,
            sum_micros: sum,
            percentiles: Percentiles::of(&mut micros),
        }
    }
}

impl Percentiles {
    /// Each selection leaves the greater durations behind it, in which the next one continues.
    fn of(micros: &mut [u64]) -> Option<Self> {
        let count = micros.len();
        let mut selected = 0;
        let mut nearest = |percent: usize| {
            let place = (count * percent).div_ceil(100).checked_sub(1)?;
            let (_, nearest, _) = micros[selected..].select_nth_unstable(place - selected);
            selected = place;
            Some(*nearest)
        };
        Some(Self {
            p50_micros: nearest(50)?,
            p90_micros: nearest(90)?,
            p95_micros: nearest(95)?,
            p99_micros: nearest(99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        for count in 1..=400_usize {
            // In a scattered order, with repeated values.
            let micros: Vec<u64> = (0..count).map(|n| (n * 7_919 % count / 3) as u64).collect();
            let mut sorted = micros.clone();
            sorted.sort();
            let nearest = |percent: usize| {
                let is_enough = |n: &usize| 100 * n >= count * percent;
                sorted[(1..).find(is_enough).unwrap() - 1]
            };
            let expected = Percentiles {
                p50_micros: nearest(50),
                p90_micros: nearest(90),
                p95_micros: nearest(95),
                p99_micros: nearest(99),
            };
            assert_eq!(Durations::of(micros).percentiles, Some(expected), "{count}");
        }
        assert_eq!(Durations::of(Vec::new()), Durations::default());
    }

    #[test]
    fn a_sum_saturates() {
        assert_eq!(Durations::of(vec![u64::MAX, 2]).sum_micros, u64::MAX);
    }
}
