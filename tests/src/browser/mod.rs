//! The page in Chromium. `cargo xtask test` starts ChromeDriver, which starts a browser for each
//! case. Pictures of the page are written to `target/screenshots`.

/// Hosts that mount the page.
mod host;

/// Runs of a help desk, for pages that look like those of a real host.
mod sample;

/// A browser: opens pages, and finds what is wrong with them.
mod session;

/// The checks of a page notice what they are for.
mod checks;

/// Every page, in both colour schemes and three widths, at the root and below a prefix.
mod looks;

/// Histories that are empty, large, hostile, restricted, or away.
mod states;

/// Runs that are being recorded.
mod live;

/// Keys, and no JavaScript.
mod keyboard;
