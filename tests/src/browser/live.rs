use std::sync::Arc;
use std::time::{Duration, SystemTime};

use runtrail_audit::{Clock, Storage, SystemClock};
use runtrail_store::AuditStore;
use runtrail_test_servers::Cluster;
use serde_json::Value;

use super::checks::is_accessible;
use super::host::Host;
use super::sample;
use super::session::browse;
use crate::fixture::*;

/// The number of events of each store whose way to the screen is timed.
const EVENTS: u64 = 60;

/// Notes when each event that is added to the page has been painted.
const NOTE_WHEN_SHOWN: &str = "
    window.shown = [];
    const note = changes => {
        const added = changes.flatMap(change => [...change.addedNodes]);
        for (const _ of added.filter(node => node.id?.startsWith('e-')))
            requestAnimationFrame(() => setTimeout(() => shown.push(Date.now())));
    };
    new MutationObserver(note).observe(document.body, {childList: true, subtree: true});";

on_each_backend! {
    async fn events_appear_while_a_run_is_recorded(database) {
        let store = database.store().await;
        sample::long(&store, "live", 3).await;
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            host.open(browser, "runs/live?view=events").await;
            browser.wait_for(&says("Live")).await;
            browser.run(NOTE_WHEN_SHOWN).await;
            let other = database.store().await;
            let mut next = 3;
            for (writer, name) in [(&store, "the same store"), (&other, "another store")] {
                browser.run("shown.length = 0").await;
                let mut stored = Vec::new();
                for _ in 0..EVENTS {
                    writer.append_log(&event("live", next)).await.unwrap();
                    stored.push(SystemTime::now());
                    next += 1;
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(10..90))).await;
                }
                browser.wait_for(&format!("shown.length == {EVENTS}")).await;
                let shown = browser.run("return shown").await;
                let delay = |(stored, shown): (SystemTime, &Value)| {
                    let shown = Duration::from_millis(shown.as_u64().unwrap());
                    let shown = SystemTime::UNIX_EPOCH + shown;
                    shown.duration_since(stored).unwrap_or_default()
                };
                let mut delays: Vec<_> = stored
                    .into_iter()
                    .zip(shown.as_array().unwrap())
                    .map(delay)
                    .collect();
                delays.sort();
                let at = |percent| delays[delays.len() * percent / 100];
                eprintln!(
                    "{:?}: an event of {name} is on the screen after {:?} (median), {:?} (p95)",
                    database.backend(),
                    at(50),
                    at(95),
                );
            }
            assert_eq!(browser.count("[id^='e-']").await, next);
            is_accessible(browser).await;
            sample::finish(&store, "live").await;
            browser.wait_for("document.body.innerText.includes('The run has finished')").await;
            browser.click(".following a").await;
            browser.wait_for("document.body.innerText.includes('all pages read')").await;
            is_accessible(browser).await;
            host.is_clean(browser).await;
        })
        .await;
    }

    async fn late_events_appear_in_their_place(database) {
        let store = database.store().await;
        sample::long(&store, "live", 3).await;
        for sequence in [10, 12] {
            store.append_log(&event("live", sequence)).await.unwrap();
        }
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            for (order, late, expected) in [
                ("newest", 11, "12 11 10 2 1 0"),
                ("oldest", 5, "0 1 2 5 10 11 12"),
            ] {
                host.open(browser, &format!("runs/live?view=events&order={order}")).await;
                store.append_log(&event("live", late)).await.unwrap();
                browser.wait_for(&format!("document.getElementById('e-{late}')")).await;
                let shown = browser
                    .run(
                        "return [...document.querySelectorAll('[id^=\"e-\"]')]
                            .map(row => row.id.slice(2)).join(' ')",
                    )
                    .await;
                assert_eq!(shown, expected);
            }
            host.is_clean(browser).await;
        })
        .await;
    }

    async fn runs_appear_while_the_list_is_open(database) {
        let store = database.store().await;
        sample::many(&store, 3).await;
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            host.open(browser, "").await;
            let run = with(running("new-run"), |run| run.started_at = sample::clock().now());
            store.start_run(&run).await.unwrap();
            browser.wait_for("document.querySelector('a[href$=\"runs/new-run\"]')").await;
            is_accessible(browser).await;
            host.is_clean(browser).await;
        })
        .await;
    }
}

/// Whether the state of a live list has this text.
fn says(text: &str) -> String {
    format!("document.querySelector('.following [role=status]')?.innerText.includes('{text}')")
}

#[test]
fn a_lost_server_is_reported_and_what_is_recorded_then_appears_when_it_is_back() {
    const AWAY: &str = "The database does not answer";

    runtime().block_on(async {
        let mut cluster = Cluster::start(&[]).unwrap();
        let store = AuditStore::connect(cluster.url().as_str()).await.unwrap();
        store.initialize().await.unwrap();
        let other = AuditStore::connect(cluster.url().as_str()).await.unwrap();
        sample::long(&store, "live", 3).await;
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            let shown = |sequence: u64| format!("document.getElementById('e-{sequence}')");
            host.open(browser, "runs/live?view=events").await;
            browser.wait_for(&says("Live")).await;
            let mut next = 3;
            for round in 0..2 {
                cluster.crash().unwrap();
                browser.wait_for(&says(AWAY)).await;
                is_accessible(browser).await;
                browser.picture("database-lost").await;
                if round == 1 {
                    // A new connection is refused, and tried again.
                    browser.click(".following button").await;
                    browser.wait_for(&says("Paused")).await;
                    browser.click(".following button").await;
                    browser.wait_for(&says(AWAY)).await;
                }
                cluster.start_again().unwrap();
                for _ in 0..3 {
                    other.append_log(&event("live", next)).await.unwrap();
                    next += 1;
                }
                browser.wait_for(&shown(next - 1)).await;
                browser.wait_for(&says("Live")).await;
                assert_eq!(browser.count("[id^='e-']").await, next);
            }

            host.open(browser, "").await;
            browser.wait_for(&says("Live")).await;
            cluster.crash().unwrap();
            browser.wait_for(&says(AWAY)).await;
            for page in ["statistics", "runs/live"] {
                host.open(browser, page).await;
                let text = browser.text().await;
                assert!(
                    text.contains("The history is not available"),
                    "{page}: {text}"
                );
            }
            cluster.start_again().unwrap();
            let of_run = "document.querySelector('a[href$=\"runs/new-run\"]')";
            host.open(browser, "").await;
            // The page finds a run of another store only if it has started recently.
            let run = with(running("new-run"), |run| run.started_at = SystemClock.now());
            other.start_run(&run).await.unwrap();
            browser.wait_for(of_run).await;
        })
        .await;
        other.close().await.unwrap();
        store.close().await.unwrap();
    });
}
