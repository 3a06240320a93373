//! The history of the jobs, and the page that shows it.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use loco_rs::app::{AppContext, Initializer};
use loco_rs::boot::shutdown_signal;
use loco_rs::{Error, Result};
use runtrail::web::{Access, Grant, Restriction, WebOptions, router};
use runtrail::{AuditStore, History, Recorder, Storage};

use crate::login::{OPERATOR, User, require_login};

/// Opens the history on the application's connection, and mounts the page.
pub(crate) struct ShowHistory;

#[async_trait]
impl Initializer for ShowHistory {
    fn name(&self) -> String {
        "history".to_owned()
    }

    async fn before_run(&self, ctx: &AppContext) -> Result<()> {
        let store = AuditStore::new(ctx.db.clone());
        store.initialize().await.map_err(Error::wrap)?;
        ctx.shared_store
            .insert(Recorder::new(Arc::new(store.clone())));
        ctx.shared_store.insert(store);
        Ok(())
    }

    async fn after_routes(&self, app: Router, ctx: &AppContext) -> Result<Router> {
        let history: Arc<dyn History> = Arc::new(store(ctx)?);
        let options = WebOptions::new(OwnRuns).shutdown(shutdown_signal());
        let page = router(history, options).layer(from_fn_with_state(ctx.clone(), require_login));
        Ok(app.nest_service("/history", page))
    }
}

/// Shows users the runs that they asked for, and everything to the operator.
struct OwnRuns;

#[async_trait]
impl Access for OwnRuns {
    async fn grant(&self, request: &Parts) -> Grant {
        match request.extensions.get() {
            Some(User(name)) if name == OPERATOR => Grant::full(),
            Some(User(name)) => Grant::full().restricted_to(Restriction::new().callers([name])),
            None => Grant::forbidden(),
        }
    }
}

pub(crate) fn store(ctx: &AppContext) -> Result<AuditStore> {
    shared(ctx)
}

pub(crate) fn recorder(ctx: &AppContext) -> Result<Recorder> {
    shared(ctx)
}

fn shared<T: Clone + Send + Sync + 'static>(ctx: &AppContext) -> Result<T> {
    let shared = ctx.shared_store.get();
    shared.ok_or_else(|| Error::string("the history isn't open"))
}
