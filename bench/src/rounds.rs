//! Rounds in which each candidate has a turn, so a slow period of the machine affects all of them.

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

use crate::report::Comparison;

/// Performs a workload once; returns its rate per second.
pub(crate) type Turn<'a> = Box<dyn FnMut() -> LocalBoxFuture<'a, Result<f64>> + 'a>;

pub(crate) fn turn<'a, F>(mut work: impl FnMut() -> F + 'a) -> Turn<'a>
where
    F: Future<Output = Result<f64>> + 'a,
{
    Box::new(move || Box::pin(work()))
}

/// Another candidate for the same work, with the target for Runtrail's ratio.
pub(crate) struct Baseline<'a> {
    pub(crate) name: &'a str,
    pub(crate) at_least: Option<f64>,
    pub(crate) turn: Turn<'a>,
}

impl<'a> Baseline<'a> {
    pub(crate) fn new(name: &'a str, at_least: impl Into<Option<f64>>, turn: Turn<'a>) -> Self {
        Self {
            name,
            at_least: at_least.into(),
            turn,
        }
    }
}

pub(crate) async fn compare(
    rounds: usize,
    workload: &str,
    mut our_turn: Turn<'_>,
    mut baselines: Vec<Baseline<'_>>,
) -> Result<Vec<Comparison>> {
    let mut our_rates = Vec::new();
    let mut rates = vec![Vec::new(); baselines.len()];
    for _ in 0..rounds {
        our_rates.push(our_turn().await?);
        for (baseline, rates) in baselines.iter_mut().zip(&mut rates) {
            rates.push((baseline.turn)().await?);
        }
    }
    let ours = median(&mut our_rates);
    let comparisons = baselines.iter().zip(&mut rates).map(|(baseline, rates)| {
        let theirs = median(rates);
        Comparison {
            at_least: baseline.at_least,
            ..Comparison::of_rates(workload.to_owned(), ours, baseline.name, theirs)
        }
    });
    Ok(comparisons.collect())
}

pub(crate) fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
