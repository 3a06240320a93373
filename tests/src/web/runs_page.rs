use chrono::TimeDelta;
use runtrail_audit::{BulkStorage, Clock, RunStats, SkillRun, Storage, Usage};
use runtrail_store::AuditStore;
use runtrail_web::{Grant, Restriction};

use super::visit::{Site, rows};
use crate::fixture::*;

/// A finished run that started this many minutes before the time of the page.
fn a_run(id: &str, minutes: i64) -> SkillRun {
    let started_at = ManualClock::default().now() - TimeDelta::minutes(minutes);
    let stats = RunStats::new("ok")
        .output("the answer")
        .runtime_seconds(1.5)
        .input_tokens(1_200)
        .output_tokens(34);
    SkillRun::new(id, "summarise", started_at)
        .caller("alice")
        .finished(started_at + TimeDelta::seconds(2), stats)
}

async fn store_all(store: &AuditStore, runs: impl IntoIterator<Item = SkillRun>) {
    for run in runs {
        store.start_run(&run).await.unwrap();
    }
}

/// The ids of the listed runs.
fn listed(page: &str) -> Vec<String> {
    let ids = page.split("data-run=\"").skip(1);
    ids.map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

/// The first link with this text, from the root of the page.
fn link(page: &str, text: &str) -> String {
    let before = page.split(text).next().unwrap();
    let (_, rest) = before.rsplit_once("href=\"").unwrap();
    let link = rest.split('"').next().unwrap().replace("&amp;", "&");
    link.replacen("./", "/", 1)
}

cases_of_the_store! {
    async fn runs_are_listed_newest_first_without_those_of_other_runs(cx) {
        let child = a_run("child", 3).parent("older");
        let orphan = a_run("orphan", 5).parent("purged");
        let runs = [a_run("older", 4), child, orphan, a_run("newer", 2)];
        store_all(cx.store, runs).await;
        let site = Site::of(cx.store);
        let page = site.shows("/").await;
        assert_eq!(listed(&page), ["newer", "older", "orphan"]);
        assert_eq!(rows(&page)[1], "ok|summarisenewer|alice|2m ago|1.5s||1.2k");
        assert_eq!(rows(&page)[2], "ok|summariseolder|alice|4m ago|1.5s|1|2.5k");
        let page = site.shows("/?show=all").await;
        assert_eq!(listed(&page), ["newer", "child", "older", "orphan"]);
    }

    async fn a_run_has_the_totals_of_the_runs_below_it(cx) {
        let top = a_run("top", 4);
        let below = a_run("below", 3).parent("top").caller("bob");
        let deeper = a_run("deeper", 2).parent("below");
        store_all(cx.store, [top, below, deeper, a_run("alone", 1)]).await;
        let call = |run: &str, sequence, cost: Option<u64>| {
            let mut usage = Usage::new().model("gpt-5");
            usage.cost_micros = cost;
            event(run, sequence).usage(usage)
        };
        let calls = [
            call("top", 0, Some(20_000)),
            call("below", 0, Some(3_000)),
            call("deeper", 0, Some(400)),
            call("alone", 0, None),
        ];
        cx.store.append_logs(&calls).await.unwrap();
        let site = Site::of(cx.store);
        let of = |page: &str, id: &str| {
            let rows = rows(page);
            let row = rows.iter().find(|row| row.contains(id)).unwrap();
            row.splitn(6, '|').nth(5).unwrap().to_owned()
        };
        let page = site.shows("/").await;
        assert_eq!(of(&page, "summarisetop"), "2|3.7k|$0.0234");
        assert_eq!(of(&page, "summarisealone"), "|1.2k");
        assert!(page.contains("3,702 tokens, 1,234 of them its own"), "{page}");
        cx.store.append_log(&call("deeper", 1, None)).await.unwrap();
        let page = site.shows("/?skill=summarise").await;
        assert_eq!(of(&page, "summarisetop"), "2|3.7k|≥ $0.0234");
        assert_eq!(of(&page, "summarisebelow"), "1|2.5k|≥ $0.0034");

        // What a visitor may not see doesn't count, nor what is below it.
        let of_alice = Grant::full().restricted_to(Restriction::new().callers(["alice"]));
        let page = Site::granting(cx.store, of_alice).shows("/").await;
        assert_eq!(of(&page, "summarisetop"), "|1.2k|$0.02");
    }

    async fn the_totals_of_a_large_tree_are_lower_bounds(cx) {
        let runs = (0..1_000).map(|number| a_run(&format!("run-{number}"), 5).parent("top"));
        let top = a_run("top", 6);
        cx.store.start_run(&top).await.unwrap();
        for run in runs {
            cx.store.start_run(&run).await.unwrap();
        }
        let page = Site::of(cx.store).shows("/").await;
        assert_eq!(rows(&page)[1], "ok|summarisetop|alice|6m ago|1.5s|≥ 999|≥ 1.2M");
    }

    async fn an_empty_list_says_why(cx) {
        let site = Site::of(cx.store);
        assert!(site.shows("/").await.contains("No run is recorded yet."));
        store_all(cx.store, [a_run("child", 3).parent("child")]).await;
        let page = site.shows("/?skill=summarise&show=top").await;
        assert!(page.contains("No run matches these filters."));
        let all = link(&page, "Look among the runs that other runs started");
        assert_eq!(listed(&site.shows(&all).await), ["child"]);
    }

    async fn every_filter_selects_runs_and_is_shown_in_the_form(cx) {
        let failed = with(a_run("failed", 10), |run| run.status = "error".into());
        let other = with(a_run("other", 90), |run| {
            run.skill_id = "translate \"&<".into();
            run.caller_id = "bob".into();
            run.channel_id = "chat".into();
            run.status = "cancelled".into();
        });
        store_all(cx.store, [failed, other.label("env", "prod")]).await;
        let site = Site::of(cx.store);
        for (query, expected) in [
            ("status=error", &["failed"][..]),
            ("status=error&status=cancelled", &["failed", "other"]),
            ("skill=translate%20%22%26%3C", &["other"]),
            ("caller=bob", &["other"]),
            ("channel=chat", &["other"]),
            ("label=env%3Dprod", &["other"]),
            ("label=env!%3Dprod", &["failed"]),
            ("label=env", &["other"]),
            ("from=1h", &["failed"]),
            ("to=2026-11-24T11:00:00Z", &["other"]),
            ("id=ot", &["other"]),
            ("caller=bob&status=error", &[]),
        ] {
            let page = site.shows(&format!("/?{query}")).await;
            assert_eq!(listed(&page), expected, "{query}");
        }
        let page = site.shows("/?skill=a%22%26%3C&status=cancelled&from=1h").await;
        assert!(page.contains(r#"name="skill" value="a&quot;&amp;&lt;""#));
        assert!(page.contains(r#"name="status" value="cancelled" checked"#));
        assert!(page.contains(r#"name="from" value="1h""#));
    }

    async fn pages_lead_to_each_other_also_with_an_age(cx) {
        store_all(cx.store, (0..120).map(|n| a_run(&format!("run-{n:03}"), n))).await;
        let site = Site::of(cx.store);
        let first = site.shows("/?from=100m&caller=alice").await;
        let runs = listed(&first);
        assert_eq!((runs.len(), runs[0].as_str()), (50, "run-000"));
        // Later, the age means another time, but the pages stay the same.
        let site = Site::later(cx.store, 3_600);
        let older = link(&first, "Older");
        let second = site.shows(&older).await;
        let runs = listed(&second);
        assert_eq!((runs.len(), runs[0].as_str()), (50, "run-050"));
        let third = site.shows(&link(&second, "Older")).await;
        assert_eq!(listed(&third), ["run-100"]);
        assert!(!third.contains("Older"));
        let newer = site.shows(&link(&second, "← Newer")).await;
        assert_eq!(listed(&newer), listed(&first));
    }

    async fn wrong_parameters_are_refused_with_the_reason(cx) {
        let site = Site::of(cx.store);
        let long = format!("skill={}", "x".repeat(256));
        for (query, reason) in [
            ("cursor=nonsense", "Cursor"),
            ("from=yesterday", "yesterday"),
            ("label=%20%3Dprod", "label"),
            ("show=some", "top or all"),
            (long.as_str(), "255"),
        ] {
            let answer = site.get(&format!("/?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.body.contains(reason), "{query}: {}", answer.body);
        }
    }

    async fn texts_of_the_history_are_never_markup(cx) {
        let hostile = "<script>alert(1)</script>\u{202E}\u{1B}[31m";
        let run = with(a_run(hostile, 1), |run| {
            run.skill_id = hostile.into();
            run.caller_id = hostile.into();
            run.status = "<b>".into();
        });
        store_all(cx.store, [run]).await;
        let site = Site::of(cx.store);
        for path in ["/", "/?chart=1", "/histogram", "/?caller=%3Cscript%3E&status=%3Cb%3E"] {
            let page = site.shows(path).await;
            assert!(!page.contains("<script>") && !page.contains("<b>"), "{path}");
            assert!(!page.contains(['\u{1B}', '\u{202E}']), "{path}");
        }
    }

    async fn a_histogram_has_a_bar_for_each_period(cx) {
        let failed = with(a_run("failed", 45), |run| run.status = "error".into());
        store_all(cx.store, [a_run("a", 40), a_run("b", 30), failed, a_run("old", 2_000)]).await;
        let site = Site::of(cx.store);
        let histogram = site.shows("/histogram?from=1h").await;
        assert!(histogram.contains("<strong>3 runs</strong>"), "{histogram}");
        let table = rows(&histogram);
        assert_eq!(table[1], "2026-11-24 11:15|1|1 error");
        assert_eq!(table.len(), 4);
        let bar = link(&histogram, "2026-11-24 11:15</a>");
        assert_eq!(listed(&site.shows(&bar).await), ["failed"]);
        // Without a script, a link shows it above the list.
        let page = site.shows("/?caller=alice").await;
        let with_chart = site.shows(&link(&page, "Show runs over time")).await;
        assert!(with_chart.contains("<strong>3 runs</strong>"));
        assert_eq!(site.get("/histogram?from=1h&to=2h").await.status, 400);
    }
}
