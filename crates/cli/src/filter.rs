use chrono::{DateTime, Utc};
use clap::Args;
use runtrail::{Bounds, LabelFilter, Parent, RunQuery, RunStatus};

use crate::label;
use crate::time::Time;

const HEADING: &str = "Filters";

/// Selects runs. Every condition that is given must match.
#[derive(Args)]
pub(crate) struct FilterArguments {
    /// Only runs of this skill.
    #[arg(long, help_heading = HEADING)]
    skill: Option<String>,
    /// Only runs for this caller.
    #[arg(long, help_heading = HEADING)]
    caller: Option<String>,
    /// Only runs from this channel.
    #[arg(long, help_heading = HEADING)]
    channel: Option<String>,
    /// Only runs with this status: running, ok, error, timeout, dry_run, interrupted, or a custom
    /// one.
    #[arg(long, help_heading = HEADING)]
    status: Option<String>,
    /// Only runs without a parent, or with a parent that isn't stored.
    #[arg(long, help_heading = HEADING)]
    top_level: bool,
    /// Only runs that started at TIME or later: RFC 3339, a date (0:00 UTC), or an age such as 2h
    /// or 7d.
    #[arg(long, value_name = "TIME", help_heading = HEADING)]
    since: Option<Time>,
    /// Only runs that started at TIME or earlier: RFC 3339, a date (0:00 UTC), or an age such as 2h
    /// or 7d.
    #[arg(long, value_name = "TIME", help_heading = HEADING)]
    until: Option<Time>,
    /// Only running runs that started before TIME (such as 1h), have had no event since, and have
    /// no living owner.
    #[arg(long, value_name = "TIME", help_heading = HEADING)]
    stale: Option<Time>,
    /// Only runs with this label; can be given several times.
    ///
    /// KEY alone accepts any value, and KEY!=VALUE excludes a value. If KEY=VALUE is given several
    /// times for the same key, one of the values has to match.
    #[arg(
        long = "label",
        value_name = "KEY[=VALUE]",
        value_parser = label::condition,
        help_heading = HEADING
    )]
    labels: Vec<LabelFilter>,
    /// Include dry runs.
    #[arg(long, help_heading = HEADING)]
    include_dry_run: bool,
}

impl FilterArguments {
    pub(crate) fn resolve(self, now: DateTime<Utc>) -> RunQuery {
        // `--status dry_run` implies `--include-dry-run`.
        let by_status = self.status.as_deref() == Some(RunStatus::DRY_RUN.as_str());
        let mut query = RunQuery::new();
        query.statuses = self.status.map(RunStatus::from).into();
        query.skills = self.skill.into();
        query.callers = self.caller.into();
        query.channels = self.channel.into();
        if self.top_level {
            query.parent = Parent::NoneStored;
        }
        let time = |time: Option<Time>| time.map(|time| time.resolve(now));
        query.started = Bounds::new(time(self.since), time(self.until));
        query.stale_since = time(self.stale);
        query.labels = LabelFilter::combine(self.labels);
        query.include_dry_run = self.include_dry_run || by_status;
        query
    }
}
