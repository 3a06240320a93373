use maud::{Markup, html};

/// The keys of the script, and what they do.
const KEYS: [(&str, &str); 6] = [
    ("j", "Next row"),
    ("k", "Previous row"),
    ("Enter", "Open the row"),
    ("/", "Search"),
    ("g r", "All runs"),
    ("?", "Show these keys"),
];

/// Renders the list of keys, which a script opens.
pub(crate) fn dialog() -> Markup {
    html! {
        dialog #keys aria-labelledby="keys-title" {
            h2 #keys-title { "Keys" }
            dl { @for (key, purpose) in KEYS { div { dt { kbd { (key) } } dd { (purpose) } } } }
            form method="dialog" { button { "Close" } }
        }
    }
}
