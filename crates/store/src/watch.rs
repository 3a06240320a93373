//! Streams that continue with what is stored later; docs/internals.md describes how.

mod backlog;
mod events;
mod follow;
mod hub;
mod hub_task;
mod log_stream;
mod position;
mod recent_runs;
mod run_stream;
mod sequencer;
mod sources;
mod tree_stream;

use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use runtrail_audit::{
    Error, LogFilter, Result, RunQuery, RunSummary, SkillRunLog, Watch, WatchStart, Watched,
};
use runtrail_db::Connection;

use self::log_stream::LogStream;
use self::run_stream::RunStream;
use self::tree_stream::TreeStream;
use crate::store::AuditStore;

pub(crate) use self::hub::Hub;

impl<C: Connection> Watch for AuditStore<C> {
    fn watch_logs(
        &self,
        run_id: &str,
        filter: &LogFilter,
        start: &WatchStart,
    ) -> BoxStream<'static, Result<Watched<SkillRunLog>>> {
        let Some(store) = self.with_own_pool() else {
            return refuse();
        };
        let arguments = Arc::new((run_id.to_owned(), filter.clone(), start.clone()));
        follow::stream(move || {
            let (store, arguments) = (store.clone(), Arc::clone(&arguments));
            async move {
                let (run_id, filter, start) = &*arguments;
                LogStream::open(&store, run_id, filter, start).await
            }
        })
    }

    fn watch_tree_logs(
        &self,
        root_id: &str,
        filter: &LogFilter,
        start: &WatchStart,
    ) -> BoxStream<'static, Result<Watched<SkillRunLog>>> {
        let Some(store) = self.with_own_pool() else {
            return refuse();
        };
        let arguments = Arc::new((root_id.to_owned(), filter.clone(), start.clone()));
        follow::stream(move || {
            let (store, arguments) = (store.clone(), Arc::clone(&arguments));
            async move {
                let (root_id, filter, start) = &*arguments;
                TreeStream::open(&store, root_id, filter, start).await
            }
        })
    }

    fn watch_runs(
        &self,
        query: &RunQuery,
        start: &WatchStart,
    ) -> BoxStream<'static, Result<Watched<RunSummary>>> {
        let Some(store) = self.with_own_pool() else {
            return refuse();
        };
        let arguments = Arc::new((query.clone(), start.clone()));
        follow::stream(move || {
            let (store, arguments) = (store.clone(), Arc::clone(&arguments));
            async move {
                let (query, start) = &*arguments;
                RunStream::open(&store, query, start)
            }
        })
    }
}

/// A caller's connection may be closed before the stream ends, and sees its own uncommitted writes.
fn refuse<T: Send + 'static>() -> BoxStream<'static, Result<Watched<T>>> {
    let reason = "is a caller's connection: watch through a store with its own pool";
    stream::iter([Err(Error::invalid("connection", reason))]).boxed()
}
