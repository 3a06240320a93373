use std::sync::Arc;

use super::checks::is_accessible;
use super::host::Host;
use super::sample;
use super::session::{Scheme, browse};
use crate::fixture::*;

const PAGES: [(&str, &str); 6] = [
    ("runs", ""),
    ("failures", "?status=error&status=timeout"),
    ("run", "runs/0193a5c2-ticket-4711"),
    ("statistics", "statistics"),
    (
        "statistics-of-a-day",
        "statistics?range=24h&skill=answer-ticket",
    ),
    ("compare", "compare?a=0193a5c2-ticket-4711&b=0193a5b1-0001"),
];

const WIDTHS: [u32; 3] = [400, 900, 1_440];

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
                for (name, path) in PAGES {
                    host.open(browser, path).await;
                    for (scheme, scheme_name) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
                        for width in WIDTHS {
                            browser.look(width, scheme).await;
                            is_accessible(browser).await;
                            if place == 0 && database.backend() == Backend::Sqlite {
                                browser.picture(&format!("{name}-{scheme_name}-{width}")).await;
                            }
                        }
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
