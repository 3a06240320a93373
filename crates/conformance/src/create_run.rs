//! Starting a run whose id must be free.

use futures_util::future::join_all;
use runtrail_audit::{ErrorKind, SkillRun};

use crate::support::*;

cases! {
    ($) History, create_run_cases: create_run

    async fn a_created_run_is_read_back_as_written(cx) {
        cx.store.create_run(&running("r")).await.unwrap();
        cx.store.create_run(&finished_at("s", 5)).await.unwrap();
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
        assert_eq!(cx.store.get_run("s").await.unwrap(), finished_at("s", 5));
    }

    async fn creating_the_same_run_again_is_ok_even_after_it_has_finished(cx) {
        cx.store.create_run(&running("r")).await.unwrap();
        cx.store.create_run(&running("r")).await.unwrap();
        cx.store.finish_run("r", &stats()).await.unwrap();
        cx.store.create_run(&running("r")).await.unwrap();
    }

    async fn an_id_that_is_taken_is_refused_and_nothing_changes(cx) {
        cx.store.create_run(&running("r")).await.unwrap();
        assert_kind(
            cx.store.create_run(&running_at("r", 1)).await,
            ErrorKind::RunExists,
        );
        assert_eq!(cx.store.get_run("r").await.unwrap(), running("r"));
        cx.store.finish_run("r", &stats()).await.unwrap();
        assert_kind(
            cx.store.create_run(&running_at("r", 1)).await,
            ErrorKind::RunExists,
        );
    }

    async fn one_of_many_concurrent_calls_gets_the_id(cx) {
        for round in 0..20 {
            let runs: Vec<SkillRun> = (0..16)
                .map(|number| running_at(&format!("r-{round}"), number))
                .collect();
            let answers = join_all(runs.iter().map(|run| cx.store.create_run(run))).await;
            let winners: Vec<_> = runs
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| answer.is_ok())
                .collect();
            assert_eq!(winners.len(), 1, "{answers:?}");
            assert_eq!(
                cx.store.get_run(&format!("r-{round}")).await.unwrap(),
                *winners[0].0
            );
        }
    }
}
