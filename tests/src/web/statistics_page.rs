use std::time::Duration;

use chrono::TimeDelta;
use runtrail_audit::{Clock, RunStats, SkillRun, SkillRunLog, Storage, Usage};
use runtrail_store::AuditStore;
use runtrail_web::{Grant, Restriction};
use serde_json::json;

use super::visit::{Site, rows};
use crate::fixture::*;

/// Stores a run that started this many minutes before the time of the page, and took 2 seconds.
async fn store_run(store: &AuditStore, id: &str, skill: &str, minutes: i64, status: &str) {
    let started_at = ManualClock::default().now() - TimeDelta::minutes(minutes);
    let finished_at = started_at + TimeDelta::seconds(2);
    let run = SkillRun::new(id, skill, started_at)
        .caller("alice")
        .label("tenant", skill)
        .finished(finished_at, RunStats::new(status).runtime_seconds(2.0));
    store.start_run(&run).await.unwrap();
}

async fn store_call(store: &AuditStore, run: &str, sequence: u64, usage: Usage) {
    let time = ManualClock::default().now() - TimeDelta::minutes(1);
    let call = SkillRunLog::new(run, sequence, "model_call", json!({}))
        .created_at(time)
        .duration(Duration::from_millis(700))
        .usage(usage);
    store.append_log(&call).await.unwrap();
}

/// Three runs of two skills within a week, one long ago, and two calls.
async fn store_runs(store: &AuditStore) {
    store_run(store, "run-1", "summarise", 5, "ok").await;
    store_run(store, "run-2", "summarise", 300, "error").await;
    store_run(store, "run-3", "<b>translate", 3_000, "ok").await;
    store_run(store, "run-4", "summarise", 60_000, "ok").await;
    let usage = Usage::new().provider("openai").model("gpt-<4>");
    let priced = usage
        .clone()
        .input_tokens(1_200)
        .output_tokens(30)
        .cost_micros(4_500);
    store_call(store, "run-1", 0, priced).await;
    store_call(store, "run-3", 0, usage.input_tokens(5)).await;
}

cases_of_the_store! {
    async fn statistics_have_a_row_for_each_group_and_model(cx) {
        store_runs(cx.store).await;
        let page = Site::of(cx.store).shows("/statistics").await;
        let rows = rows(&page);
        for expected in [
            "summarise|2|1 (50.0%)|2.0s|2.0s|2.0s|1|1.2k|30|$0.0045",
            "&lt;b&gt;translate|1|0|2.0s|2.0s|2.0s|1|5|0|–",
            "gpt-&lt;4&gt;|openai|2|700ms|700ms|700ms|1.2k|0|30|$0.0045",
        ] {
            assert!(rows.iter().any(|row| row == expected), "{expected}: {rows:#?}");
        }
        assert!(!page.contains("<b>translate"));
        assert!(page.contains("<dt>Runs</dt><dd>3</dd>"));
        let chart = "Runs: Failed 1, Not failed 2, Not finished 0; at most 2 per 6 hours";
        assert!(page.contains(chart));
        // Every bar of a chart is a row too.
        assert_eq!(rows.iter().filter(|row| row.starts_with("Nov ")).count(), 29);
    }

    async fn a_group_and_a_bar_link_to_their_runs(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store);
        let page = site.shows("/statistics?from=24h&caller=alice").await;
        let links = |page: &str, end: &str| -> Vec<String> {
            let links = page.split("href=\"").filter_map(|part| part.split_once('"'));
            let is_of_text = |rest: &str| {
                let text = rest.find(end);
                text.is_some() && rest.find('<') >= text
            };
            let links = links.filter(|(_, rest)| is_of_text(rest));
            links.map(|(link, _)| link.replace("&amp;", "&")).collect()
        };
        let of_skill = links(&page, "><bdi>summarise");
        assert_eq!(of_skill.len(), 1);
        let list = site.shows(of_skill[0].trim_start_matches('.')).await;
        assert!(list.contains("run-1") && list.contains("run-2"));
        assert!(!list.contains("run-3") && !list.contains("run-4"));
        let of_hour = links(&page, ">Nov 24, 07:00");
        let list = site.shows(of_hour[0].trim_start_matches('.')).await;
        assert!(list.contains("run-2") && !list.contains("run-1"));
    }

    async fn statistics_are_about_the_given_time_and_filter(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store);
        for (query, runs) in [
            ("", 3),
            ("?from=24h", 2),
            ("?from=90d", 4),
            ("?from=2026-10-01&to=2026-11-01", 1),
            ("?to=2026-11-24T11:00:00Z", 2),
            ("?skill=summarise", 2),
            ("?status=error", 1),
            ("?label=tenant=summarise&from=90d&by=caller", 3),
        ] {
            let page = site.shows(&format!("/statistics{query}")).await;
            assert!(page.contains(&format!("<dt>Runs</dt><dd>{runs}</dd>")), "{query}");
        }
        let page = site.shows("/statistics?by=status&skill=a%20b").await;
        assert!(page.contains("No runs in this time."));
        // Links keep the filter and the grouping.
        assert!(page.contains("statistics?skill=a%20b&amp;by=status&amp;from=24h"));
    }

    async fn statistics_that_cannot_be_asked_for_are_refused(cx) {
        let site = Site::of(cx.store);
        for query in [
            "by=colour",
            "from=soon",
            "from=2026-11-02&to=2026-11-01",
            "label=%3Dx",
            "show=some",
        ] {
            let answer = site.get(&format!("/statistics?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
        }
        site.shows("/statistics?from=0001-01-01&to=9999-12-31").await;
    }

    async fn statistics_count_only_what_a_visitor_may_see(cx) {
        store_runs(cx.store).await;
        let of_tenant = Restriction::new().label("tenant", "summarise");
        let site = Site::granting(cx.store, Grant::without_texts().restricted_to(of_tenant));
        let page = site.shows("/statistics?from=90d").await;
        assert!(page.contains("<dt>Runs</dt><dd>3</dd>"));
        assert!(!page.contains("translate"));
        let nothing = Restriction::new().callers(["bob"]);
        let site = Site::granting(cx.store, Grant::full().restricted_to(nothing));
        let page = site.shows("/statistics?caller=alice").await;
        assert!(page.contains("No runs in this time."));
    }

    async fn very_many_groups_are_cut_and_counted(cx) {
        for number in 0..103 {
            let (run, skill) = (format!("run-{number}"), format!("skill-{number}"));
            store_run(cx.store, &run, &skill, 5, "ok").await;
        }
        let page = Site::of(cx.store).shows("/statistics").await;
        let rows = rows(&page);
        assert_eq!(rows.iter().filter(|row| row.starts_with("skill-")).count(), 100);
        assert!(page.contains("and 3 more rows"));
    }
}
