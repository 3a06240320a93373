use maud::{Markup, html};

use super::links::Links;
use crate::url::Parameters;

/// A link to the window that follows. A script loads it as a fragment when it comes near.
pub(super) struct Next<'a> {
    /// The name of the fragment.
    pub(super) fragment: &'a str,
    /// The parameters of the window; `None` after the last one.
    pub(super) parameters: Option<Parameters>,
    pub(super) label: &'a str,
}

impl Next<'_> {
    pub(super) fn render(&self, links: &Links) -> Markup {
        html! {
            @if let Some(parameters) = &self.parameters {
                p.more {
                    a.button rel="next" href={ (parameters.link(links.run())) "#steps" }
                        data-next=(links.fragment(self.fragment, parameters)) { (self.label) }
                }
            }
        }
    }
}
