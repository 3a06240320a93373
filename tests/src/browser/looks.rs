use std::sync::Arc;
use std::{env, fs};

use super::checks::is_accessible;
use super::host::Host;
use super::sample;
use super::session::{Browser, Scheme, browse};
use crate::fixture::*;

const PAGES: [(&str, &str); 8] = [
    ("runs", ""),
    ("failures", "?status=error&status=timeout"),
    ("run", "runs/0193a5c2-ticket-4711"),
    ("events", "runs/0193a5c2-ticket-4711?view=events"),
    ("event", "runs/0193a5c2-ticket-4711/events/2"),
    ("statistics", "statistics"),
    (
        "statistics-of-a-day",
        "statistics?from=24h&skill=answer-ticket",
    ),
    ("compare", "compare?a=0193a5c2-ticket-4711&b=0193a5b1-0001"),
];

/// The pages whose pictures are in the documents, with the element at which
/// these begin and their height. `RUNTRAIL_UPDATE_GOLDEN=1` rewrites them.
const PUBLISHED: [(&str, &str, f64); 2] = [("runs", "body", 800.0), ("run", "#steps", 600.0)];
const PUBLISHED_PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pictures");

pub(super) const WIDTHS: [u32; 3] = [400, 900, 1_440];

async fn publish(browser: &Browser, name: &str, from: &str, height: f64) {
    if env::var_os("RUNTRAIL_UPDATE_GOLDEN").is_some() {
        browser.look(1_100, Scheme::Light).await;
        fs::create_dir_all(PUBLISHED_PICTURES).unwrap();
        let picture = browser.draw(from, height).await;
        fs::write(format!("{PUBLISHED_PICTURES}/{name}.png"), picture).unwrap();
    }
}

on_each_backend! {
    async fn every_page_is_accessible_in_both_schemes_and_all_widths(database) {
        let store = database.store().await;
        sample::help_desk(&store).await;
        let hosts = [
            Host::at_root(Arc::new(store.clone())).await,
            Host::at(Arc::new(store.clone()), "/ops/history").await,
        ];
        browse(async |browser| {
            for (place, host) in hosts.iter().enumerate() {
                let is_drawn = place == 0 && database.backend() == Backend::Sqlite;
                for (name, path) in PAGES {
                    host.open(browser, path).await;
                    browser.wait_for("!document.querySelector('[data-fragment]')").await;
                    for (scheme, of_scheme) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
                        for width in WIDTHS {
                            browser.look(width, scheme).await;
                            is_accessible(browser).await;
                            if is_drawn {
                                browser.picture(&format!("{name}-{of_scheme}-{width}")).await;
                            }
                        }
                    }
                    let published = PUBLISHED.iter().find(|(published, ..)| *published == name);
                    if is_drawn && let Some((_, from, height)) = published {
                        publish(browser, name, from, *height).await;
                    }
                    host.is_clean(browser).await;
                }
            }
        })
        .await;
    }

    async fn links_lead_to_pages_wherever_the_page_is_mounted(database) {
        let store = database.store().await;
        sample::help_desk(&store).await;
        for prefix in ["", "/ops/history"] {
            let host = Host::at(Arc::new(store.clone()), prefix).await;
            browse(async |browser| {
                // Also without a slash at the end.
                browser.open(host.page.trim_end_matches('/')).await;
                assert_eq!(browser.url().await, host.page);
                let of_run = format!("a[href$='runs/{}']", sample::TICKET);
                browser.click(&of_run).await;
                assert_eq!(browser.url().await, format!("{}runs/{}", host.page, sample::TICKET));
                assert!(browser.text().await.contains("Ms Okafor"));
                for (link, path) in [("nav a[href$='statistics']", "statistics"), ("nav a", "")] {
                    browser.click(link).await;
                    assert_eq!(browser.url().await, format!("{}{path}", host.page));
                }
                host.is_clean(browser).await;
            })
            .await;
        }
    }
}
