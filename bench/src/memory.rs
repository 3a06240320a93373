//! The memory that a busy store uses.

use anyhow::Result;

use crate::child::Child;
use crate::report::{Comparison, Unit};
use crate::{Comparisons, Setup};

const NAME: &str = "SQLite, memory of 32 busy callers";
const LIMIT: f64 = 60.0;
const CALLERS: usize = 32;
const RUNS: usize = 200;

pub(crate) fn measure(setup: &Setup) -> Result<Comparisons> {
    if !setup.is_selected(NAME) {
        return Ok(Vec::new());
    }
    let peak = |callers| {
        let child = Child::Record {
            file: setup.file("memory.db"),
            callers,
            runs: RUNS,
        };
        child.measure().map(|outcome| outcome.mebibytes)
    };
    let idle = peak(0)?;
    let ours = peak(CALLERS)? - idle;
    let limit = "a limit above an idle process";
    Ok(vec![Comparison::with_limit(
        NAME.into(),
        Unit::Mebibytes,
        ours,
        limit,
        LIMIT,
    )])
}
