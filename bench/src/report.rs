//! Reports the results with their targets and the saved baseline, as a table and as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::Style;

/// One workload, measured for Runtrail and for another candidate in the same rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) workload: String,
    pub(crate) ours: f64,
    pub(crate) baseline: String,
    pub(crate) theirs: f64,
    pub(crate) unit: Unit,
    /// 2 if Runtrail is twice as fast as the other candidate, or uses half of its memory.
    pub(crate) ratio: f64,
    pub(crate) at_least: Option<f64>,
}

/// The unit of the figures.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) enum Unit {
    /// Operations or rows per second: more is better.
    PerSecond,
    /// MiB of memory: less is better.
    Mebibytes,
    /// Milliseconds: less is better.
    Milliseconds,
}

impl Unit {
    fn text(self, figure: f64) -> String {
        match self {
            Self::PerSecond => rate(figure),
            Self::Mebibytes => format!("{figure:.0} MiB"),
            Self::Milliseconds => format!("{figure:.2} ms"),
        }
    }
}

impl Comparison {
    pub(crate) fn of_rates(workload: String, ours: f64, baseline: &str, theirs: f64) -> Self {
        Self {
            workload,
            ours,
            baseline: baseline.to_owned(),
            theirs,
            unit: Unit::PerSecond,
            ratio: ours / theirs,
            at_least: None,
        }
    }

    /// Compares memory or time with its limit.
    pub(crate) fn with_limit(
        workload: String,
        unit: Unit,
        ours: f64,
        limit: &str,
        max: f64,
    ) -> Self {
        Self {
            workload,
            ours,
            baseline: limit.to_owned(),
            theirs: max,
            unit,
            ratio: max / ours,
            at_least: Some(1.0),
        }
    }

    fn key(&self) -> String {
        format!("{} / {}", self.workload, self.baseline)
    }

    fn verdict(&self) -> &'static str {
        match self.at_least {
            Some(at_least) if self.ratio >= at_least => "yes",
            Some(_) => "NO",
            None => "",
        }
    }
}

/// A ratio below this share of the saved one is marked as worse.
const WORSE: f64 = 0.8;

pub(crate) fn table(comparisons: &[Comparison], baseline: &BTreeMap<String, f64>) -> String {
    let mut table = Builder::default();
    table.push_record([
        "workload",
        "Runtrail",
        "compared with",
        "",
        "ratio",
        "at least",
        "met",
        "before",
    ]);
    for comparison in comparisons {
        let before = baseline.get(&comparison.key());
        let before = before.map_or_else(String::new, |before| {
            let worse = if comparison.ratio < before * WORSE {
                " WORSE"
            } else {
                ""
            };
            format!("{before:.2}{worse}")
        });
        table.push_record([
            comparison.workload.clone(),
            comparison.unit.text(comparison.ours),
            comparison.baseline.clone(),
            comparison.unit.text(comparison.theirs),
            format!("{:.2}", comparison.ratio),
            comparison
                .at_least
                .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            comparison.verdict().to_owned(),
            before,
        ]);
    }
    table.build().with(Style::markdown()).to_string()
}

/// Formats fast operations as a rate, and slow ones as a duration.
fn rate(per_second: f64) -> String {
    if per_second >= 10_000.0 {
        format!("{:.1}k/s", per_second / 1e3)
    } else if per_second >= 1_000.0 {
        format!("{per_second:.0}/s, {:.0} µs", 1e6 / per_second)
    } else {
        format!("{:.2} ms", 1e3 / per_second)
    }
}

/// Loads the saved ratios.
pub(crate) fn load_baseline(file: &Path) -> Result<BTreeMap<String, f64>> {
    let Ok(text) = std::fs::read_to_string(file) else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

pub(crate) fn save_baseline(file: &Path, comparisons: &[Comparison]) -> Result<()> {
    let mut ratios = load_baseline(file)?;
    let rounded = |ratio: f64| (ratio * 100.0).round() / 100.0;
    ratios.extend(comparisons.iter().map(|it| (it.key(), rounded(it.ratio))));
    write(file, &ratios)
}

pub(crate) fn write(file: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(file, text).with_context(|| file.display().to_string())
}
