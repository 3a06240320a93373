//! Sums over the usage of events.

use runtrail_audit::{ModelUsage, Usage};

use crate::support::*;

fn total(run_id: &str, provider: Option<&str>, model: Option<&str>, calls: u64) -> ModelUsage {
    with(ModelUsage::default(), |usage| {
        usage.run_id = run_id.into();
        usage.provider = provider.map(Into::into);
        usage.model = model.map(Into::into);
        usage.calls = calls;
    })
}

cases! {
    ($) History, usage_totals_cases: usage_totals

    async fn usage_is_added_up_for_each_run_and_model(cx) {
        for id in ["a", "b", "without"] {
            cx.store.start_run(&running(id)).await.unwrap();
        }
        let call = || {
            Usage::new()
                .provider("p")
                .model("m")
                .input_tokens(100)
                .cache_read_tokens(60)
                .cache_write_tokens(30)
                .output_tokens(20)
                .thinking_tokens(5)
        };
        let events = [
            event("a", 0),
            event("a", 1).usage(call().cost_micros(7)),
            event("a", 2).usage(call()),
            event("a", 3).usage(call().model("n").cost_micros(0)),
            event("a", 4).usage(Usage::new().cost_micros(1)),
            event("a", 5).duration(std::time::Duration::from_secs(1)),
            event("b", 0).usage(call()),
            event("without", 0),
        ];
        cx.store.append_logs(&events).await.unwrap();
        let call = |run_id, model, calls| {
            with(total(run_id, Some("p"), Some(model), calls), |usage| {
                usage.input_tokens = 100 * calls;
                usage.cache_read_tokens = 60 * calls;
                usage.cache_write_tokens = 30 * calls;
                usage.output_tokens = 20 * calls;
                usage.thinking_tokens = 5 * calls;
            })
        };
        let of_m = with(call("a", "m", 2), |usage| {
            usage.cost_micros = 7;
            usage.calls_without_cost = 1;
        });
        let of_b = with(call("b", "m", 1), |usage| usage.calls_without_cost = 1);
        let unnamed = with(total("a", None, None, 1), |usage| usage.cost_micros = 1);
        let ids = ["b", "unknown", "a", "without", "a"].map(str::to_owned);
        let totals = cx.store.usage_by_model(&ids).await.unwrap();
        assert_eq!(totals, [unnamed, of_m, call("a", "n", 1), of_b.clone()]);
        assert_eq!(cx.store.usage_by_model(&["b".into()]).await.unwrap(), [of_b]);
        assert_eq!(cx.store.usage_by_model(&["without".into()]).await.unwrap(), []);
        assert_eq!(cx.store.usage_by_model(&[]).await.unwrap(), []);
        assert_invalid(cx.store.usage_by_model(&["a".into(), "".into()]).await, "run_id");
    }

    async fn the_largest_usage_can_be_added_up(cx) {
        cx.store.start_run(&running("r")).await.unwrap();
        let largest = Usage::new().model("m").input_tokens(i64::MAX as u64);
        for number in 0..3 {
            cx.store.append_log(&event("r", number).usage(largest.clone())).await.unwrap();
        }
        let totals = cx.store.usage_by_model(&["r".into()]).await.unwrap();
        assert_eq!(totals.len(), 1);
        assert_eq!(totals[0].calls, 3);
        assert!(totals[0].input_tokens > u64::MAX / 2, "{totals:?}");
    }
}
