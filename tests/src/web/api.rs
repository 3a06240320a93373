use std::collections::BTreeSet;

use runtrail_audit::{RunSummary, SkillRun, Storage, Usage};
use serde_json::{Value, json};

use super::visit::Site;
use crate::fixture::*;

cases_of_the_store! {
    async fn runs_and_events_are_the_records_of_the_history(cx) {
        let run = finished_at("run-1", 5).label("env", "prod");
        cx.store.start_run(&run).await.unwrap();
        let event = event("run-1", 7).usage(Usage::new().model("gpt").input_tokens(3));
        cx.store.append_log(&event).await.unwrap();
        let site = Site::of(cx.store);
        let run = cx.store.get_run("run-1").await.unwrap();
        assert_eq!(site.json("/api/v1/runs/run-1").await, json!(run));
        let list = site.json("/api/v1/runs").await;
        let expected = json!([RunSummary::from(&run)]);
        assert_eq!(list, json!({"runs": expected, "next": null, "previous": null}));
        assert_eq!(
            site.json("/api/v1/runs/run-1/tree").await,
            json!({"runs": expected, "omitted": 0})
        );
        let events = cx.store.list_logs_by_run("run-1").await.unwrap();
        let page = site.json("/api/v1/runs/run-1/events").await;
        assert_eq!(page, json!({"events": events, "next": null, "previous": null}));
    }

    async fn totals_of_the_runs_below_are_added_on_request(cx) {
        cx.store.start_run(&running_at("top", 1)).await.unwrap();
        cx.store.start_run(&finished_at("below", 5).parent("top")).await.unwrap();
        let call = event("below", 0).usage(Usage::new().model("gpt").cost_micros(3));
        cx.store.append_log(&call).await.unwrap();
        let site = Site::of(cx.store);
        let list = site.json("/api/v1/runs?show=top&totals=yes").await;
        let top = RunSummary::from(&cx.store.get_run("top").await.unwrap());
        let mut expected = json!(top);
        expected["subtree"] = json!({
            "run_id": "top",
            "runs": 2,
            "total_input_tokens": 100,
            "total_output_tokens": 200,
            "total_thinking_tokens": 300,
            "calls": 1,
            "cost_micros": 3,
            "calls_without_cost": 0,
            "is_cut": false,
        });
        assert_eq!(list["runs"], json!([expected]));
        for path in ["/api/v1/runs", "/api/v1/runs?totals=no"] {
            assert!(!site.shows(path).await.contains("subtree"), "{path}");
        }
    }

    async fn lists_have_pages(cx) {
        for number in 0..5 {
            cx.store.start_run(&running_at(&format!("run-{number}"), number)).await.unwrap();
            cx.store.append_log(&event("run-0", number as u64)).await.unwrap();
        }
        let site = Site::of(cx.store);
        for (path, records, key, expected) in [
            ("/api/v1/runs?limit=2", "runs", "id", json!(["run-4", "run-3", "run-2", "run-1", "run-0"])),
            ("/api/v1/runs/run-0/events?limit=2", "events", "sequence", json!([0, 1, 2, 3, 4])),
            (
                "/api/v1/runs/run-0/events?limit=2&order=newest&type=message",
                "events",
                "sequence",
                json!([4, 3, 2, 1, 0]),
            ),
        ] {
            let mut page = site.json(path).await;
            let mut found = Vec::new();
            loop {
                let items = page[records].as_array().unwrap();
                found.extend(items.iter().map(|item| item[key].clone()));
                let Some(next) = page["next"].as_str() else { break };
                page = site.json(&format!("{path}&cursor={next}")).await;
            }
            assert_eq!(Value::from(found), expected, "{path}");
        }
    }

    async fn statistics_are_grouped_and_divided(cx) {
        let run = |id: &str, skill: &str, seconds| {
            SkillRun::new(id, skill, at(seconds)).label("env", "prod")
        };
        for run in [run("run-1", "a", 0), run("run-2", "b", 3_600), run("run-3", "a", 3_700)] {
            cx.store.start_run(&run).await.unwrap();
        }
        let call = event("run-1", 0).usage(Usage::new().model("gpt").input_tokens(3));
        cx.store.append_log(&call.created_at(at(10))).await.unwrap();
        let site = Site::of(cx.store);
        let numbers = |statistics: &Value| {
            let rows = statistics["runs"].as_array().unwrap().iter();
            rows.map(|row| (row["group"].to_string(), row["values"]["runs"].as_u64().unwrap()))
                .collect::<Vec<_>>()
        };
        let statistics = site.json("/api/v1/statistics?by=skill&by=label:env").await;
        let expected = [(r#"["a","prod"]"#.into(), 2), (r#"["b","prod"]"#.into(), 1)];
        assert_eq!(numbers(&statistics), expected);
        let hours = "/api/v1/statistics?every=hour&from=2026-11-01&to=2026-11-02";
        let statistics = site.json(hours).await;
        assert_eq!(numbers(&statistics), [("[]".into(), 1), ("[]".into(), 2)]);
        let of_models = site.json("/api/v1/statistics?by=model").await;
        assert_eq!(of_models["runs"], Value::Null);
        assert_eq!(of_models["calls"][0]["values"]["input_tokens"], 3);
    }

    async fn failures_are_json(cx) {
        cx.store.start_run(&running("run-1")).await.unwrap();
        let site = Site::of(cx.store);
        for (path, status) in [
            ("/api/v1/runs?statuss=error", 400),
            ("/api/v1/runs?limit=0", 400),
            ("/api/v1/runs?limit=1001", 400),
            ("/api/v1/runs?limit=many", 400),
            ("/api/v1/runs?cursor=x", 400),
            ("/api/v1/runs?totals=all", 400),
            ("/api/v1/runs/run-1?skill=a", 400),
            ("/api/v1/runs/run-1/events?order=up", 400),
            ("/api/v1/statistics?by=colour", 400),
            ("/api/v1/statistics?by=label:", 400),
            ("/api/v1/statistics?every=day", 400),
            ("/api/v1/runs/run-2", 404),
            ("/api/v1/runs/run-2/events", 404),
            ("/api/v1/runs/run-2/tree", 404),
        ] {
            let answer = site.get(path).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["error"]["status"], status, "{path}");
            assert_eq!(answer.headers["content-type"], "application/json");
        }
    }

    async fn the_document_describes_every_route_and_parameter(cx) {
        cx.store.start_run(&running("run-1")).await.unwrap();
        let site = Site::of(cx.store);
        let document = site.json("/api/v1/openapi.json").await;
        let paths = document["paths"].as_object().unwrap();
        let expected: BTreeSet<_> = [
            "/runs",
            "/runs/{run}",
            "/runs/{run}/events",
            "/runs/{run}/tree",
            "/statistics",
        ]
        .into();
        assert_eq!(paths.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        for (path, operations) in paths {
            let url = format!("/api/v1{}", path.replace("{run}", "run-1"));
            site.json(&url).await;
            let parameters = operations["get"]["parameters"].as_array().unwrap();
            for parameter in parameters.iter().filter(|it| it["in"] == "query") {
                // A parameter is known if it is refused for its value only.
                let name = parameter["name"].as_str().unwrap();
                let answer = site.get(&format!("{url}?{name}=%20")).await;
                assert!(!answer.body.contains("no parameter"), "{url}: {name}");
            }
            let names = parameters.iter().map(|it| it["name"].as_str().unwrap());
            let names: BTreeSet<_> = names.collect();
            for name in [
                "status", "type", "order", "by", "every", "limit", "cursor", "totals",
            ] {
                let answer = site.get(&format!("{url}?{name}=1")).await;
                let is_unknown = answer.body.contains("no parameter");
                assert_eq!(is_unknown, !names.contains(name), "{url}: {name}");
            }
        }
    }
}
