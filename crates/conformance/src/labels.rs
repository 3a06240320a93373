//! Labels of runs.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};
use runtrail_audit::{
    ErrorKind, History, LabelFilter, ListOrder, Page, PageRequest, RunQuery, RunStats, RunStatus,
};

use crate::support::*;

/// The ids of all runs that match, read in small pages in both directions and as a stream.
async fn matches(store: &(impl History + ?Sized), query: &RunQuery) -> Vec<String> {
    use futures_util::TryStreamExt;

    let mut ids: Vec<String> = Vec::new();
    let mut request = PageRequest::first(2);
    loop {
        let page = store
            .page_runs(query, ListOrder::NewestFirst, &request)
            .await
            .unwrap();
        ids.extend(page.items.into_iter().map(|run| run.id));
        match page.next {
            Some(next) => request = PageRequest::first(2).at(next),
            None => break,
        }
    }
    let oldest_first = store
        .page_run_summaries(query, ListOrder::OldestFirst, &PageRequest::first(1_000))
        .await
        .unwrap();
    let mut reversed: Vec<_> = oldest_first.items.into_iter().map(|run| run.id).collect();
    reversed.reverse();
    assert_eq!(reversed, ids, "{query:?}");
    let stream = store.stream_runs_by_query(query, ListOrder::NewestFirst, Page::ALL);
    let streamed: Vec<_> = stream.map_ok(|run| run.id).try_collect().await.unwrap();
    assert_eq!(streamed, ids, "{query:?}");
    let count = store.count_runs_by_query(query).await.unwrap();
    assert_eq!(count, ids.len() as u64, "{query:?}");
    ids
}

fn too_many() -> BTreeMap<String, String> {
    (0..33)
        .map(|number| (format!("key-{number}"), String::new()))
        .collect()
}

cases! {
    ($) History, labels_cases: labels

    async fn labels_are_read_back_as_written(cx) {
        let longest = ("k".repeat(64), "v".repeat(255));
        let run = running("r")
            .label("env", "prod")
            .label("A.b_c/d:e-9", "= \" ' \\ {} \u{1F600}")
            .label("1", "")
            .label(longest.0, longest.1);
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().labels, run.labels);
    }

    async fn a_run_has_at_most_32_labels(cx) {
        let mut labels = too_many();
        let run = with(running("r"), |run| run.labels = labels.clone());
        assert_invalid(cx.store.start_run(&run).await, "labels");
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);
        labels.pop_first();
        let run = with(running("r"), |run| run.labels = labels);
        cx.store.start_run(&run).await.unwrap();
        let more = running("").label("key-1", "new").label("one-more", "").labels;
        assert_invalid(cx.store.add_labels("r", &more).await, "labels");
        assert_invalid(cx.store.add_labels("r", &too_many()).await, "labels");
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
    }

    async fn invalid_labels_are_refused(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let too_long = "k".repeat(65);
        for (key, value, field) in [
            ("", "v", "label_key"),
            (too_long.as_str(), "v", "label_key"),
            ("a b", "v", "label_key"),
            ("a=b", "v", "label_key"),
            ("\u{e4}", "v", "label_key"),
            ("a\"b", "v", "label_key"),
            ("a\0", "v", "label_key"),
            ("a", "\0", "label"),
            ("a", &"v".repeat(256), "label"),
        ] {
            let run = running("invalid").label(key, value);
            assert_invalid(cx.store.start_run(&run).await, field);
            assert_invalid(cx.store.create_run(&run).await, field);
            assert_invalid(cx.store.add_labels("r", &run.labels).await, field);
            let query = RunQuery::new().label(key, value);
            assert_invalid(cx.store.count_runs_by_query(&query).await, field);
            let query = RunQuery::new().id_prefix("r").except_label(key, [value]);
            assert_invalid(cx.store.count_runs_by_query(&query).await, field);
        }
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
        assert_kind(cx.store.get_run("invalid").await, ErrorKind::NotFound);
    }

    async fn added_labels_replace_those_with_the_same_key(cx) {
        cx.store.start_run(&running("r").label("a", "1").label("b", "2")).await.unwrap();
        let add = [("b", "3"), ("c", "4")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        for _ in 0..2 {
            cx.store.add_labels("r", &add.clone().into()).await.unwrap();
            let labels = cx.store.get_run("r").await.unwrap().labels;
            let expected = running("r").label("a", "1").label("b", "3").label("c", "4").labels;
            assert_eq!(labels, expected);
        }
        assert_eq!(matches(cx.store, &RunQuery::new().label("b", "2")).await, [""; 0]);
        assert_eq!(matches(cx.store, &RunQuery::new().label("b", "3")).await, ["r"]);
        assert_kind(cx.store.add_labels("other", &add.into()).await, ErrorKind::NotFound);
    }

    async fn adding_no_labels_still_needs_a_stored_run(cx) {
        assert_kind(cx.store.add_labels("r", &BTreeMap::new()).await, ErrorKind::NotFound);
        assert_invalid(cx.store.add_labels("", &BTreeMap::new()).await, "run_id");
        cx.store.start_run(&running("r")).await.unwrap();
        cx.store.add_labels("r", &BTreeMap::new()).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
    }

    async fn a_finished_run_can_be_labelled(cx) {
        cx.store.start_run(&finished_at("r", 5)).await.unwrap();
        cx.store.add_labels("r", &running("").label("a", "1").labels).await.unwrap();
        let labelled = cx.store.get_run("r").await.unwrap();
        assert_eq!(labelled, finished_at("r", 5).label("a", "1"));
        // Repeating the original start still succeeds.
        cx.store.start_run(&finished_at("r", 5)).await.unwrap();
        cx.store.start_run(&labelled).await.unwrap();
        // The value may have been replaced since the first attempt.
        let replaced = finished_at("r", 5).label("a", "2");
        cx.store.start_run(&replaced).await.unwrap();
        let other = finished_at("r", 5).label("b", "2");
        assert_kind(cx.store.start_run(&other).await, ErrorKind::RunFinished);
        assert_kind(cx.store.create_run(&other).await, ErrorKind::RunExists);
        assert_eq!(cx.store.get_run("r").await.unwrap(), labelled);
    }

    async fn a_repetition_of_a_start_replaces_no_newer_label(cx) {
        let start = running("r").label("review", "pending").label("env", "prod");
        cx.store.start_run(&start).await.unwrap();
        let passed = running("").label("review", "passed").labels;
        cx.store.add_labels("r", &passed).await.unwrap();
        cx.store.start_run(&start).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().labels["review"], "passed");
        cx.store.finish_run("r", &stats()).await.unwrap();
        cx.store.start_run(&start).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().labels["review"], "passed");
    }

    async fn starts_and_labels_at_the_same_time_are_all_stored(cx) {
        for round in 0..20 {
            let id = format!("r-{round}");
            cx.store.start_run(&running(&id)).await.unwrap();
            let labels = [0, 1, 2].map(|key| running("").label(format!("key-{key}"), "v").labels);
            let adding = labels.iter().map(|labels| cx.store.add_labels(&id, labels));
            let start = running_at(&id, 9).label("env", "prod");
            let (started, added) = join(cx.store.start_run(&start), join_all(adding)).await;
            started.unwrap();
            added.into_iter().for_each(|added| added.unwrap());
            let run = cx.store.get_run(&id).await.unwrap();
            assert_eq!((run.started_at, run.labels.len()), (at(9), 4), "{:?}", run.labels);
        }
    }

    async fn a_repeated_start_adds_its_labels(cx) {
        cx.store.start_run(&running("r").label("a", "1").label("b", "2")).await.unwrap();
        cx.store.add_labels("r", &running("").label("c", "3").labels).await.unwrap();
        cx.store.start_run(&running("r").label("a", "1")).await.unwrap();
        cx.store.start_run(&running_at("r", 9).label("b", "4").label("d", "5")).await.unwrap();
        let run = cx.store.get_run("r").await.unwrap();
        let labels = running("").label("a", "1").label("b", "4").label("c", "3");
        let labels = labels.label("d", "5").labels;
        assert_eq!((run.labels, run.started_at), (labels, at(9)));
        // The index follows the start.
        let query = RunQuery::new().label("c", "3");
        assert_eq!(matches(cx.store, &query.clone().started(at(9)..=at(9))).await, ["r"]);
        assert_eq!(matches(cx.store, &query.started(..=at(8))).await, [""; 0]);
    }

    async fn runs_are_found_by_their_labels(cx) {
        let runs = [
            running_at("none", 0),
            running_at("prod-1", 1).label("env", "prod").label("team", "a"),
            running_at("dev-1", 2).label("env", "dev").label("team", "b"),
            running_at("prod-2", 3).label("env", "prod"),
            running_at("empty", 4).label("env", ""),
            running_at("team", 5).label("team", "a"),
            running_at("digits", 6).label("1", "env").label("a.b", "c"),
            running_at("prod-3", 7).label("env", "prod").label("team", "b"),
        ];
        for run in &runs {
            cx.store.start_run(run).await.unwrap();
        }
        let query = RunQuery::new;
        let many: Vec<String> = (0..20).map(|number| format!("v{number}")).collect();
        for (query, expected) in [
            (query().label("env", "prod"), &["prod-3", "prod-2", "prod-1"][..]),
            (query().label("env", ""), &["empty"]),
            (query().label("env", "Prod"), &[]),
            (query().label("Env", "prod"), &[]),
            (query().label("1", "env"), &["digits"]),
            (query().label("a.b", "c"), &["digits"]),
            (query().label("a", "c"), &[]),
            (
                query().label_in("env", ["dev", "prod", "dev"]),
                &["prod-3", "prod-2", "dev-1", "prod-1"],
            ),
            (query().label_in("env", many.clone()), &[]),
            (
                query().label_in("env", [&many[..], &["dev".into(), "prod".into()]].concat()),
                &["prod-3", "prod-2", "dev-1", "prod-1"],
            ),
            (query().label_in("env", [""; 0]), &[]),
            (query().has_label("env"), &["prod-3", "empty", "prod-2", "dev-1", "prod-1"]),
            (query().has_label("none"), &[]),
            (
                query().except_label("env", ["prod"]),
                &["digits", "team", "empty", "dev-1", "none"],
            ),
            (
                query().except_label("env", ["prod", "", "dev"]),
                &["digits", "team", "none"],
            ),
            (
                query().except_label("env", [""; 0]).has_label("team"),
                &["prod-3", "team", "dev-1", "prod-1"],
            ),
            (query().label("env", "prod").label("team", "a"), &["prod-1"]),
            (query().label("env", "prod").label("env", "dev"), &[]),
            (query().has_label("env").has_label("team"), &["prod-3", "dev-1", "prod-1"]),
            (
                query().label("team", "b").except_label("env", ["dev"]),
                &["prod-3"],
            ),
            (
                query().label("env", "prod").started(at(2)..=at(3)),
                &["prod-2"],
            ),
            (query().label("env", "prod").skills(["skill"]), &["prod-3", "prod-2", "prod-1"]),
            (
                query().label("env", "prod").skills(["skill", "other"]),
                &["prod-3", "prod-2", "prod-1"],
            ),
            (query().label("env", "prod").skills(["other"]), &[]),
            (query().label("env", "prod").id_prefix("prod-2"), &["prod-2"]),
            (query().label("env", "prod").children_of("prod-1"), &[]),
        ] {
            assert_eq!(matches(cx.store, &query).await, expected, "{query:?}");
        }
        let invalid = query().add_label_filter(LabelFilter::Exists { key: "a b".into() });
        assert_invalid(cx.store.count_runs_by_query(&invalid).await, "label_key");
    }

    async fn dry_runs_with_a_label_are_left_out_unless_asked_for(cx) {
        let dry = running_at("dry", 1).label("env", "prod").status(RunStatus::DRY_RUN);
        cx.store.start_run(&dry).await.unwrap();
        cx.store.finish_run("dry", &RunStats::new(RunStatus::DRY_RUN)).await.unwrap();
        cx.store.start_run(&running_at("r", 2).label("env", "prod")).await.unwrap();
        let query = RunQuery::new().label("env", "prod");
        assert_eq!(matches(cx.store, &query).await, ["r"]);
        assert_eq!(matches(cx.store, &query.include_dry_run()).await, ["r", "dry"]);
    }

    async fn purged_runs_are_no_longer_found_by_their_labels(cx) {
        for id in ["old", "new"] {
            cx.store.start_run(&running(id).label("env", "prod")).await.unwrap();
        }
        cx.store.start_run(&finished_at("finished", 5).label("env", "prod")).await.unwrap();
        cx.store.purge_older_than(at(6)).await.unwrap();
        assert_eq!(matches(cx.store, &RunQuery::new().has_label("env")).await, ["old", "new"]);
        // A new run with the id of a purged one has only its own labels.
        cx.store.start_run(&running_at("finished", 1).label("env", "dev")).await.unwrap();
        assert_eq!(matches(cx.store, &RunQuery::new().label("env", "dev")).await, ["finished"]);
        assert_eq!(matches(cx.store, &RunQuery::new().label("env", "prod")).await, ["old", "new"]);
    }

    async fn labels_that_are_added_at_the_same_time_are_all_stored(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let adding = (0..20).map(|number| {
            let labels = BTreeMap::from([(format!("key-{number}"), "v".to_owned())]);
            async move { cx.store.add_labels("r", &labels).await }
        });
        for added in join_all(adding).await {
            added.unwrap();
        }
        assert_eq!(cx.store.get_run("r").await.unwrap().labels.len(), 20);
    }
}
