//! The filters of runs, as parameters of a URL.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use runtrail_audit::{Bounds, LabelFilter, ListOrder, Parent, RunQuery, RunStatus, rules};

use crate::error::{Failure, Result};
use crate::format;
use crate::url::Parameters;

/// A filter of runs, as a visitor gives it.
///
/// Ages such as `24h` are resolved when a filter is parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    pub(crate) statuses: Vec<String>,
    pub(crate) skills: Vec<String>,
    pub(crate) callers: Vec<String>,
    pub(crate) channels: Vec<String>,
    /// Conditions such as `env=prod`, `env!=test` or `env`.
    pub(crate) labels: Vec<String>,
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) to: Option<DateTime<Utc>>,
    /// The ages by which `from` and `to` were given, if they were, and the times that they meant.
    pub(crate) ages: Vec<(DateTime<Utc>, String)>,
    /// How the ids begin.
    pub(crate) id: String,
    pub(crate) show: Show,
}

/// Which runs are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Show {
    /// All if they are selected by more than their time, else only the top-level ones. A search
    /// for a skill would otherwise miss the runs that other runs have started.
    #[default]
    Fitting,
    /// Those that no other stored run has started.
    TopLevel,
    All,
}

/// The name of a parameter, and its description for the JSON API.
pub(crate) type Parameter = (&'static str, &'static str);

/// The parameter with the position in a list.
pub(crate) const CURSOR: &str = "cursor";

/// The parameter with the order of a list of events.
pub(crate) const ORDER: &str = "order";

pub(crate) const STATUS: &str = "status";
pub(crate) const SKILL: &str = "skill";
pub(crate) const CALLER: &str = "caller";
pub(crate) const CHANNEL: &str = "channel";
pub(crate) const LABEL: &str = "label";
pub(crate) const FROM: &str = "from";
pub(crate) const TO: &str = "to";
pub(crate) const ID: &str = "id";
pub(crate) const SHOW: &str = "show";

/// The parameters of a filter.
pub(crate) const PARAMETERS: [Parameter; 9] = [
    (
        STATUS,
        "The status: running, ok, error, timeout, dry_run, interrupted, or a custom one. Like \
         skill, caller and channel, it may be repeated; a run then has one of the values.",
    ),
    (SKILL, "The skill."),
    (CALLER, "The caller."),
    (CHANNEL, "The channel."),
    (
        LABEL,
        "A condition on a label: key=value, key!=value, or key for any value. If key=value is \
         repeated for a key, the run has one of the values. Other conditions must all hold.",
    ),
    (
        FROM,
        "The earliest start of the run: RFC 3339, a date or a time in UTC, or an age such as 2h \
         or 7d.",
    ),
    (TO, "The latest start of the run, in the same formats."),
    (ID, "How the id of the run begins."),
    (
        SHOW,
        "top for the runs that no other stored run has started, or all. By default, a list without \
         filters other than the time shows the former, and everything else all runs.",
    ),
];

impl Filters {
    pub(crate) fn parse(parameters: &Parameters, now: DateTime<Utc>) -> Result<Self> {
        let all = |name| parameters.all(name).map(str::to_owned).collect();
        let time = |name| {
            let text = parameters.first(name);
            text.map(|text| time(text, now)).transpose()
        };
        let as_age = |name| {
            let text = parameters.first(name)?.trim();
            Some((now.checked_sub_signed(age(text)?)?, text.to_owned()))
        };
        let labels: Vec<String> = all(LABEL);
        labels.iter().try_for_each(|text| label(text).map(drop))?;
        Ok(Self {
            statuses: all(STATUS),
            skills: all(SKILL),
            callers: all(CALLER),
            channels: all(CHANNEL),
            labels,
            from: time(FROM)?,
            to: time(TO)?,
            ages: [FROM, TO].into_iter().filter_map(as_age).collect(),
            id: parameters.first(ID).unwrap_or_default().trim().to_owned(),
            show: match parameters.first(SHOW) {
                None => Show::Fitting,
                Some("top") => Show::TopLevel,
                Some("all") => Show::All,
                Some(_) => return Err(Failure::bad_request("show must be top or all.")),
            },
        })
    }

    /// Returns the query, without the restriction of a visitor.
    pub(crate) fn query(&self) -> RunQuery {
        let only = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
        let mut query = RunQuery::new();
        if let Some(statuses) = only(&self.statuses) {
            // A dry run is asked for by its status.
            query.include_dry_run = statuses.iter().any(|it| *it == RunStatus::DRY_RUN.as_str());
            query = query.statuses(statuses);
        }
        query.skills.only = only(&self.skills);
        query.callers.only = only(&self.callers);
        query.channels.only = only(&self.channels);
        // They were checked when they were parsed.
        let labels = self.labels.iter().filter_map(|text| label(text).ok());
        query.labels = LabelFilter::combine(labels);
        query.started = Bounds::new(self.from, self.to);
        query.id_prefix.clone_from(&self.id);
        if !self.shows_all() {
            query.parent = Parent::NoneStored;
        }
        query
    }

    /// Returns the parameters from which this filter is parsed.
    pub(crate) fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new();
        for (name, values) in [
            (STATUS, &self.statuses),
            (SKILL, &self.skills),
            (CALLER, &self.callers),
            (CHANNEL, &self.channels),
            (LABEL, &self.labels),
        ] {
            for value in values {
                parameters.push(name, value);
            }
        }
        for (name, time) in [(FROM, self.earliest()), (TO, self.latest())] {
            if let Some(time) = time {
                parameters.push(name, time);
            }
        }
        if !self.id.is_empty() {
            parameters.push(ID, &self.id);
        }
        match self.show {
            Show::Fitting => {}
            Show::TopLevel => parameters.push(SHOW, "top"),
            Show::All => parameters.push(SHOW, "all"),
        }
        parameters
    }

    /// Returns the filter with absolute times. A cursor is valid only for the same times.
    pub(crate) fn with_fixed_times(&self) -> Self {
        Self {
            ages: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns the earliest start as the visitor gave it.
    pub(crate) fn earliest(&self) -> Option<String> {
        self.text_of(self.from)
    }

    /// Returns the latest start as the visitor gave it.
    pub(crate) fn latest(&self) -> Option<String> {
        self.text_of(self.to)
    }

    fn text_of(&self, time: Option<DateTime<Utc>>) -> Option<String> {
        let time = time?;
        let mut ages = self.ages.iter();
        let age = ages.find(|(meant, _)| *meant == time);
        Some(age.map_or_else(|| format::machine_time(time), |(_, age)| age.clone()))
    }

    /// Returns the filter for other times.
    pub(crate) fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            ages: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns the filter for any time.
    pub(crate) fn without_times(&self) -> Self {
        Self {
            from: None,
            to: None,
            ..self.clone()
        }
    }

    /// Returns the filter for the time since an age.
    pub(crate) fn since(&self, age: &str) -> Parameters {
        self.without_times().parameters().with(FROM, age)
    }

    /// Selects all runs unless top-level ones are asked for, as statistics do: what a run has
    /// started counts too.
    pub(crate) fn all_by_default(mut self) -> Self {
        if self.show == Show::Fitting {
            self.show = Show::All;
        }
        self
    }

    /// Whether runs that other runs have started are listed too.
    pub(crate) fn shows_all(&self) -> bool {
        match self.show {
            Show::Fitting => self.without_times().is_set(),
            Show::TopLevel => false,
            Show::All => true,
        }
    }

    /// Whether a condition is set.
    pub(crate) fn is_set(&self) -> bool {
        let unset = Self {
            ages: self.ages.clone(),
            show: self.show,
            ..Self::default()
        };
        *self != unset
    }
}

/// Parses the order of a list of events, if one is asked for.
pub(crate) fn order(parameters: &Parameters) -> Result<Option<ListOrder>> {
    match parameters.first(ORDER) {
        None => Ok(None),
        Some("oldest") => Ok(Some(ListOrder::OldestFirst)),
        Some("newest") => Ok(Some(ListOrder::NewestFirst)),
        Some(_) => Err(Failure::bad_request("order must be oldest or newest.")),
    }
}

/// Parses a time: RFC 3339, a date or a local time in UTC, or an age.
pub(crate) fn time(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let text = text.trim();
    let local = || {
        let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
        formats
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
            .map(|time| time.and_utc())
    };
    let date = || {
        let date = NaiveDate::from_str(text).ok()?;
        Some(date.and_time(NaiveTime::MIN).and_utc())
    };
    let exact = || Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
    let before = || now.checked_sub_signed(age(text)?);
    exact().or_else(date).or_else(local).or_else(before).ok_or_else(|| {
        Failure::bad_request(format!(
            "{text:?} is no time. A time is such as 2026-11-24T09:30:00Z or 2026-11-24 (in UTC), \
             or an age such as 30m, 2h or 7d."
        ))
    })
}

/// Parses an age such as `2h`.
fn age(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().next_back()?;
    let number: i64 = text
        .strip_suffix(unit)?
        .parse()
        .ok()
        .filter(|it| *it >= 0)?;
    match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        'w' => TimeDelta::try_weeks(number),
        _ => None,
    }
}

/// Parses a condition on a label: `key=value`, `key!=value`, or `key` for any value.
fn label(text: &str) -> Result<LabelFilter> {
    let text = text.trim();
    let (key, values) = match text.split_once('=') {
        Some((key, value)) => (key, Some(vec![value.to_owned()])),
        None => (text, None),
    };
    let excluded = key.strip_suffix('!').filter(|_| values.is_some());
    let owned = excluded.unwrap_or(key).trim().to_owned();
    rules::label_key(&owned)?;
    Ok(match (excluded, values) {
        (Some(_), Some(values)) => LabelFilter::NoneOf { key: owned, values },
        (_, Some(values)) => LabelFilter::AnyOf { key: owned, values },
        (_, None) => LabelFilter::Exists { key: owned },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-28T12:00:00Z".parse().unwrap()
    }

    fn parse(query: &str) -> Result<Filters> {
        Filters::parse(&Parameters::parse(query), now())
    }

    #[test]
    fn filters_survive_a_link() {
        let query = "status=error&status=timeout&skill=a%20b&caller=alice&channel=web\
            &label=env=prod&label=env=test&label=team&label=zone!=eu&from=24h&to=2026-11-28\
            &id=run-&show=all";
        let filters = parse(query).unwrap();
        let link = filters.parameters().link("");
        assert!(link.contains("from=24h"), "{link}");
        assert_eq!(parse(&link[1..]).unwrap(), filters);
        let fixed = filters.with_fixed_times();
        let link = fixed.parameters().link("");
        assert!(
            link.contains("from=2026-11-27T12%3A00%3A00.000000Z"),
            "{link}"
        );
        assert_eq!(parse(&link[1..]).unwrap(), fixed);
        let query = filters.query();
        assert_eq!(
            query.labels,
            [
                LabelFilter::AnyOf {
                    key: "env".into(),
                    values: vec!["prod".into(), "test".into()]
                },
                LabelFilter::Exists { key: "team".into() },
                LabelFilter::NoneOf {
                    key: "zone".into(),
                    values: vec!["eu".into()]
                },
            ]
        );
        assert_eq!(query.started.from, Some(now() - TimeDelta::days(1)));
        assert_eq!(query.parent, Parent::Any);
        for (query, parent) in [
            ("", Parent::NoneStored),
            ("from=1h&to=2026-11-28", Parent::NoneStored),
            ("show=all", Parent::Any),
            ("skill=a", Parent::Any),
            ("skill=a&show=top", Parent::NoneStored),
        ] {
            assert_eq!(parse(query).unwrap().query().parent, parent, "{query}");
        }
    }

    #[test]
    fn times_are_absolute_or_ages() {
        for (text, expected) in [
            ("2026-11-24T09:30:00+02:00", "2026-11-24T07:30:00Z"),
            ("2026-11-24", "2026-11-24T00:00:00Z"),
            ("2026-11-24T09:30", "2026-11-24T09:30:00Z"),
            ("2026-11-24 09:30", "2026-11-24T09:30:00Z"),
            ("90m", "2026-11-28T10:30:00Z"),
            ("2w", "2026-11-14T12:00:00Z"),
        ] {
            let expected: DateTime<Utc> = expected.parse().unwrap();
            assert_eq!(time(text, now()).unwrap(), expected, "{text}");
        }
        for text in ["yesterday", "-1h", "h", "9999999999999w", "1é", "12"] {
            assert!(time(text, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_refused() {
        for query in ["label=%3Dprod", "label=a%20b=c", "show=some", "from=x"] {
            assert!(parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn dry_runs_are_shown_when_they_are_asked_for() {
        assert!(parse("status=dry_run").unwrap().query().include_dry_run);
        assert!(!parse("status=ok").unwrap().query().include_dry_run);
    }
}
