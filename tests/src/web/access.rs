use std::collections::BTreeMap;

use axum::http::Method;
use runtrail_audit::{RunStats, SkillRun, Storage};
use runtrail_store::AuditStore;
use runtrail_web::{Grant, Restriction};
use serde_json::{Value, json};

use super::visit::Site;
use crate::fixture::*;

const SECRET: &str = "the secret text";

/// All paths that show something of a run.
const PATHS: [&str; 9] = [
    "/runs/ours",
    "/runs/ours/waterfall",
    "/runs/ours/events",
    "/runs/ours/events/0",
    "/api/v1/runs/ours",
    "/api/v1/runs/ours/events",
    "/api/v1/runs/ours/tree",
    "/histogram",
    "/statistics",
];

async fn store_runs(store: &AuditStore) {
    for (id, tenant) in [("ours", "a"), ("theirs", "b")] {
        let stats = RunStats::new("error").output(SECRET).error(SECRET);
        let run = SkillRun::new(id, format!("skill-of-{tenant}"), at(0))
            .caller(format!("caller-of-{tenant}"))
            .label("tenant", tenant)
            .input("question", SECRET)
            .finished(at(1), stats);
        store.start_run(&run).await.unwrap();
        let event = event(id, 0);
        let event = with(event, |event| event.payload = json!({"text": SECRET}));
        store.append_log(&event).await.unwrap();
    }
    let child = SkillRun::new("their-child", "skill-of-b", at(0)).parent("ours");
    store.start_run(&child.label("tenant", "b")).await.unwrap();
}

fn of_tenant(tenant: &str) -> Restriction {
    Restriction::new().label("tenant", tenant)
}

cases_of_the_store! {
    async fn without_texts_no_path_shows_a_text(cx) {
        store_runs(cx.store).await;
        let full = Site::of(cx.store);
        for path in ["/runs/ours", "/api/v1/runs/ours", "/api/v1/runs/ours/events"] {
            assert!(full.shows(path).await.contains(SECRET), "{path}");
        }
        let site = Site::granting(cx.store, Grant::without_texts());
        for path in PATHS.into_iter().chain(["/", "/?show=all", "/api/v1/runs"]) {
            assert!(!site.shows(path).await.contains(SECRET), "{path}");
        }
        let run = site.json("/api/v1/runs/ours").await;
        for field in ["inputs", "output", "error"] {
            assert!(run.get(field).is_none(), "{run}");
        }
        let events = site.json("/api/v1/runs/ours/events").await;
        assert!(events["events"][0].get("payload").is_none(), "{events}");
    }

    async fn a_run_outside_the_restriction_is_as_if_it_were_not_stored(cx) {
        store_runs(cx.store).await;
        for restriction in [
            of_tenant("a"),
            Restriction::new().skills(["skill-of-a"]),
            Restriction::new().callers(["caller-of-a"]),
        ] {
            let site = Site::granting(cx.store, Grant::full().restricted_to(restriction));
            let lists = ["/", "/?show=all", "/?caller=caller-of-b", "/api/v1/runs?show=all"];
            let statistics = ["/statistics?from=90d&by=caller", "/api/v1/statistics?by=skill"];
            for path in PATHS.iter().chain(&lists).chain(&statistics) {
                let page = site.shows(path).await;
                for other in ["theirs", "their-child", "skill-of-b"] {
                    assert!(!page.contains(other), "{path}: {page}");
                }
            }
            for path in &PATHS[..7] {
                let path = path.replace("ours", "theirs");
                let of_another = site.get(&path).await;
                let unknown = site.get(&path.replace("theirs", "no-run")).await;
                assert_eq!((of_another.status, unknown.status), (404, 404), "{path}");
                assert_eq!(of_another.body, unknown.body.replace("no-run", "theirs"));
            }
        }
    }

    async fn a_hidden_parent_is_not_named(cx) {
        for (id, parent, tenant) in [
            ("theirs", "", "b"),
            ("ours", "theirs", "a"),
            ("child", "ours", "a"),
            ("their-child", "ours", "b"),
            ("below", "their-child", "a"),
            ("orphan", "purged", "a"),
        ] {
            let run = SkillRun::new(id, format!("skill-of-{tenant}"), at(0));
            let run = run.label("tenant", tenant);
            let run = if parent.is_empty() { run } else { run.parent(parent) };
            cx.store.start_run(&run).await.unwrap();
        }
        let parents = |runs: &Value| {
            let runs = runs["runs"].as_array().unwrap().iter();
            let parents = runs.map(|run| (run["id"].clone(), run["parent_run_id"].clone()));
            parents
                .map(|(id, parent)| (id.as_str().unwrap().to_owned(), parent))
                .collect::<BTreeMap<_, _>>()
        };
        let expected = |parents: &[(&str, Value)]| {
            let parents = parents.iter();
            parents
                .map(|(id, parent)| ((*id).to_owned(), parent.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        for restriction in [of_tenant("a"), Restriction::new().skills(["skill-of-a"])] {
            let site = Site::granting(cx.store, Grant::full().restricted_to(restriction));
            let list = parents(&site.json("/api/v1/runs?show=all").await);
            let all = [
                ("ours", Value::Null), ("child", json!("ours")), ("below", Value::Null),
                ("orphan", Value::Null),
            ];
            assert_eq!(list, expected(&all));
            assert_eq!(site.json("/api/v1/runs/ours").await["parent_run_id"], Value::Null);
            assert_eq!(site.json("/api/v1/runs/child").await["parent_run_id"], "ours");
            let tree = site.json("/api/v1/runs/ours/tree").await;
            let reached = [("ours", Value::Null), ("child", json!("ours"))];
            assert_eq!(parents(&tree), expected(&reached));
            assert_eq!(tree["omitted"], 0);
            assert!(site.shows("/runs/child").await.contains("href=\"../runs/ours\""));
            for path in PATHS {
                // There are no events.
                let page = site.get(path).await.body;
                assert!(!page.contains("theirs") && !page.contains("their-child"), "{path}");
            }
        }
        let site = Site::of(cx.store);
        assert_eq!(site.json("/api/v1/runs/ours").await["parent_run_id"], "theirs");
        let list = parents(&site.json("/api/v1/runs?show=all").await);
        assert_eq!(list["orphan"], "purged");
        assert!(site.shows("/runs/ours").await.contains("href=\"../runs/theirs\""));
    }

    async fn a_damaged_run_outside_the_restriction_is_as_if_it_were_not_stored(cx) {
        store_runs(cx.store).await;
        cx.sql("UPDATE skill_runs SET tool_calls = -1 WHERE id = 'theirs'").await;
        let site = Site::granting(cx.store, Grant::full().restricted_to(of_tenant("a")));
        assert_eq!(site.get("/runs/theirs").await.status, 404);
        assert_eq!(Site::of(cx.store).get("/runs/theirs").await.status, 500);
    }

    async fn nothing_is_shown_to_the_forbidden(cx) {
        store_runs(cx.store).await;
        let site = Site::granting(cx.store, Grant::forbidden());
        for path in PATHS.into_iter().chain(["/", "/api/v1/openapi.json"]) {
            let answer = site.get(path).await;
            assert_eq!(answer.status, 403, "{path}");
            assert!(!answer.body.contains("ours"), "{path}");
        }
    }

    async fn the_page_only_reads(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store);
        for path in PATHS.into_iter().chain(["/", "/api/v1/runs"]) {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let answer = site.request(method, path).await;
                assert_eq!(answer.status, 405, "{path}");
            }
            let head = site.request(Method::HEAD, path).await;
            assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        }
    }

    async fn every_response_has_the_same_security_headers(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store);
        let page = site.shows("/").await;
        let asset = |name: &str| {
            let mut paths = page.split("\"./").map(|rest| rest.split('"').next().unwrap());
            format!("/{}", paths.find(|path| path.ends_with(name)).unwrap())
        };
        let assets = [asset(".css"), asset(".js"), asset(".svg")];
        for asset in &assets {
            let answer = site.get(asset).await;
            assert_eq!(answer.status, 200, "{asset}");
            assert!(answer.headers["cache-control"].to_str().unwrap().contains("immutable"));
        }
        let wrong = ["/assets/nothing.css", "/nowhere", "/runs/unknown", "/?show=some"];
        let assets = assets.iter().map(String::as_str);
        for path in PATHS.into_iter().chain(wrong).chain(assets) {
            let headers = site.get(path).await.headers;
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
            assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
            if !path.starts_with("/assets/") {
                assert_eq!(headers["cache-control"], "no-store", "{path}");
            }
        }
        let post = site.request(Method::POST, "/").await;
        assert!(post.headers.contains_key("content-security-policy"));
    }

    async fn a_mounted_page_has_only_relative_links(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store).below("/a%20host/history");
        let redirect = site.get("/a%20host/history?status=ok").await;
        assert_eq!(redirect.status, 308);
        assert_eq!(redirect.headers["location"], "./history/?status=ok");
        for path in ["/", "/runs/ours", "/runs/ours/events/0", "/statistics", "/nowhere/at/all"] {
            let page = site.get(&format!("/a%20host/history{path}")).await.body;
            for attribute in ["href=\"", "src=\"", "action=\"", "data-root=\""] {
                let links = page.split(attribute).skip(1);
                for link in links.map(|rest| rest.split('"').next().unwrap()) {
                    let is_relative = !link.starts_with('/') && !link.contains("://");
                    assert!(is_relative, "{path}: {link}");
                }
            }
        }
    }

    async fn any_id_has_a_page(cx) {
        let ids = [
            ".", "..", "~", "a/b", "a b", "%2e%2e", "?x=1#y", "é漢\u{202E}", "a\\b", "\r\n", "\"'<",
        ];
        for id in ids {
            cx.store.start_run(&running(id)).await.unwrap();
        }
        let site = Site::of(cx.store);
        let list = site.json("/api/v1/runs?show=all").await;
        assert_eq!(list["runs"].as_array().unwrap().len(), ids.len());
        let page = site.shows("/?show=all").await;
        let links = page.split("href=\"./runs/").skip(1);
        let mut found = BTreeMap::new();
        for segment in links.map(|rest| rest.split('"').next().unwrap()) {
            assert!(!segment.contains('/'), "{segment}");
            site.shows(&format!("/runs/{segment}")).await;
            let run = site.json(&format!("/api/v1/runs/{segment}")).await;
            found.insert(run["id"].as_str().unwrap().to_owned(), ());
        }
        assert_eq!(found.len(), ids.len());
        for path in ["/runs/a%00b", "/runs/%FF", "/runs/"] {
            assert_eq!(site.get(path).await.status, 404, "{path}");
        }
        let too_long = format!("/runs/{}", "x".repeat(256));
        assert_eq!(site.get(&too_long).await.status, 404);
    }

    async fn a_history_that_is_away_is_reported_without_details(cx) {
        store_runs(cx.store).await;
        let site = Site::of(cx.store);
        cx.store.clone().close().await.unwrap();
        for path in PATHS.into_iter().chain(["/", "/compare?b=ours", "/api/v1/runs"]) {
            let answer = site.get(path).await;
            assert_eq!(answer.status, 503, "{path}: {}", answer.body);
            assert!(answer.headers.contains_key("retry-after"));
            assert!(answer.body.contains("did not answer"), "{path}: {}", answer.body);
        }
    }
}
