use maud::{Markup, html};

use super::Extent;
use crate::format::block;

/// Longer texts are cut.
const MAX_BYTES: usize = 8 << 10;

/// Renders a text with its line breaks.
pub(crate) fn text(text: &str, extent: Extent<'_>) -> Markup {
    let (shown, note) = extent.cut(text, MAX_BYTES);
    html! {
        pre.text { (block(shown)) }
        (note)
    }
}

/// Returns the beginning of a text on one line, at most `max_chars` characters.
pub(super) fn one_line(text: &str, max_chars: usize) -> String {
    // What is beyond isn't read: the text may be long.
    let beginning = &text[..text.floor_char_boundary(max_chars * 8)];
    let mut line = String::new();
    let mut length = 0;
    for word in beginning.split_whitespace() {
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        for character in word.chars() {
            if length >= max_chars {
                return line + "…";
            }
            line.push(character);
            length += 1;
        }
    }
    if beginning.len() < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Extent<'_> = Extent::Cut { whole: "all" };

    #[test]
    fn a_long_text_is_cut_between_characters_and_links_to_the_rest() {
        let long = "ä".repeat(MAX_BYTES);
        let shown = text(&long, CUT).into_string();
        assert!(shown.len() < MAX_BYTES + 300, "{}", shown.len());
        assert!(shown.contains(r#"<a href="all">Show all</a>"#));
        assert!(shown.contains("8,192 of 16,384 bytes"));
        assert!(
            !text(&long, Extent::Whole)
                .into_string()
                .contains("Show all")
        );
    }

    #[test]
    fn a_text_is_never_markup() {
        let shown = text("<script>alert(1)</script>\n&amp;", CUT).into_string();
        assert!(!shown.contains("<script"), "{shown}");
        assert!(shown.contains("&lt;script&gt;"), "{shown}");
        assert!(shown.contains("&amp;amp;"), "{shown}");
    }

    #[test]
    fn a_line_has_at_most_the_given_length() {
        for (text, expected) in [
            ("", ""),
            (" a\n\n b\t", "a b"),
            ("abcde", "abcde"),
            ("abcdef", "abcde…"),
            ("ab cdef", "ab cd…"),
            ("äöüßé!", "äöüßé…"),
        ] {
            assert_eq!(one_line(text, 5), expected, "{text:?}");
        }
        let spaces = " ".repeat(1_000) + "x";
        assert_eq!(one_line(&spaces, 5), "…");
    }
}
