use std::sync::Arc;

use fantoccini::key::Key;

use super::checks::is_accessible;
use super::host::Host;
use super::sample;
use super::session::browse;

on_each_backend! {
    async fn every_page_can_be_used_with_keys(database) {
        let store = database.store().await;
        sample::help_desk(&store).await;
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            host.open(browser, "").await;
            browser.press("?").await;
            browser.wait_for("document.querySelector('dialog[open]')").await;
            is_accessible(browser).await;
            browser.picture("keys").await;
            browser.press_key(Key::Escape).await;
            browser.wait_for("!document.querySelector('dialog[open]')").await;
            browser.press("/").await;
            browser.wait_for("document.activeElement.matches('input')").await;
            // In a field, keys are text.
            browser.press("jk?").await;
            assert_eq!(browser.run("return document.activeElement.value").await, "jk?");
            assert_eq!(browser.count("dialog[open]").await, 0);
            host.open(browser, "").await;
            browser.press("jjk").await;
            browser.wait_for("document.activeElement.closest('tr')?.rowIndex === 1").await;
            browser.press_key(Key::Enter).await;
            browser.wait_for("location.pathname.includes('/runs/')").await;
            browser.press("gr").await;
            browser.wait_for("location.pathname === '/history/'").await;
            host.is_clean(browser).await;
        })
        .await;
    }

    async fn every_page_can_be_used_without_scripts(database) {
        let store = database.store().await;
        sample::help_desk(&store).await;
        sample::long(&store, "long", 1_000).await;
        sample::finish(&store, "long").await;
        let host = Host::at(Arc::new(store.clone()), "/history").await;
        browse(async |browser| {
            browser.disable_scripts().await;
            host.open(browser, "").await;
            is_accessible(browser).await;
            browser.picture("without-scripts").await;
            browser.click("a[rel=next]").await;
            is_accessible(browser).await;
            host.open(browser, "?skill=triage").await;
            assert!(!browser.text().await.contains("translate\n"));
            host.open(browser, "runs/long?view=events").await;
            assert_eq!(browser.count("#e-0").await, 1);
            browser.click("a[rel=next]").await;
            assert_eq!((browser.count("#e-0").await, browser.count("#e-200").await), (0, 1));
            is_accessible(browser).await;
            host.open(browser, "statistics").await;
            is_accessible(browser).await;
            host.is_clean(browser).await;
        })
        .await;
    }
}
