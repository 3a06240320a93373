#![allow(warnings)]
use std::time::Instant;
use runtrail_store::AuditStore;
use runtrail_store::audit::*;
#[tokio::main(worker_threads = 2)]
async fn main() {
    let store = AuditStore::connect("sqlite:///tmp/scratch.db?mode=rwc").await.unwrap();
    store.initialize().await.unwrap();
    if store.count_runs_filtered(&RunFilter::new()).await.unwrap() == 0 {
        for i in 0..20000 {
            let mut r = SkillRun::new(format!("{i:036}"), format!("skill-{}", i % 10), store.now());
            r.inputs = serde_json::from_str(r#"{"question":"What is the state of my order?","n":17}"#).unwrap();
            r.output = "Your order is on its way".repeat(5);
            r.status = RunStatus::OK; r.finished_at = Some(store.now());
            store.start_run(&r).await.unwrap();
        }
    }
    let n: u32 = std::env::args().nth(1).unwrap().parse().unwrap();
    for _ in 0..3 {
    let t = Instant::now();
    for i in 0..n { store.list_runs_by_skill(&format!("skill-{}", i % 10), Some(50)).await.unwrap(); }
    println!("list {:?}", t.elapsed() / n);
    let t = Instant::now();
    for i in 0..n { store.page_run_summaries(&RunQuery::new().skills([format!("skill-{}", i % 10)]), Order::NewestFirst, &PageRequest::first(50)).await.unwrap(); }
    println!("summaries {:?}", t.elapsed() / n);
    let t = Instant::now();
    for i in 0..n { store.get_run(&format!("{i:036}")).await.unwrap(); }
    println!("get {:?}", t.elapsed() / n);
    }
}
