//! The parts of a URL: queries, and ids of runs as path segments.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the characters that mean themselves anywhere in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The mark of an id that would otherwise be a relative path.
const MARK: char = '~';

/// Encodes the id of a run as a path segment.
///
/// Browsers treat `.` and `..` as relative paths, even if they are percent-encoded. Such an id, and
/// one that begins with `~`, gets a `~` in front.
pub(crate) fn segment(run_id: &str) -> String {
    let is_marked = matches!(run_id, "." | "..") || run_id.starts_with(MARK);
    let mark = if is_marked { "~" } else { "" };
    format!("{mark}{}", utf8_percent_encode(run_id, ESCAPED))
}

/// Returns the id of a run from a path segment that is already percent-decoded.
pub(crate) fn run_id(segment: &str) -> &str {
    segment.strip_prefix(MARK).unwrap_or(segment)
}

/// The parameters of a query, in order. A name may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parses the query of a URL. Parameters without a value are left out: a form also sends its
    /// empty fields.
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (!value.is_empty()).then(|| (decode(name), decode(value)))
        });
        Self(pairs.collect())
    }

    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.push(name, value);
        self
    }

    pub(crate) fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Returns the first value of a parameter.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let first = self.0.iter().find(|(other, _)| other == name);
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(other, _)| other == name);
        named.map(|(_, value)| value.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns a link to a path with these parameters.
    pub(crate) fn link(&self, path: &str) -> String {
        let pair = |(name, value)| {
            let escape = |text| utf8_percent_encode(text, ESCAPED);
            format!("{}={}", escape(name), escape(value))
        };
        let pairs: Vec<_> = self.iter().map(pair).collect();
        match pairs.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{}", pairs.join("&")),
        }
    }
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    let decoded: Cow<'_, str> = percent_decode_str(&text).decode_utf8_lossy();
    decoded.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_survives_a_path_segment() {
        for (id, expected) in [
            ("run-1", "run-1"),
            (".", "~."),
            ("..", "~.."),
            ("...", "..."),
            ("~", "~~"),
            ("~.", "~~."),
            ("a/b c%2F", "a%2Fb%20c%252F"),
            ("?#&=+", "%3F%23%26%3D%2B"),
            ("é\u{202E}", "%C3%A9%E2%80%AE"),
        ] {
            let segment = segment(id);
            assert_eq!(segment, expected);
            let decoded = percent_decode_str(&segment).decode_utf8().unwrap();
            assert_eq!(run_id(&decoded), id);
        }
    }

    #[test]
    fn parameters_survive_a_link() {
        let parameters = Parameters::new()
            .with("skill", "a b+c&d=e")
            .with("label", "env=prod")
            .with("skill", "é");
        let link = parameters.link("./");
        assert_eq!(
            link,
            "./?skill=a%20b%2Bc%26d%3De&label=env%3Dprod&skill=%C3%A9"
        );
        assert_eq!(Parameters::parse(&link[3..]), parameters);
        assert_eq!(
            parameters.all("skill").collect::<Vec<_>>(),
            ["a b+c&d=e", "é"]
        );
        assert_eq!(Parameters::new().link("./"), "./");
    }

    #[test]
    fn parameters_without_a_value_are_left_out() {
        let parsed = Parameters::parse("a=1&b=&c&&a=2+3&%ff=%ff");
        let pairs: Vec<_> = parsed.iter().collect();
        assert_eq!(pairs, [("a", "1"), ("a", "2 3"), ("\u{FFFD}", "\u{FFFD}")]);
    }
}
