use async_trait::async_trait;
use axum::http::request::Parts;
use runtrail_audit::{Choice, LabelFilter, RunQuery, RunSummary, SkillRun};

/// Decides who may see what.
///
/// ```
/// use async_trait::async_trait;
/// use axum::http::request::Parts;
/// use runtrail_web::{Access, Grant, Restriction};
///
/// /// A middleware of the host adds this to the request.
/// #[derive(Clone)]
/// struct User {
///     tenant: String,
/// }
///
/// struct OwnTenant;
///
/// #[async_trait]
/// impl Access for OwnTenant {
///     async fn grant(&self, request: &Parts) -> Grant {
///         match request.extensions.get::<User>() {
///             Some(user) => Grant::full()
///                 .restricted_to(Restriction::new().label("tenant", &user.tenant)),
///             None => Grant::forbidden(),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Access: Send + Sync {
    /// Returns what this request may see. It is called once for each request, but not for the
    /// stylesheet, the script and the icon.
    ///
    /// The path of the request may be without the prefix at which the page is mounted. The grant
    /// for a live stream holds until the stream ends.
    async fn grant(&self, request: &Parts) -> Grant;
}

/// Shows everything to everyone who reaches the page.
#[derive(Clone, Copy, Debug, Default)]
pub struct FullAccess;

#[async_trait]
impl Access for FullAccess {
    async fn grant(&self, _request: &Parts) -> Grant {
        Grant::full()
    }
}

/// What a request may see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Grant {
    view: View,
    restriction: Restriction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Full,
    WithoutTexts,
    Forbidden,
}

impl Grant {
    /// Shows everything.
    pub fn full() -> Self {
        Self::new(View::Full)
    }

    /// Shows runs and events without inputs, outputs, errors and payloads.
    pub fn without_texts() -> Self {
        Self::new(View::WithoutTexts)
    }

    /// Shows nothing: the router responds with 403.
    pub fn forbidden() -> Self {
        Self::new(View::Forbidden)
    }

    /// Shows only runs within a restriction, also in statistics. Any other run is treated as if it
    /// weren't stored.
    pub fn restricted_to(mut self, restriction: Restriction) -> Self {
        self.restriction = restriction;
        self
    }

    fn new(view: View) -> Self {
        Self {
            view,
            restriction: Restriction::new(),
        }
    }

    pub(crate) fn is_forbidden(&self) -> bool {
        self.view == View::Forbidden
    }

    pub(crate) fn shows_texts(&self) -> bool {
        self.view == View::Full
    }

    pub(crate) fn restriction(&self) -> &Restriction {
        &self.restriction
    }
}

/// Restricts a [`Grant`] to some runs; the default permits every run.
///
/// A run must satisfy every part that is set. An empty list permits no run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Restriction {
    /// The permitted callers.
    pub callers: Option<Vec<String>>,
    /// The permitted skills.
    pub skills: Option<Vec<String>>,
    /// The permitted channels.
    pub channels: Option<Vec<String>>,
    /// Conditions on the labels of the run; each must hold.
    pub labels: Vec<LabelFilter>,
}

impl Restriction {
    /// Creates a restriction that permits every run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Permits only runs of these callers.
    pub fn callers(mut self, callers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.callers = Some(callers.into_iter().map(Into::into).collect());
        self
    }

    /// Permits only runs of these skills.
    pub fn skills(mut self, skills: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.skills = Some(skills.into_iter().map(Into::into).collect());
        self
    }

    /// Permits only runs from these channels.
    pub fn channels(mut self, channels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.channels = Some(channels.into_iter().map(Into::into).collect());
        self
    }

    /// Permits only runs with this label.
    pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.add_label_filter(LabelFilter::AnyOf {
            key: key.into(),
            values: vec![value.into()],
        })
    }

    /// Adds a condition on the labels.
    pub fn add_label_filter(mut self, filter: LabelFilter) -> Self {
        self.labels.push(filter);
        self
    }

    /// Adds the restriction to a query.
    pub(crate) fn apply(&self, mut query: RunQuery) -> RunQuery {
        intersect(&mut query.callers, self.callers.as_deref());
        intersect(&mut query.skills, self.skills.as_deref());
        intersect(&mut query.channels, self.channels.as_deref());
        query.labels.extend(self.labels.iter().cloned());
        query
    }

    pub(crate) fn permits(&self, run: &SkillRun) -> bool {
        self.permits_values(&run.caller_id, &run.skill_id, &run.channel_id)
            && self.labels.iter().all(|filter| holds(filter, run))
    }

    pub(crate) fn permits_apart_from_labels(&self, run: &RunSummary) -> bool {
        self.permits_values(&run.caller_id, &run.skill_id, &run.channel_id)
    }

    fn permits_values(&self, caller: &str, skill: &str, channel: &str) -> bool {
        let is_in = |permitted: &Option<Vec<String>>, value: &str| {
            let permitted = permitted.as_ref();
            permitted.is_none_or(|list| list.iter().any(|other| other == value))
        };
        is_in(&self.callers, caller) && is_in(&self.skills, skill) && is_in(&self.channels, channel)
    }

    pub(crate) fn permits_all(&self) -> bool {
        *self == Self::default()
    }
}

fn intersect(choice: &mut Choice<String>, permitted: Option<&[String]>) {
    let Some(permitted) = permitted else { return };
    match &mut choice.only {
        Some(only) => only.retain(|value| permitted.contains(value)),
        only => *only = Some(permitted.to_vec()),
    }
}

fn holds(filter: &LabelFilter, run: &SkillRun) -> bool {
    let label = run.labels.get(filter.key());
    match filter {
        LabelFilter::AnyOf { values, .. } => label.is_some_and(|value| values.contains(value)),
        LabelFilter::NoneOf { values, .. } => label.is_none_or(|value| !values.contains(value)),
        LabelFilter::Exists { .. } => label.is_some(),
        // A condition that is unknown here permits nothing.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_restriction_never_widens_a_query() {
        let restriction = Restriction::new().callers(["alice", "bob"]);
        let only = |query: RunQuery| restriction.apply(query).callers.only.unwrap();
        assert_eq!(only(RunQuery::new()), ["alice", "bob"]);
        assert_eq!(only(RunQuery::new().callers(["bob", "eve"])), ["bob"]);
        assert!(only(RunQuery::new().callers(["eve"])).is_empty());
        let query = RunQuery::new().skills(["a"]);
        assert_eq!(Restriction::new().apply(query.clone()), query);
    }

    #[test]
    fn every_part_of_a_restriction_must_hold() {
        let run = SkillRun::new("run-1", "summarise", DateTime::UNIX_EPOCH)
            .caller("alice")
            .label("env", "prod");
        let none_of = |value: &str| LabelFilter::NoneOf {
            key: "env".into(),
            values: vec![value.into()],
        };
        for permitting in [
            Restriction::new(),
            Restriction::new().callers(["alice"]).skills(["summarise"]),
            Restriction::new().channels([""]).label("env", "prod"),
            Restriction::new().add_label_filter(none_of("test")),
        ] {
            assert!(permitting.permits(&run), "{permitting:?}");
        }
        for refusing in [
            Restriction::new().callers(Vec::<String>::new()),
            Restriction::new().callers(["alice"]).skills(["review"]),
            Restriction::new().label("env", "test"),
            Restriction::new().label("env", "prod").label("team", "a"),
            Restriction::new().add_label_filter(none_of("prod")),
        ] {
            assert!(!refusing.permits(&run), "{refusing:?}");
        }
    }
}
