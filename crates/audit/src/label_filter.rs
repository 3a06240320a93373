use serde::{Deserialize, Serialize};

/// A condition on the labels of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LabelFilter {
    /// The run has a label with this key and one of these values. An empty list matches no run.
    AnyOf {
        /// The key.
        key: String,
        /// The accepted values.
        values: Vec<String>,
    },
    /// The run has no label with this key and one of these values. A run without the key matches.
    NoneOf {
        /// The key.
        key: String,
        /// The excluded values.
        values: Vec<String>,
    },
    /// The run has a label with this key.
    Exists {
        /// The key.
        key: String,
    },
}

impl LabelFilter {
    /// Returns the key.
    pub fn key(&self) -> &str {
        match self {
            Self::AnyOf { key, .. } | Self::NoneOf { key, .. } | Self::Exists { key } => key,
        }
    }

    /// Combines conditions, as they are given one by one: of several
    /// [accepted values](Self::AnyOf) for a key, a run needs only one. All others must hold.
    pub fn combine(conditions: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut combined: Vec<Self> = Vec::new();
        for condition in conditions {
            let earlier = combined.iter_mut().find_map(|earlier| match earlier {
                Self::AnyOf { key, values } if key == condition.key() => Some(values),
                _ => None,
            });
            match (earlier, condition) {
                (Some(earlier), Self::AnyOf { values, .. }) => earlier.extend(values),
                (_, condition) => combined.push(condition),
            }
        }
        combined
    }

    pub(crate) fn sort(&mut self) {
        if let Self::AnyOf { values, .. } | Self::NoneOf { values, .. } = self {
            values.sort();
            values.dedup();
        }
    }
}
