//! JSON as nested lists that fold.

use maud::{Markup, html};
use serde_json::Value;

use super::Extent;
use super::text::text;
use crate::format::{count, line};

/// Values nested deeper are shown as the text of their JSON.
const MAX_DEPTH: usize = 12;

/// The most values that are shown, unless everything is.
const MAX_VALUES: usize = 500;

/// A larger value that is shown whole is the text of its JSON: a page of nested lists would be
/// many times larger.
const MAX_FOLDED_VALUES: usize = 5_000;

/// Longer strings are shown on lines of their own.
const MAX_INLINE_BYTES: usize = 120;

/// Containers at these levels are open at first, if they are small.
const OPEN_DEPTH: usize = 2;
const MAX_OPEN_MEMBERS: usize = 20;

/// Renders a value. Members of objects and arrays fold.
pub(crate) fn json(value: &Value, extent: Extent<'_>) -> Markup {
    let left = match extent {
        Extent::Cut { .. } => MAX_VALUES,
        Extent::Whole => usize::MAX,
    };
    let mut foldable = MAX_FOLDED_VALUES;
    if matches!(extent, Extent::Whole) && is_larger_than(value, &mut foldable) {
        return text(&format!("{value:#}"), extent);
    }
    let mut page = Page { extent, left };
    match value {
        Value::Array(_) | Value::Object(_) if !is_empty(value) => page.members(value, 0),
        Value::String(string) => text(string, extent),
        scalar => html! { p.json { (page.scalar(scalar)) } },
    }
}

struct Page<'a> {
    extent: Extent<'a>,
    /// How many more values may be shown.
    left: usize,
}

impl Page<'_> {
    fn members(&mut self, container: &Value, depth: usize) -> Markup {
        let members: Vec<(Markup, &Value)> = match container {
            Value::Array(items) => {
                let items = items.iter().take(self.left).enumerate();
                items.map(|(at, item)| (html! { (at) }, item)).collect()
            }
            Value::Object(members) => {
                let members = members.iter().take(self.left);
                let named = members.map(|(name, value)| (html! { (line(name)) }, value));
                named.collect()
            }
            _ => Vec::new(),
        };
        let mut shown = Vec::with_capacity(members.len());
        for (name, value) in members {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            shown.push(self.member(&name, value, depth));
        }
        let more = size(container) - shown.len();
        html! {
            ul.json {
                @for member in &shown { li { (member) } }
                @if more > 0 { li.cut { (self.more(more)) } }
            }
        }
    }

    fn more(&self, number: usize) -> Markup {
        html! {
            "… and " (count(number as u64)) " more. "
            @if let Extent::Cut { whole } = self.extent { a href=(whole) { "Show all" } }
        }
    }

    fn member(&mut self, name: &Markup, value: &Value, depth: usize) -> Markup {
        let name = html! { span.key { (name) } };
        match value {
            Value::Array(_) | Value::Object(_) if is_empty(value) => {
                html! { (name) " " span.literal { (value.to_string()) } }
            }
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
                html! { (name) (text(&value.to_string(), self.extent)) }
            }
            Value::Array(_) | Value::Object(_) => {
                let members = size(value);
                let is_open = depth < OPEN_DEPTH && members <= MAX_OPEN_MEMBERS;
                let size = match value {
                    Value::Array(_) => format!("[{}]", count(members as u64)),
                    _ => format!("{{{}}}", count(members as u64)),
                };
                html! {
                    details open[is_open] {
                        summary { (name) " " span.size { (size) } }
                        (self.members(value, depth + 1))
                    }
                }
            }
            Value::String(string) if is_long(string) => {
                html! { (name) (text(string, self.extent)) }
            }
            scalar => html! { (name) " " (self.scalar(scalar)) },
        }
    }

    fn scalar(&self, scalar: &Value) -> Markup {
        match scalar {
            Value::String(string) => html! { span.string { (line(string)) } },
            // All digits, also of numbers above 2^53.
            literal => html! { span.literal { (literal.to_string()) } },
        }
    }
}

fn is_long(string: &str) -> bool {
    string.len() > MAX_INLINE_BYTES || string.contains('\n')
}

fn is_empty(container: &Value) -> bool {
    size(container) == 0
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
}

/// Counts the values down from `left`.
fn is_larger_than(value: &Value, left: &mut usize) -> bool {
    if *left == 0 {
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter().any(|item| is_larger_than(item, left)),
        Value::Object(members) => members.values().any(|member| is_larger_than(member, left)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    const CUT: Extent<'_> = Extent::Cut { whole: "all" };

    fn shown(value: &Value) -> String {
        json(value, CUT).into_string()
    }

    #[test]
    fn members_fold_and_numbers_keep_all_digits() {
        let html = shown(&value!({"a": {"b": 18446744073709551615_u64}, "c": [], "d": null}));
        assert!(html.contains("18446744073709551615"), "{html}");
        assert!(html.contains("<details open><summary>"), "{html}");
        assert!(
            html.contains(r#"<span class="literal">[]</span>"#),
            "{html}"
        );
        assert!(
            html.contains(r#"<span class="literal">null</span>"#),
            "{html}"
        );
    }

    #[test]
    fn names_and_strings_are_never_markup() {
        let html = shown(&value!({"<img src=x onerror=y>": "</pre><script>"}));
        assert!(
            !html.contains("<img") && !html.contains("<script"),
            "{html}"
        );
        let html = shown(&value!({"long": "<script>".repeat(100)}));
        assert!(!html.contains("<script"), "{html}");
    }

    #[test]
    fn large_values_are_cut() {
        let numbers: Vec<_> = (0..100_000).collect();
        let html = shown(&value!({"numbers": numbers, "after": 1}));
        assert!(html.len() < 100_000, "{}", html.len());
        assert!(
            html.contains("more. <a href=\"all\">Show all</a>"),
            "{html}"
        );
        let whole = json(&value!(numbers), Extent::Whole).into_string();
        assert!(whole.contains("99999") && !whole.contains("<details"));
    }

    #[test]
    fn deep_values_end_as_text() {
        let mut deep = value!("bottom");
        for _ in 0..60 {
            deep = value!([deep]);
        }
        let html = shown(&deep);
        assert_eq!(html.matches("<details").count(), MAX_DEPTH);
        assert!(html.contains("bottom"), "{html}");
    }
}
