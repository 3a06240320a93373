use maud::{Markup, html};

use crate::format;

/// How much of a value is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// Long values are cut. The link leads to the whole value.
    Cut {
        /// The link, relative to the page.
        whole: &'a str,
    },
    /// Everything is shown.
    Whole,
}

impl Extent<'_> {
    /// Returns the beginning of a text, and a note if that isn't all.
    pub(crate) fn cut<'t>(&self, text: &'t str, max_bytes: usize) -> (&'t str, Markup) {
        match self {
            Self::Cut { whole } if text.len() > max_bytes => {
                let shown = &text[..text.floor_char_boundary(max_bytes)];
                let note = html! {
                    p.cut {
                        "The first " (format::count(shown.len() as u64)) " of "
                        (format::count(text.len() as u64)) " bytes. "
                        a href=(whole) { "Show all" }
                    }
                };
                (shown, note)
            }
            _ => (text, html! {}),
        }
    }
}
