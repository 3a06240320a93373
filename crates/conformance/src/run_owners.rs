//! Owners of runs, on a store that has none itself.

use runtrail_audit::ErrorKind;

use crate::support::*;

cases! {
    ($) History, run_owners_cases: run_owners

    async fn a_run_keeps_the_owner_that_it_is_given(cx) {
        cx.store.start_run(&running("started").owner("a")).await.unwrap();
        cx.store.create_run(&running("created").owner("a")).await.unwrap();
        cx.store.start_run(&running("without")).await.unwrap();
        for id in ["started", "created", "without"] {
            cx.store.finish_run(id, &stats()).await.unwrap();
        }
        let owner = Some("a".to_owned());
        for (id, expected) in [("started", &owner), ("created", &owner), ("without", &None)] {
            assert_eq!(cx.store.get_run(id).await.unwrap().owner_id, *expected, "{id}");
        }
    }

    async fn a_run_that_is_started_again_gets_the_owner_of_that_start(cx) {
        for owner in ["a", "b"] {
            cx.store.start_run(&running("r").owner(owner)).await.unwrap();
        }
        assert_eq!(cx.store.get_run("r").await.unwrap().owner_id.as_deref(), Some("b"));
    }

    async fn a_store_without_an_owner_has_no_heartbeat(cx) {
        assert_eq!(cx.store.owner(), None);
        assert_invalid(cx.store.heartbeat().await, "owner");
    }

    async fn a_sweep_ends_no_run_whose_owner_has_never_been_seen(cx) {
        cx.store.start_run(&running("r").owner("a")).await.unwrap();
        cx.store.start_run(&child("child", "r")).await.unwrap();
        cx.store.start_run(&running("without")).await.unwrap();
        cx.clock.advance(1_000_000);
        assert_eq!(cx.store.find_owner("a").await.unwrap(), None);
        assert_eq!(cx.store.sweep_interrupted().await.unwrap(), 0);
        for id in ["r", "child", "without"] {
            assert!(cx.store.get_run(id).await.unwrap().is_running(), "{id}");
        }
    }

    async fn invalid_ids_of_owners_are_refused(cx) {
        let too_long = "x".repeat(256);
        for id in ["", "a\0", too_long.as_str()] {
            assert_invalid(cx.store.start_run(&running("r").owner(id)).await, "owner_id");
            assert_invalid(cx.store.find_owner(id).await, "owner_id");
        }
        assert_kind(cx.store.get_run("r").await, ErrorKind::NotFound);
    }
}
