//! The bucket that contains a time, as SQL.

use runtrail_audit::{Buckets, rules};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait};

/// Adjacent buckets of equal width, or a single bucket. Days, for example, are few series: all days
/// between two changes of the clocks are one.
struct Series {
    start: i64,
    /// The width of each bucket; `None` for a single one.
    width: Option<i64>,
}

/// Returns the start of the bucket that contains a time; NULL before the first bucket.
pub(crate) fn start_of_bucket(buckets: &Buckets, time: &Expr) -> Expr {
    let series = series(buckets);
    let mut start = CaseStatement::new();
    if let Some(first) = series.first() {
        start = start.case(time.clone().gte(first.start), start_in(&series, time));
    }
    start.into()
}

fn series(buckets: &Buckets) -> Vec<Series> {
    let starts: Vec<i64> = buckets
        .starts()
        .iter()
        .copied()
        .map(rules::micros)
        .collect();
    let ends = starts.iter().skip(1);
    let buckets: Vec<_> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| (*start, end - start))
        .collect();
    let mut all = Vec::new();
    for equal in buckets.chunk_by(|(_, width), (_, next)| width == next) {
        all.extend(equal.first().map(|&(start, width)| Series {
            start,
            width: (equal.len() > 1).then_some(width),
        }));
    }
    // The last bucket has no end.
    all.extend(starts.last().map(|&start| Series { start, width: None }));
    all
}

/// Finds the series by bisection, so that thousands of them aren't compared with each time.
fn start_in(series: &[Series], time: &Expr) -> Expr {
    let (earlier, later) = series.split_at(series.len() / 2);
    match (earlier, later) {
        ([], [only, ..]) => only.start_of_bucket(time),
        (_, [first, ..]) => CaseStatement::new()
            .case(time.clone().lt(first.start), start_in(earlier, time))
            .finally(start_in(later, time))
            .into(),
        (_, []) => Expr::val(None::<i64>),
    }
}

impl Series {
    fn start_of_bucket(&self, time: &Expr) -> Expr {
        match self.width {
            Some(width) => {
                let elapsed = time.clone().sub(self.start);
                time.clone().sub(elapsed.modulo(width))
            }
            // A literal may be a smaller integer.
            None => Expr::val(self.start).cast_as("bigint"),
        }
    }
}
