//! Texts.

use runtrail_audit::{RunStatus, SkillRun};

use crate::support::*;

cases! {
    ($) Storage, texts_cases: texts

    async fn any_status_is_read_back_unchanged(cx) {
        let words = [
            "ok",
            "cancelled",
            "OK",
            " ok ",
            "läuft",
            "running\n",
            "dry-run",
            "\u{1F600}",
        ];
        for (number, word) in words.into_iter().enumerate() {
            let id = number.to_string();
            cx.store.start_run(&running(&id)).await.unwrap();
            cx.store
                .finish_run(&id, &with(stats(), |stats| stats.status = word.into()))
                .await
                .unwrap();
            assert_eq!(
                cx.store.get_run(&id).await.unwrap().status,
                RunStatus::from(word)
            );
        }
    }

    async fn a_run_starts_with_the_status_running(cx) {
        cx.store
            .start_run(&SkillRun::new("r", "skill", at(0)))
            .await
            .unwrap();
        assert_eq!(
            cx.store.get_run("r").await.unwrap().status.as_str(),
            "running"
        );
    }

    async fn texts_are_read_back_unchanged(cx) {
        let texts = [
            "",
            " ",
            "line\r\nline\n",
            "\u{1}\u{7f}",
            "e\u{301}",
            "日本",
            "\u{1F600}",
            "'\"\\%_$1?",
            "\u{FEFF}",
        ];
        for (number, text) in texts.into_iter().enumerate() {
            let id = number.to_string();
            cx.store.start_run(&running(&id)).await.unwrap();
            let stats = stats().output(text).error(text);
            cx.store.finish_run(&id, &stats).await.unwrap();
            assert_eq!(cx.store.get_run(&id).await.unwrap().stats(), stats);
        }
    }

    async fn a_nul_in_a_text_is_replaced(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let stats = stats().output("a\0b\0").error("\0");
        cx.store.finish_run("r", &stats).await.unwrap();
        let run = cx.store.get_run("r").await.unwrap();
        assert_eq!(
            (run.output.as_str(), run.error.as_str()),
            ("a\u{FFFD}b\u{FFFD}", "\u{FFFD}")
        );
    }

    async fn a_nul_in_the_text_of_a_run_recorded_as_finished_is_replaced(cx) {
        let run = with(finished_at("r", 1), |run| run.output = "a\0b".into());
        cx.store.start_run(&run).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap().output, "a\u{FFFD}b");
        cx.store.start_run(&run).await.unwrap();
    }
}
