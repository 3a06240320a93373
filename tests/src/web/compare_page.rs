use runtrail_audit::{SkillRun, Storage, Usage};
use runtrail_store::AuditStore;
use runtrail_web::{Grant, Restriction};
use serde_json::json;

use super::visit::{Site, rows};
use crate::fixture::*;

async fn store_runs(store: &AuditStore) {
    for (id, seconds, question) in [("run-1", 0, "why?"), ("run-2", 60, "<b>when?")] {
        let run = finished_at(id, seconds + 30).input("question", json!(question));
        let run = with(run, |run| {
            run.started_at = at(seconds);
            run.runtime_seconds = 30.0 + seconds as f64;
        });
        store.start_run(&run).await.unwrap();
        let call = event(id, 0).usage(Usage::new().model("gpt").input_tokens(3));
        store.append_log(&call).await.unwrap();
    }
    let child = SkillRun::new("child", "fetch", at(70)).parent("run-2");
    store.start_run(&child).await.unwrap();
    let other = SkillRun::new("other", "another skill", at(65)).caller("bob");
    store.start_run(&other).await.unwrap();
}

cases_of_the_store! {
    async fn a_run_is_compared_with_the_previous_one_of_its_skill(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store);
        assert!(site.shows("/runs/run-2").await.contains(r#"href="../compare?b=run-2""#));
        let page = site.shows("/compare?b=run-2").await;
        let rows = rows(&page);
        for expected in [
            "|run-1|run-2",
            "Status|ok|ok",
            "Duration|30.0s|1m 30s",
            "Call of gpt|1|1",
            "Run of fetch|0|1",
        ] {
            assert!(rows.iter().any(|row| row == expected), "{expected}: {rows:#?}");
        }
        assert!(page.contains("why?") && page.contains("&lt;b&gt;when?"));
        assert!(!page.contains("<b>when?"));
        let first = site.shows("/compare?b=run-1").await;
        assert!(first.contains("This is the first run of its skill."));
    }

    async fn any_two_runs_can_be_compared(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store);
        let page = site.shows("/compare?a=other&b=run-1").await;
        assert!(rows(&page).iter().any(|row| row == "Skill|another skill|skill"));
        assert!(site.shows("/compare").await.contains("Id of another run"));
        for query in ["a=nothing&b=run-1", "b=nothing", "a=nothing"] {
            assert_eq!(site.get(&format!("/compare?{query}")).await.status, 404, "{query}");
        }
    }

    async fn a_comparison_shows_only_what_the_visitor_may_see(cx) {
        store_runs(cx.store).await;
        let site = Site::granting(cx.store, Grant::without_texts());
        let page = site.shows("/compare?b=run-2").await;
        assert!(!page.contains("why?") && !page.contains("because"));
        let restriction = Restriction::new().callers(["caller"]);
        let site = Site::granting(cx.store, Grant::full().restricted_to(restriction));
        assert_eq!(site.get("/compare?a=other&b=run-1").await.status, 404);
        let page = site.shows("/compare?b=run-2").await;
        assert!(!page.contains("fetch"), "{page}");
    }
}
