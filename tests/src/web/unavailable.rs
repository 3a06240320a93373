use super::access::{PATHS, store_runs};
use super::visit::Site;

on_each_backend! {
    async fn a_history_that_is_away_is_reported_without_details(database) {
        let store = database.store().await;
        store_runs(&store).await;
        let site = Site::of(&store);
        store.close().await.unwrap();
        for path in PATHS.into_iter().chain(["/", "/api/v1/runs"]) {
            let answer = site.get(path).await;
            assert_eq!(answer.status, 503, "{path}: {}", answer.body);
            assert!(answer.headers.contains_key("retry-after"));
            assert!(answer.body.contains("did not answer"), "{path}: {}", answer.body);
        }
    }
}
