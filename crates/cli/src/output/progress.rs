use indicatif::{ProgressBar, ProgressStyle};

/// Returns a progress bar on stderr, hidden unless that is a terminal. `position` is a template of
/// indicatif, for example `{pos}/{len} runs`.
pub(crate) fn progress(total: u64, position: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let template = format!("{{wide_bar}} {position} {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}
