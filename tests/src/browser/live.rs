use std::sync::Arc;

use runtrail_audit::{Clock, Storage};

use super::checks::is_accessible;
use super::host::Host;
use super::sample;
use super::session::browse;
use crate::fixture::*;

on_each_backend! {
    async fn events_appear_while_a_run_is_recorded(database) {
        let store = database.store().await;
        sample::long(&store, "live", 3).await;
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            host.open(browser, "runs/live?view=events").await;
            for sequence in 3..20 {
                store.append_log(&event("live", sequence)).await.unwrap();
                let shown = format!("document.getElementById('e-{sequence}')");
                let took = browser.wait_for(&shown).await;
                if sequence == 19 {
                    eprintln!("{:?}: an event is shown after {took:?}", database.backend());
                }
            }
            assert_eq!(browser.count("[id^='e-']").await, 20);
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
