//! The cost of a call before it reaches the database: `cargo bench --package runtrail-bench`.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use runtrail_audit::{Limits, RunFilter, RunQuery, new_run_id, rules};
use runtrail_record::Recorder;
use runtrail_store::AuditStore;
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt;

fn main() {
    divan::main();
}

fn payload(bytes: usize) -> Value {
    json!({"role": "tool", "content": "x".repeat(bytes), "numbers": [1, 2.5, null]})
}

/// Validates a payload and serialises it.
#[divan::bench(args = [100, 1_000, 100_000])]
fn payload_to_text(bencher: Bencher, bytes: usize) {
    let (payload, limits) = (payload(bytes), Limits::default());
    bencher.bench(|| rules::json("payload", black_box(&payload), &limits));
}

#[divan::bench]
fn identifier(bencher: Bencher) {
    let id = new_run_id();
    bencher.bench(|| rules::run_id("id", black_box(&id)).is_ok());
}

#[divan::bench]
fn id() -> String {
    new_run_id()
}

#[divan::bench]
fn filter_to_query(bencher: Bencher) {
    let filter = RunFilter::new().skill("summarise").status("error");
    bencher.bench(|| RunQuery::from(black_box(&filter)));
}

/// Spans of model calls through the tracing layer, on the thread that creates them. The runtime
/// that would write them stands still.
#[divan::bench]
#[expect(clippy::unwrap_used, reason = "a bench can't return errors")]
fn spans(bencher: Bencher) {
    const SPANS: usize = 1_000;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = runtime.block_on(AuditStore::connect("sqlite::memory:"));
    let store = Arc::new(store.unwrap());
    let _entered = runtime.enter();
    bencher
        .counter(ItemsCount::new(SPANS))
        .with_inputs(|| {
            let recorder = Recorder::new(Arc::clone(&store) as Arc<_>);
            let layer = runtrail_record::layer(&recorder);
            tracing::Dispatch::new(tracing_subscriber::registry().with(layer))
        })
        .bench_refs(|subscriber| {
            let _guard = tracing::dispatcher::set_default(subscriber);
            let agent = tracing::info_span!("invoke_agent", gen_ai.operation.name = "invoke_agent");
            let _entered = agent.enter();
            for _ in 0..SPANS {
                drop(tracing::info_span!(
                    "chat",
                    gen_ai.operation.name = "chat",
                    gen_ai.provider.name = "anthropic",
                    gen_ai.response.model = "claude-sonnet-4-5",
                    gen_ai.usage.input_tokens = 1_200_u64,
                    gen_ai.usage.output_tokens = 80_u64,
                ));
            }
        });
}
