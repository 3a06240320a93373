//! What identifiers may contain.

use runtrail_audit::{Page, RunFilter, RunStats, RunStatus, SkillRun};

use crate::support::*;

/// Returns the longest valid identifier. It isn't ASCII, since the limit is in bytes.
fn longest() -> String {
    let name = format!("{}x", "é".repeat(127));
    assert_eq!(name.len(), 255);
    name
}

/// Returns invalid identifiers: one is a byte too long, the other contains a NUL.
fn invalid() -> [String; 2] {
    [longest() + "x", "a\0b".into()]
}

/// Runs with this text in one identifier each, and the name of that field.
fn runs_with(text: &str) -> Vec<(&'static str, SkillRun)> {
    let run = || running("r");
    vec![
        ("id", with(run(), |run| run.id = text.into())),
        ("skill_id", with(run(), |run| run.skill_id = text.into())),
        ("caller_id", run().caller(text)),
        ("channel_id", run().channel(text)),
        ("parent_run_id", run().parent(text)),
        ("status", run().status(text)),
    ]
}

cases! {
    ($) Storage, identifiers_cases: identifiers

    async fn the_longest_identifiers_are_read_back_unchanged(cx) {
        for (field, run) in runs_with(&longest()) {
            cx.store.start_run(&run).await.unwrap();
            if field != "status" {
                assert_eq!(cx.store.get_run(&run.id).await.unwrap(), run, "{field}");
            }
        }
        let whole = with(running("whole"), |run| {
            run.skill_id = longest();
            run.caller_id = longest();
            run.channel_id = longest();
            run.parent_run_id = Some(longest());
            run.status = longest().into();
        });
        cx.store.start_run(&whole).await.unwrap();
        assert_eq!(cx.store.get_run("whole").await.unwrap(), whole);
        let event = with(event(&longest(), 0), |event| event.event_type = longest());
        cx.store.append_log(&event).await.unwrap();
        assert_eq!(
            cx.store.list_logs_by_run(&longest()).await.unwrap()[0].event_type,
            longest()
        );
    }

    async fn an_invalid_identifier_is_refused_naming_the_field_and_nothing_is_stored(cx) {
        for text in invalid() {
            for (field, run) in runs_with(&text) {
                assert_invalid(cx.store.start_run(&run).await, field);
            }
        }
        let all = RunFilter::new().include_dry_run();
        assert_eq!(cx.store.count_runs_filtered(&all).await.unwrap(), 0);
    }

    async fn an_invalid_status_is_refused_as_an_outcome(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        for text in invalid() {
            let stats = RunStats::new(RunStatus::from(text));
            assert_invalid(cx.store.finish_run("r", &stats).await, "status");
        }
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
    }

    async fn an_event_with_an_invalid_identifier_is_refused_naming_the_field_and_nothing_is_stored(
        cx
    ) {
        cx.store.start_run(&running("r")).await.unwrap();
        for text in invalid() {
            let event_type = with(event("r", 0), |event| event.event_type = text.clone());
            assert_invalid(cx.store.append_log(&event_type).await, "event_type");
            assert_invalid(cx.store.append_log(&event(&text, 0)).await, "run_id");
        }
        assert!(cx.store.list_logs_by_run("r").await.unwrap().is_empty());
    }

    async fn an_empty_id_is_refused(cx) {
        assert_invalid(cx.store.start_run(&running("")).await, "id");
        assert_invalid(cx.store.finish_run("", &stats()).await, "run_id");
        assert_invalid(cx.store.append_log(&event("", 0)).await, "run_id");
        assert_invalid(cx.store.get_run("").await, "run_id");
        assert_invalid(cx.store.list_logs_by_run("").await, "run_id");
        assert_invalid(cx.store.walk_parent_chain("").await, "run_id");
    }

    async fn every_other_identifier_may_be_empty(cx) {
        let run = SkillRun::new("r", "", at(0))
            .status("")
            .parent(String::new());
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), run);
        let event = with(event("r", 0), |event| event.event_type = String::new());
        cx.store.append_log(&event).await.unwrap();
        assert_eq!(
            cx.store.list_logs_by_run("r").await.unwrap()[0].event_type,
            ""
        );
    }

    async fn a_query_for_an_invalid_identifier_is_refused_naming_the_field(cx) {
        for text in invalid() {
            let text = text.as_str();
            assert_invalid(cx.store.finish_run(text, &stats()).await, "run_id");
            assert_invalid(cx.store.get_run(text).await, "run_id");
            assert_invalid(cx.store.list_logs_by_run(text).await, "run_id");
            assert_invalid(cx.store.list_runs_by_skill(text, None).await, "skill_id");
            assert_invalid(
                cx.store
                    .list_runs_by_skill_paginated(text, Page::ALL, true)
                    .await,
                "skill_id",
            );
            assert_invalid(cx.store.count_runs_by_skill(text, true).await, "skill_id");
            assert_invalid(cx.store.list_runs_by_caller(text, None).await, "caller_id");
            assert_invalid(
                cx.store.list_children_by_parent(text).await,
                "parent_run_id",
            );
            assert_invalid(cx.store.walk_parent_chain(text).await, "run_id");
            assert_invalid(
                cx.store.last_run_by_skills(&[text.into()], true).await,
                "skill_ids",
            );
            let filters = [
                ("status", RunFilter::new().status(text)),
                ("skill_id", RunFilter::new().skill(text)),
                ("caller_id", RunFilter::new().caller(text)),
                ("channel_id", RunFilter::new().channel(text)),
            ];
            for (field, filter) in filters {
                assert_invalid(cx.store.list_runs_filtered(&filter, Page::ALL).await, field);
                assert_invalid(cx.store.count_runs_filtered(&filter).await, field);
            }
        }
    }

    async fn identifiers_compare_by_bytes(cx) {
        // A collation of a language, or one that ignores case, would sort these differently.
        let by_bytes = [
            "B",
            "Z",
            "_",
            "a",
            "a b",
            "a-b",
            "ab",
            "b",
            "ä",
            "é",
            "日",
            "\u{1F600}",
        ];
        for id in by_bytes {
            cx.store.start_run(&running(id)).await.unwrap();
        }
        let mut listed = cx.store.list_runs_by_skill("skill", None).await.unwrap();
        listed.reverse();
        assert_eq!(ids(&listed), by_bytes);
    }

    async fn identifiers_that_only_look_alike_are_different(cx) {
        // Different case, a trailing space, and one letter composed in two ways.
        let alike = ["run", "Run", "run ", "r\u{fc}n", "ru\u{308}n"];
        for skill in alike {
            cx.store
                .start_run(&SkillRun::new(skill, skill, at(0)))
                .await
                .unwrap();
        }
        for skill in alike {
            assert_eq!(
                ids(&cx.store.list_runs_by_skill(skill, None).await.unwrap()),
                [skill]
            );
        }
    }
}
