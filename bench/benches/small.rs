//! The cost of a call before it reaches the database: `cargo bench --package runtrail-bench`.

use std::hint::black_box;

use divan::Bencher;
use runtrail_audit::{Limits, RunFilter, RunQuery, new_run_id, rules};
use serde_json::{Value, json};

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
