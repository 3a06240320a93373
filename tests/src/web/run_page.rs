use std::time::Duration;

use runtrail_audit::{BulkStorage, RunStats, SkillRun, SkillRunLog, Storage, Usage};
use runtrail_store::AuditStore;
use runtrail_web::{Grant, Restriction};
use serde_json::{Value, json};

use super::visit::{Site, rows};
use crate::fixture::*;

/// A run that started at second 0 and took 10 seconds.
fn a_run(id: &str, skill: &str) -> SkillRun {
    let stats = RunStats::new("ok")
        .runtime_seconds(10.0)
        .input_tokens(1_200)
        .output_tokens(80);
    SkillRun::new(id, skill, at(0)).finished(at(10), stats)
}

/// An event that ended at this second.
fn step(run: &str, second: i64, event_type: &str, payload: Value) -> SkillRunLog {
    SkillRunLog::new(run, second as u64, event_type, payload).created_at(at(second))
}

fn a_call(run: &str, second: i64) -> SkillRunLog {
    let output = json!([{"role": "assistant", "content": "because"}]);
    step(run, second, "model_call", json!({"output": output}))
        .duration(Duration::from_secs(1))
        .usage(
            Usage::new()
                .provider("openai")
                .model("gpt-5")
                .input_tokens(600)
                .output_tokens(40),
        )
}

async fn store(store: &AuditStore, run: SkillRun, events: &[SkillRunLog]) {
    store.start_run(&run).await.unwrap();
    store.append_logs(events).await.unwrap();
}

/// The path of a link of the page of a run.
fn from_root(link: &str) -> String {
    let link = link.replace("&amp;", "&");
    let path = link.split('#').next().unwrap();
    path.replacen("../", "/", 1)
}

/// The values of an attribute, in order.
fn values(document: &str, attribute: &str) -> Vec<String> {
    let start = format!(" {attribute}=\"");
    let parts = document.split(&start).skip(1);
    parts
        .map(|part| part.split('"').next().unwrap().to_owned())
        .collect()
}

/// What a document shows, without its tags.
fn texts(document: &str) -> String {
    let parts = document.split('<').filter_map(|part| part.split_once('>'));
    parts.map(|(_, text)| text).collect()
}

/// Loads all windows that follow, as the script does. Returns the rows of each window.
async fn windows(site: &Site, path: &str) -> Vec<Vec<String>> {
    let mut document = site.shows(path).await;
    let mut windows = Vec::new();
    loop {
        let body = document.split("<tbody data-window").nth(1).unwrap();
        windows.push(rows(body.split("</tbody>").next().unwrap()));
        let next = values(&document, "data-next");
        // Without a script, the link leads to a page with the same window.
        let Some(next) = next.first() else {
            return windows;
        };
        let whole = document.split("rel=\"next\" href=\"").nth(1).unwrap();
        let page = site
            .shows(&from_root(whole.split('"').next().unwrap()))
            .await;
        document = site.shows(&from_root(next)).await;
        let rows_of = |document: &str| rows(document.split("<tbody data-window").nth(1).unwrap());
        assert_eq!(rows_of(&page), rows_of(&document));
    }
}

/// The ids of the rows of events.
fn sequences(document: &str) -> Vec<u64> {
    let ids = values(document, "id").into_iter();
    ids.filter_map(|id| id.strip_prefix("e-")?.parse().ok())
        .collect()
}

cases_of_the_store! {
    async fn the_head_of_a_run_says_what_is_known_of_it(cx) {
        let run = with(a_run("run-1", "summarise"), |run| {
            run.status = "timeout".into();
            run.error = "too slow".into();
            run.output = "half of it".into();
            run.tool_calls = 7;
        });
        let run = run.caller("alice").channel("chat").parent("above").label("env", "prod");
        store(cx.store, run.input("topic", json!("tides")), &[]).await;
        let page = Site::of(cx.store).shows("/runs/run-1").await;
        for expected in [
            "<h1><bdi>summarise</bdi></h1>",
            r#"<span class="status is-timeout">timeout</span>"#,
            "run-1</code>",
            r#"<a href="../?caller=alice&amp;show=all"><bdi>alice</bdi></a>"#,
            r#"<a href="../?channel=chat&amp;show=all"><bdi>chat</bdi></a>"#,
            r#"<a href="../?label=env%3Dprod&amp;show=all"><bdi>env=prod</bdi></a>"#,
            r#"href="../runs/above""#,
            "<dd>10.0s</dd>",
            "1,200 in, 80 out",
            "<dd>7</dd>",
            "2026-11-01 08:00:00.000 UTC",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
        let places = ["too slow", "tides", "half of it"].map(|text| page.find(text).unwrap());
        assert!(places.is_sorted(), "the error comes first");
    }

    async fn long_texts_are_cut_and_can_be_shown_whole(cx) {
        let long = "x".repeat(100_000) + "the end";
        let run = with(a_run("run-1", "summarise"), |run| run.output = long.clone());
        let numbers: Vec<_> = (0..2_000).collect();
        let call = step("run-1", 1, "tool_call", json!({"tool": "read", "result": long}));
        store(cx.store, run.input("numbers", json!(numbers)), &[call]).await;
        let site = Site::of(cx.store);
        for path in ["/runs/run-1", "/runs/run-1/events/1"] {
            let page = site.shows(path).await;
            assert!(!page.contains("the end") && page.len() < 100_000, "{path}");
            let link = page.split("\">Show all</a>").next().unwrap();
            let link = link.rsplit('"').next().unwrap().trim_start_matches("../");
            assert!(site.shows(&format!("/{link}")).await.contains("the end"), "{link}");
        }
        let whole = site.shows("/runs/run-1?whole=yes").await;
        assert!(whole.contains(">1999</span>"));
    }

    async fn an_output_is_formatted_unless_it_is_json(cx) {
        let site = Site::of(cx.store);
        for (id, output, expected) in [
            ("text", "# Found\n\n- **two** tides", "<li><strong>two</strong> tides</li>"),
            ("lines", "one\ntwo", "<p>one\ntwo</p>"),
            ("json", r#"{"found": "**two**"}"#, "**two**"),
        ] {
            let run = with(a_run(id, "summarise"), |run| run.output = output.into());
            store(cx.store, run, &[]).await;
            let page = site.shows(&format!("/runs/{id}")).await;
            assert!(page.contains(expected), "{expected}\n{page}");
        }
    }

    async fn what_is_recorded_is_shown_as_text(cx) {
        let text = "<script>alert(1)</script> [x](javascript:alert(1)) \u{202E}\u{1B}[31m\"'>";
        let message = json!({"role": text, "content": [
            {"type": "text", "text": text},
            {"type": "thinking", "thinking": text},
            {"type": "tool_use", "name": text, "input": {text: text}},
        ]});
        let run = with(a_run(text, text), |run| {
            run.status = text.into();
            (run.output, run.error) = (text.into(), text.into());
        });
        let run = run.caller(text).channel(text).parent(text).label("key", text);
        let run = run.input(text, json!(text)).input("messages", json!([message]));
        let usage = Usage::new().provider(text).model(text).input_tokens(1);
        let contents = json!({
            "tool": text, "name": text, "text": text, "error": text, text: [text],
        });
        let events = [
            step(text, 1, "model_call", json!({"messages": [message], "output": text}))
                .usage(usage),
            step(text, 2, "tool_call", contents.clone()),
            step(text, 3, text, contents.clone()),
            step(text, 4, "stdout", json!({"text": text})),
        ];
        store(cx.store, run, &events).await;
        let child = a_run("child", text).parent(text);
        store(cx.store, child, &[step("child", 1, "span", contents)]).await;

        let site = Site::of(cx.store);
        let list = site.shows("/?show=all").await;
        let links = values(&list, "href");
        let link = links.iter().find(|link| link.contains("runs/%3Cscript")).unwrap();
        let path = link.trim_start_matches('.');
        let mut paths = vec![path.to_owned(), format!("{path}?view=events")];
        paths.push(format!("{path}?whole=yes"));
        paths.extend((1..=4).map(|sequence| format!("{path}/events/{sequence}")));
        for path in &paths {
            let page = site.shows(path).await;
            let scripts = page.matches("<script").count();
            assert_eq!(scripts, 1, "only that of the page itself: {path}");
            assert!(!page.contains("href=\"javascript") && !page.contains("\"'>"), "{path}");
            let texts = texts(&page);
            assert!(!texts.contains(['\u{202E}', '\u{1B}']), "{path}");
            assert!(texts.contains("⟨U+202E⟩␛[31m"), "{path}");
        }
    }

    async fn runs_with_ids_of_any_kind_are_shown_and_linked(cx) {
        let long = "é".repeat(127);
        let ids = [
            "run-1", ".", "..", "~", "~..", "a/b", "../../x", "%2F", "a b", "?view=x", "#e-1",
            "a+b", "\"<&>'", "\u{202E}", "line\nbreak", "\\", &long,
        ];
        store(cx.store, a_run("top", "top"), &[]).await;
        for id in ids {
            store(cx.store, a_run(id, "below").parent("top"), &[a_call(id, 5)]).await;
        }
        let site = Site::of(cx.store);
        let below = Site::of(cx.store).below("/a/history");
        let page = site.shows("/runs/top").await;
        let links = values(&page, "href");
        let of_runs = links.iter().filter(|link| {
            let is_other = link.starts_with("../runs/") && !link.starts_with("../runs/top");
            is_other && !link.contains("/events/")
        });
        let of_runs: Vec<_> = of_runs.collect();
        assert_eq!(of_runs.len(), ids.len(), "{of_runs:#?}");
        for link in of_runs {
            let path = from_root(link);
            let page = site.shows(&path).await;
            assert_eq!(below.shows(&format!("/a/history{path}")).await, page);
            assert_eq!(rows(&page).iter().filter(|row| row.contains("gpt-5 because")).count(), 1);
            let events = values(&page, "href");
            let event = events.iter().find(|link| link.contains("/events/5")).unwrap();
            assert!(site.shows(&from_root(event)).await.contains("because"), "{event}");
        }
    }

    async fn what_does_not_exist_is_not_found(cx) {
        store(cx.store, a_run("run-1", "skill"), &[a_call("run-1", 5)]).await;
        let site = Site::of(cx.store);
        let long = "x".repeat(256);
        for (path, status) in [
            ("/runs/other".to_owned(), 404),
            (format!("/runs/{long}"), 404),
            ("/runs/other/waterfall".to_owned(), 404),
            ("/runs/other/events".to_owned(), 404),
            ("/runs/other/events/5".to_owned(), 404),
            ("/runs/run-1/events/4".to_owned(), 404),
            ("/runs/run-1/events/6".to_owned(), 404),
            ("/runs/run-1/events/5x".to_owned(), 400),
            ("/runs/run-1/events/9223372036854775808".to_owned(), 400),
            ("/runs/run-1/waterfall?branch=other".to_owned(), 404),
            ("/runs/run-1/waterfall?branch=run-1&at=x".to_owned(), 400),
            ("/runs/run-1/waterfall?until=x".to_owned(), 400),
            ("/runs/run-1/events?at=x".to_owned(), 400),
            ("/runs/run-1?view=x".to_owned(), 400),
            ("/runs/run-1?order=x".to_owned(), 400),
            ("/runs/run-1?from=-1".to_owned(), 400),
        ] {
            let answer = site.get(&path).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
        }
        assert_eq!(site.get("/runs/run-1/events/5").await.status, 200);
    }

    async fn a_waterfall_shows_runs_and_calls_by_their_time(cx) {
        let search = json!({"tool": "search", "arguments": {"query": "tides"}});
        let failed = json!({"tool": "search", "error": "no hits"});
        let events = [
            a_call("lead", 3),
            step("lead", 4, "tool_call", search).duration(Duration::from_millis(500)),
            step("lead", 5, "stdout", json!({"text": "not a call"})),
            step("lead", 6, "tool_call", failed),
            step("lead", 7, "span", json!({"name": "think"})).duration(Duration::from_secs(2)),
        ];
        store(cx.store, a_run("lead", "lead"), &events).await;
        let late = with(a_run("late", "late").parent("lead"), |run| run.started_at = at(6));
        store(cx.store, late, &[]).await;
        let early = with(a_run("early", "early").parent("lead"), |run| {
            run.started_at = at(2);
            run.finished_at = Some(at(4));
            run.runtime_seconds = 0.0;
            run.status = "error".into();
        });
        store(cx.store, early, &[]).await;
        store(cx.store, a_run("below", "below").parent("early"), &[a_call("below", 9)]).await;

        let site = Site::of(cx.store);
        let page = site.shows("/runs/lead").await;
        let steps = rows(page.split("<tbody data-window").nth(1).unwrap());
        assert_eq!(steps, [
            "ok lead|0ms|10.0s|1.2k → 80",
            "Level 2: model gpt-5 because|2.0s|1.0s|600 → 40",
            "Level 2: tool search {&quot;query&quot;:&quot;tides&quot;}|3.5s|500ms",
            "Level 2: tool search failed: no hits|6.0s",
            "Level 2: span think|5.0s|2.0s",
            "Level 2: error early|2.0s|2.0s|1.2k → 80",
            "Level 3: ok below|0ms|10.0s|1.2k → 80",
            "Level 4: model gpt-5 because|8.0s|1.0s|600 → 40",
            "Level 2: ok late|6.0s|10.0s|1.2k → 80",
        ]);
        // 2 s of 10 s, after 2 s.
        assert!(page.contains(r#"<rect class="is-error" x="200.0" width="200.0""#), "{page}");
        assert!(page.contains(r#"<rect class="is-tool" x="350.0" width="50.0""#), "{page}");
        let runs = site.shows("/runs/lead?view=waterfall&calls=no").await;
        let steps = rows(runs.split("<tbody data-window").nth(1).unwrap());
        assert_eq!(steps.len(), 4, "{steps:#?}");
        // A part of the tree.
        let below = site.shows("/runs/early").await;
        assert_eq!(rows(below.split("<tbody data-window").nth(1).unwrap()).len(), 3);
    }

    async fn the_windows_of_a_waterfall_have_each_step_once(cx) {
        let mut expected = 0;
        for (id, parent, calls) in [
            ("a", "", 450), ("b", "a", 0), ("c", "b", 1), ("d", "a", 700), ("e", "d", 30),
        ] {
            let run = a_run(id, id);
            let run = if parent.is_empty() { run } else { run.parent(parent) };
            let calls: Vec<_> = (0..calls).map(|number| a_call(id, number)).collect();
            expected += 1 + calls.len();
            store(cx.store, run, &calls).await;
        }
        // Few of many events are calls.
        let lines = (0..3_000).map(|number| match number % 1_000 {
            999 => a_call("f", number),
            _ => step("f", number, "stdout", json!({"text": "line"})),
        });
        store(cx.store, a_run("f", "f").parent("e"), &lines.collect::<Vec<_>>()).await;
        expected += 1 + 3;

        let windows = windows(&Site::of(cx.store), "/runs/a").await;
        let sizes: Vec<_> = windows.iter().map(Vec::len).collect();
        assert!(sizes.iter().all(|size| *size < 250), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), expected, "{sizes:?}");
        let all = windows.concat();
        let runs = all.iter().filter(|row| row.contains(" ok ") || row.starts_with("ok "));
        let runs: Vec<_> = runs.map(|row| row.split('|').next().unwrap()).collect();
        assert_eq!(runs, [
            "ok a", "Level 2: ok b", "Level 3: ok c", "Level 2: ok d", "Level 3: ok e",
            "Level 4: ok f",
        ]);
    }

    async fn the_windows_of_events_have_each_event_once(cx) {
        let events = (0..450).map(|number| match number % 3 {
            0 => a_call("run-1", number),
            _ => step("run-1", number, "stdout", json!({"text": format!("line {number}")})),
        });
        store(cx.store, a_run("run-1", "skill"), &events.collect::<Vec<_>>()).await;
        let site = Site::of(cx.store);
        let sizes = |windows: Vec<Vec<String>>| windows.iter().map(Vec::len).collect::<Vec<_>>();
        let all = windows(&site, "/runs/run-1?view=events").await;
        assert_eq!(all[0][1], "08:00:01.000|stdout| line 1");
        assert_eq!(all[2][49], "08:07:29.000|stdout| line 449");
        assert_eq!(sizes(all), [200, 200, 50]);
        let newest = windows(&site, "/runs/run-1?order=newest").await;
        assert_eq!(newest[0][0], "08:07:29.000|stdout| line 449");
        assert_eq!(sizes(newest), [200, 200, 50]);
        assert_eq!(sizes(windows(&site, "/runs/run-1?type=stdout").await), [200, 100]);
        let none = site.shows("/runs/run-1?type=other").await;
        assert!(none.contains("The run has no events of this type."), "{none}");

        // The link to an event begins a window with it.
        let page = site.shows("/runs/run-1?view=events&from=447").await;
        assert_eq!(sequences(&page), [447, 448, 449]);
        let event = site.shows("/runs/run-1/events/447").await;
        assert!(event.contains("/runs/run-1?view=events&amp;from=447#e-447"), "{event}");

        // And back.
        let second = values(&site.shows("/runs/run-1?view=events").await, "data-next");
        let second = from_root(&second[0]).replace("/events?", "?");
        let page = site.shows(&second).await;
        assert_eq!(sequences(&page)[0], 200);
        let previous = page.split("rel=\"prev\" href=\"").nth(1).unwrap();
        let previous = site.shows(&from_root(previous.split('"').next().unwrap())).await;
        assert_eq!(sequences(&previous)[..2], [0, 1]);
    }

    async fn an_event_shows_its_messages_and_all_else_that_is_stored(cx) {
        let large = 9_007_199_254_740_993_u64;
        let call = json!({
            "system": "Be brief.",
            "earlier_messages": 2,
            "messages": [{"role": "user", "content": "Why **two** tides?"}],
            "output": [{"role": "assistant", "parts": [
                {"type": "text", "content": "Because"},
                {"type": "tool_call", "name": "search", "arguments": {"id": large}},
            ]}],
            "finish_reasons": ["tool_call"],
        });
        let usage = Usage::new().provider("openai").model("gpt-5").input_tokens(1_200)
            .cache_read_tokens(1_000).output_tokens(80).thinking_tokens(5).cost_micros(4_200);
        let call = step("run-1", 7, "model_call", call).usage(usage);
        let found = json!({"tool": "search", "result": {"hits": [1]}});
        let tool = step("run-1", 8, "tool_call", found);
        let line = step("run-1", 9, "stdout", json!({"text": "a\nb", "newline": false}));
        store(cx.store, a_run("run-1", "skill"), &[call, tool, line]).await;
        let site = Site::of(cx.store);
        let page = site.shows("/runs/run-1/events/7").await;
        for expected in [
            "Be brief.", "2 earlier messages", "Why <strong>two</strong> tides?", "Because",
            "<code>search</code>", "9007199254740993", "finish_reasons", "gpt-5",
            "<bdi>openai</bdi>",
            "1.2k → 80", "1,000 read from a cache", "5 thinking", "$0.0042",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
        assert!(site.shows("/runs/run-1/events/8").await.contains("hits"));
        let page = site.shows("/runs/run-1/events/9").await;
        assert!(page.contains("<pre class=\"text\">a\nb</pre>") && page.contains("newline"));

        let site = Site::granting(cx.store, Grant::without_texts());
        let page = site.shows("/runs/run-1/events/7").await;
        assert!(page.contains("gpt-5") && page.contains("no access to the contents"), "{page}");
        assert!(!page.contains("Because"));
    }

    async fn usage_is_shown_for_the_run_and_for_its_tree(cx) {
        let priced = |call: SkillRunLog, cost| {
            with(call, |call| call.usage.as_mut().unwrap().cost_micros = Some(cost))
        };
        let calls = [priced(a_call("run-1", 1), 4_500), a_call("run-1", 2)];
        store(cx.store, a_run("run-1", "skill"), &calls).await;
        let site = Site::of(cx.store);
        let page = site.shows("/runs/run-1").await;
        let expected = "gpt-5 (openai)|2|1,200|0|80|0|$0.0045 and 1 call without";
        assert!(rows(&page).iter().any(|row| row == expected), "{:#?}", rows(&page));
        assert!(!page.contains("with the runs below"));
        store(cx.store, a_run("run-2", "skill").parent("run-1"), &[a_call("run-2", 1)]).await;
        let page = site.shows("/runs/run-1").await;
        let expected = "gpt-5 (openai)|3|1,800|0|120|0|$0.0045 and 2 calls without";
        assert!(rows(&page).iter().any(|row| row == expected), "{:#?}", rows(&page));
        let page = site.shows("/runs/run-2").await;
        assert!(rows(&page).iter().any(|row| row == "gpt-5 (openai)|1|600|0|40|0|not reported"));
    }

    async fn a_tree_ends_at_runs_that_a_visitor_may_not_see(cx) {
        for (id, parent, caller) in [
            ("top", "", "alice"), ("ours", "top", "alice"), ("theirs", "top", "bob"),
            ("below", "theirs", "alice"),
        ] {
            let run = a_run(id, id).caller(caller);
            let run = if parent.is_empty() { run } else { run.parent(parent) };
            store(cx.store, run, &[a_call(id, 5)]).await;
        }
        let of_alice = Grant::full().restricted_to(Restriction::new().callers(["alice"]));
        let site = Site::granting(cx.store, of_alice);
        for path in ["/runs/top", "/runs/top/waterfall"] {
            let page = site.shows(path).await;
            let runs = rows(page.split("<tbody data-window").nth(1).unwrap());
            assert_eq!(runs.len(), 4, "{path}: {runs:#?}");
            assert!(!page.contains("theirs") && !page.contains("below\""), "{path}");
        }
        let page = site.shows("/runs/top").await;
        assert!(rows(&page).iter().any(|row| row.starts_with("gpt-5 (openai)|2|")), "{page}");
        let window = "/runs/top/waterfall?branch=theirs";
        assert_eq!(site.get(window).await.status, 404);
    }

    async fn a_running_run_is_followed_from_its_newest_event(cx) {
        let run = SkillRun::new("run-1", "skill", at(0));
        let lines = (0..250).map(|number| step("run-1", number, "stdout", json!({"text": "x"})));
        store(cx.store, run, &lines.collect::<Vec<_>>()).await;
        let site = Site::of(cx.store);
        let page = site.shows("/runs/run-1?view=events").await;
        assert_eq!(sequences(&page)[..2], [249, 248]);
        assert_eq!(values(&page, "data-live"), ["../runs/run-1/live?after=49"]);
        let oldest = site.shows("/runs/run-1?order=oldest").await;
        assert_eq!(values(&oldest, "data-live"), Vec::<String>::new());
        cx.store.finish_run("run-1", &stats()).await.unwrap();
        let page = site.shows("/runs/run-1?view=events").await;
        assert_eq!(sequences(&page)[..2], [0, 1]);
        assert_eq!(values(&page, "data-live"), Vec::<String>::new());
    }

    async fn events_arrive_as_rows_while_a_run_is_followed(cx) {
        let line = |second| {
            let text = json!({"text": format!("line {second}")});
            step("run-1", second, "stdout", text)
        };
        let run = SkillRun::new("run-1", "skill", at(0));
        store(cx.store, run, &[line(1), a_call("run-1", 2), line(3)]).await;
        let site = Site::of(cx.store);
        let record = async {
            cx.store.append_log(&line(4)).await.unwrap();
            cx.store.append_log(&a_call("run-1", 5)).await.unwrap();
            cx.store.finish_run("run-1", &stats()).await.unwrap();
        };
        let path = "/runs/run-1/live?type=stdout&after=1";
        let (answer, ()) = tokio::join!(site.get(path), record);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert_eq!(sequences(&answer.body), [3, 4]);
        assert!(answer.body.ends_with("event: finished\ndata: finished\n\n"), "{}", answer.body);

        // A page that connects again has the id of the last message.
        let id = answer.body.split("id: ").nth(1).unwrap().lines().next().unwrap();
        let again = site.get(&format!("{path}&cursor={id}")).await;
        assert_eq!(sequences(&again.body), [4]);

        let site = Site::granting(cx.store, Grant::without_texts());
        let answer = site.get(path).await;
        assert!(answer.body.contains("e-3") && !answer.body.contains("line"), "{}", answer.body);
        let none = Restriction::new().skills(Vec::<String>::new());
        let site = Site::granting(cx.store, Grant::full().restricted_to(none));
        assert_eq!(site.get(path).await.status, 404);
    }

    async fn damaged_events_hide_no_other(cx) {
        let events: Vec<_> = (1..=5).map(|second| a_call("run-1", second)).collect();
        store(cx.store, a_run("run-1", "skill"), &events).await;
        cx.sql("UPDATE skill_run_logs SET payload = '{' WHERE sequence IN (1, 3)").await;
        let site = Site::of(cx.store);
        let page = site.shows("/runs/run-1?view=events").await;
        assert_eq!(sequences(&page), [2, 4, 5]);
        let page = site.shows("/runs/run-1").await;
        assert_eq!(rows(page.split("<tbody data-window").nth(1).unwrap()).len(), 4);
        assert_eq!(site.get("/runs/run-1/events/3").await.status, 404);
        assert_eq!(site.get("/runs/run-1/events/4").await.status, 200);
        cx.sql("UPDATE skill_runs SET inputs = '{'").await;
        assert_eq!(site.get("/runs/run-1").await.status, 500);
    }
}
