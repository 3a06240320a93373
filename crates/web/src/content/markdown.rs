//! Markdown from strangers: no raw HTML, no images, no links but to the web and to mailboxes.

use maud::{Markup, html};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

use super::Extent;
use super::text::text;
use crate::format::{block, line};

/// Longer texts are cut.
const MAX_BYTES: usize = 16 << 10;

/// Longer texts aren't read as Markdown.
const MAX_MARKDOWN_BYTES: usize = 256 << 10;

/// Elements nested deeper are shown as text.
const MAX_DEPTH: usize = 16;

/// What a link may begin with.
const SCHEMES: [&str; 3] = ["http://", "https://", "mailto:"];

/// Renders a text that may be Markdown, which models write.
pub(crate) fn formatted(shown: &str, extent: Extent<'_>) -> Markup {
    let (shown, note) = extent.cut(shown, MAX_BYTES);
    if shown.len() > MAX_MARKDOWN_BYTES {
        return text(shown, extent);
    }
    html! { (markdown(shown)) (note) }
}

fn markdown(text: &str) -> Markup {
    let mut options = Options::empty();
    options.insert(Options::ENABLE_TABLES);
    options.insert(Options::ENABLE_STRIKETHROUGH);
    options.insert(Options::ENABLE_TASKLISTS);
    let mut events = Parser::new_ext(text, options);
    html! { div.markdown { (content(&mut events, Place::default())) } }
}

/// Where an element is.
#[derive(Clone, Copy, Default)]
struct Place {
    depth: usize,
    /// Whether it belongs to the head of a table.
    is_head: bool,
}

/// Renders what follows, up to the end of the element around it.
fn content<'a>(events: &mut impl Iterator<Item = Event<'a>>, place: Place) -> Markup {
    let mut parts = Vec::new();
    while let Some(event) = events.next() {
        parts.push(match event {
            Event::End(_) => break,
            Event::Start(_) if place.depth >= MAX_DEPTH => {
                let text = plain_text(events);
                html! { (block(&text)) }
            }
            Event::Start(tag) => element(&tag, events, place),
            Event::Code(code) => html! { code { (block(&code)) } },
            Event::Rule => html! { hr; },
            Event::HardBreak => html! { br; },
            Event::SoftBreak => html! { "\n" },
            Event::TaskListMarker(is_done) => html! { (if is_done { "☑ " } else { "☐ " }) },
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                html! { (block(&text)) }
            }
            // Their syntax isn't enabled.
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                html! { (block(&text)) }
            }
        });
    }
    html! { @for part in &parts { (part) } }
}

fn element<'a>(
    tag: &Tag<'a>,
    events: &mut impl Iterator<Item = Event<'a>>,
    place: Place,
) -> Markup {
    let inside = Place {
        depth: place.depth + 1,
        is_head: place.is_head || matches!(tag, Tag::TableHead),
    };
    if matches!(tag, Tag::Image { .. }) {
        // An image would be loaded from another host, which would learn who reads the page.
        let text = plain_text(events);
        return html! { (line(if text.is_empty() { "image" } else { &text })) };
    }
    let inner = content(events, inside);
    match tag {
        // Not a heading of the page, whose outline is its own.
        Tag::Heading { .. } => html! { p.subheading { strong { (inner) } } },
        Tag::BlockQuote(_) => html! { blockquote { (inner) } },
        Tag::CodeBlock(kind) => {
            let language = match kind {
                CodeBlockKind::Fenced(language) if !language.is_empty() => Some(line(language)),
                _ => None,
            };
            html! { pre title=[language] { code { (inner) } } }
        }
        Tag::List(None) => html! { ul { (inner) } },
        Tag::List(Some(start)) => html! { ol start=(start) { (inner) } },
        Tag::Item => html! { li { (inner) } },
        Tag::Table(_) => html! { table { (inner) } },
        Tag::TableHead => html! { thead { tr { (inner) } } },
        Tag::TableRow => html! { tr { (inner) } },
        Tag::TableCell if place.is_head => html! { th scope="col" { (inner) } },
        Tag::TableCell => html! { td { (inner) } },
        Tag::Emphasis => html! { em { (inner) } },
        Tag::Strong => html! { strong { (inner) } },
        Tag::Strikethrough => html! { del { (inner) } },
        Tag::Link { dest_url, .. } if is_allowed(dest_url) => {
            let link: &str = dest_url;
            html! { a href=(link) title=(line(link)) rel="noreferrer noopener" { (inner) } }
        }
        Tag::Link { .. } => inner,
        _ => html! { p { (inner) } },
    }
}

/// Returns the text up to the end of the element, without any markup.
fn plain_text<'a>(events: &mut impl Iterator<Item = Event<'a>>) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    for event in events {
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) if depth == 0 => break,
            Event::End(_) => depth -= 1,
            Event::Text(part) | Event::Code(part) | Event::Html(part) | Event::InlineHtml(part) => {
                text += &part;
            }
            Event::SoftBreak | Event::HardBreak => text.push('\n'),
            _ => {}
        }
    }
    text
}

fn is_allowed(link: &str) -> bool {
    SCHEMES.iter().any(|scheme| {
        let beginning = link.as_bytes().get(..scheme.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        markdown(text).into_string()
    }

    #[test]
    fn texts_of_models_are_formatted() {
        let html = shown(
            "# Title\n\nA *word*, **two** and `code`.\n\n1. one\n2. two\n\n\
             ```rust\nfn main() {}\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n",
        );
        for part in [
            r#"<p class="subheading"><strong>Title</strong></p>"#,
            "<em>word</em>",
            "<strong>two</strong>",
            "<code>code</code>",
            r#"<ol start="1"><li>one</li><li>two</li></ol>"#,
            "<pre title=\"rust\"><code>fn main() {}\n</code></pre>",
            r#"<thead><tr><th scope="col">a</th>"#,
            "<tr><td>1</td><td>2</td></tr>",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
    }

    #[test]
    fn html_is_text() {
        for text in [
            "<script>alert(1)</script>",
            "a <b onclick=x>c</b>",
            "<div>\n<iframe src=x>\n</div>",
            "<!-- x --><style>y</style>",
            "```\n</code></pre><script>\n```",
            "`</code><script>`",
            "[<script>](https://example.org)",
            "![\"><script>](x)",
        ] {
            let html = shown(text);
            for tag in ["<script", "<b ", "<iframe", "<style", "<!--", "<img"] {
                assert!(!html.contains(tag), "{text}\n{html}");
            }
        }
    }

    #[test]
    fn links_lead_only_to_the_web_and_to_mailboxes() {
        for link in [
            "https://example.org/a?b=c&d",
            "HTTP://example.org",
            "mailto:a@example.org",
        ] {
            let html = shown(&format!("[text]({link})"));
            assert!(html.contains("<a href=\""), "{html}");
            assert!(html.contains(r#"rel="noreferrer noopener""#), "{html}");
        }
        for link in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "&#106;avascript:alert(1)",
            "java\tscript:alert(1)",
            "\u{1}javascript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "//example.org",
            "../live",
            "#e-1",
        ] {
            for text in [format!("[text](<{link}>)"), format!("<{link}>")] {
                let html = shown(&text);
                assert!(!html.contains("<a "), "{text}\n{html}");
            }
        }
        let html = shown(r#"[a](https://x/"onmouseover="alert(1))"#);
        assert!(!html.contains(r#""onmouseover"#), "{html}");
    }

    #[test]
    fn an_image_becomes_its_text() {
        assert!(shown("![a *cat*](https://example.org/cat.png)").contains("<p>a cat</p>"));
    }

    #[test]
    fn nesting_is_bounded() {
        for text in [">".repeat(5_000) + " deep", "- ".repeat(5_000) + "deep"] {
            let html = shown(&text);
            let nested = html.matches("<blockquote").count() + html.matches("<li").count();
            assert!(nested <= MAX_DEPTH, "{nested}");
        }
    }
}
