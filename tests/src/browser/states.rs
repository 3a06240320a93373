use std::sync::Arc;
use std::time::Duration;

use runtrail_audit::Storage;

use super::checks::is_accessible;
use super::host::Host;
use super::looks::WIDTHS;
use super::sample;
use super::session::{Browser, Scheme, browse};

const EVENTS: u64 = 80_000;

/// The characters of the page that move a cursor, or change the order of others.
const CONTROLS: &str = "return document.documentElement.textContent.match(
    /[\\u202a-\\u202e\\u2066-\\u2069\\u001b\\u0007]/g)";

/// The schemes of all links.
const SCHEMES: &str = "return [...document.links].map(link => link.protocol)";

/// The entry is added soon after the page has loaded.
const FIRST_PAINT: &str = "performance.getEntriesByName('first-contentful-paint')[0]";

on_each_backend! {
    async fn an_empty_history_says_so(database) {
        let store = database.store().await;
        let host = Host::at_root(Arc::new(store.clone())).await;
        browse(async |browser| {
            for (name, path) in [("empty-runs", ""), ("empty-statistics", "statistics")] {
                host.open(browser, path).await;
                is_accessible(browser).await;
                assert!(browser.text().await.contains("No run"), "{path}");
                browser.picture(name).await;
            }
            host.is_clean(browser).await;
            host.open(browser, "runs/missing").await;
            is_accessible(browser).await;
            host.has_status(browser, 404).await;
            host.open(browser, "?status=ok&from=yesteryear").await;
            is_accessible(browser).await;
            host.has_status(browser, 400).await;
        })
        .await;
    }

    async fn a_history_of_one_run_and_one_of_thousands_are_shown(database) {
        let store = database.store().await;
        let host = Host::at_root(Arc::new(store.clone())).await;
        sample::many(&store, 1).await;
        browse(async |browser| {
            for (name, path) in [("one-run", ""), ("one-run-statistics", "statistics")] {
                host.open(browser, path).await;
                is_accessible(browser).await;
                browser.picture(name).await;
            }
            sample::many(&store, 2_000).await;
            host.open(browser, "").await;
            is_accessible(browser).await;
            browser.picture("thousands").await;
            let of_run = |number: u32| format!("a[href$='runs/run-{number:05}']");
            assert_eq!(browser.count(&of_run(0)).await, 1);
            browser.click("a[rel=next]").await;
            assert_eq!(browser.count(&of_run(0)).await, 0);
            is_accessible(browser).await;
            host.is_clean(browser).await;
        })
        .await;
    }

    async fn a_database_that_is_away_is_reported(database) {
        let store = database.store().await;
        let host = Host::at_root(Arc::new(store.clone())).await;
        store.close().await.unwrap();
        browse(async |browser| {
            for path in ["", "runs/run-1", "statistics"] {
                host.open(browser, path).await;
                is_accessible(browser).await;
                host.has_status(browser, 503).await;
            }
            for (scheme, of_scheme) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
                for width in WIDTHS {
                    browser.look(width, scheme).await;
                    is_accessible(browser).await;
                    browser.picture(&format!("database-away-{of_scheme}-{width}")).await;
                }
            }
        })
        .await;
    }

    async fn hostile_texts_stay_texts(database) {
        let store = database.store().await;
        let id = sample::hostile_run(&store).await;
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            host.open(browser, "").await;
            browser.click("main a[href*='runs/']").await;
            let run = browser.url().await;
            for path in [run.as_str(), &host.page, &format!("{}statistics", host.page)] {
                browser.open(path).await;
                is_accessible(browser).await;
                let text = browser.text().await;
                assert!(text.contains("onerror="), "{path}");
                let title = browser.run("return document.title").await;
                assert_ne!(title, "owned");
                assert_eq!(browser.count("main script, main img, base, main iframe").await, 0);
                let controls = browser.run(CONTROLS).await;
                assert!(controls.is_null(), "{path}: {controls}");
                let schemes = browser.run(SCHEMES).await;
                let harmless = ["http:", "https:", "mailto:"];
                let mut schemes = schemes.as_array().unwrap().iter();
                assert!(schemes.all(|scheme| harmless.contains(&scheme.as_str().unwrap())));
                host.is_clean(browser).await;
            }
            browser.open(&run).await;
            let text = browser.text().await;
            assert!(text.contains("<script>document.title = 'owned'</script>"));
            browser.picture("hostile").await;
            store.get_run(&id).await.unwrap();
        })
        .await;
    }

    async fn a_run_with_very_many_events_opens_and_scrolls(database) {
        let store = database.store().await;
        sample::long(&store, "long", EVENTS).await;
        sample::finish(&store, "long").await;
        let host = Host::at_root(Arc::new(store.clone())).await;
        browse(async |browser| {
            host.open(browser, "runs/long").await;
            browser.wait_for(FIRST_PAINT).await;
            let paint = browser.run(&format!("return {FIRST_PAINT}.startTime")).await;
            eprintln!("{:?}: first paint of {EVENTS} events after {paint} ms", database.backend());
            is_accessible(browser).await;
            browser.picture("very-many-events").await;
            host.open(browser, &format!("runs/long?view=events&from={}", EVENTS - 3_000)).await;
            let took = scroll_to(browser, EVENTS - 1).await;
            eprintln!("{:?}: 15 windows are loaded within {took:?}", database.backend());
            // Windows that are far away are removed.
            assert!(browser.count("[id^='e-']").await < 2_500);
            // They are loaded again: the second one, for example.
            let row = EVENTS - 3_000 + 250;
            let shown = format!("document.getElementById('e-{row}')");
            browser.wait_for(&format!("(window.scrollTo(0, 7000), {shown})")).await;
            host.open(browser, "runs/long?view=events&order=newest").await;
            scroll_to(browser, EVENTS - 1_000).await;
            host.is_clean(browser).await;
        })
        .await;
    }
}

/// Scrolls to the end of the page until an event is shown. Returns how long that took.
async fn scroll_to(browser: &Browser, sequence: u64) -> Duration {
    let scroll = "window.scrollTo(0, document.documentElement.scrollHeight)";
    let shown = format!("document.getElementById('e-{sequence}')");
    browser.wait_for(&format!("({scroll}, {shown})")).await
}
