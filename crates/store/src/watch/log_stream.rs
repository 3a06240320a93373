//! Streams the events of a run.

use std::sync::Arc;

use runtrail_audit::{Error, LogFilter, Result, SkillRunLog, WatchStart, Watched};
use tokio::sync::Notify;
use tracing::debug_span;

use super::events::{self, RunEvents};
use super::follow::{Follow, wait};
use super::hub::Registration;
use super::position::Position;
use crate::codec::{self, ListId};
use crate::statements::runs;
use crate::store::AuditStore;

/// The number of gaps that a cursor contains.
pub(super) const CURSOR_GAPS: usize = 64;

pub(super) struct LogStream {
    store: AuditStore,
    filter: LogFilter,
    list: ListId,
    events: RunEvents,
    stream: Arc<Notify>,
    _registration: Registration,
}

impl LogStream {
    pub(super) async fn open(
        store: &AuditStore,
        run_id: &str,
        filter: &LogFilter,
        start: &WatchStart,
    ) -> Result<Self> {
        events::check(run_id, filter)?;
        let list = ListId::of_watched_logs("watch_logs", run_id, filter)?;
        let resumed: Option<Position> = match start {
            WatchStart::After(cursor) => Some(codec::decode_position(list, cursor)?),
            _ => None,
        };
        let db = store.reading(debug_span!("watch_logs")).await?;
        let Some(is_finished) = runs::are_finished(&db, &[run_id]).await?.remove(run_id) else {
            return Err(Error::not_found(run_id));
        };
        let start = match resumed {
            Some(position) => position,
            None => events::first_position(&db, run_id, filter, events::is_from_now(start)).await?,
        };
        let registration = store.hub().register();
        let stream = Arc::new(Notify::new());
        let events = match is_finished {
            true => RunEvents::of_finished(run_id, start),
            false => RunEvents::of_running(run_id, start, store.hub(), &stream),
        };
        Ok(Self {
            store: store.clone(),
            filter: filter.clone(),
            list,
            events,
            stream,
            _registration: registration,
        })
    }
}

impl Follow for LogStream {
    type Item = SkillRunLog;

    async fn next(&mut self) -> Result<Option<Watched<SkillRunLog>>> {
        loop {
            while let Some(arrival) = self.events.pop(self.store.now()) {
                let event = arrival.1.as_ref().map_err(Error::clone)?;
                if events::matches(&self.filter, event) {
                    let position = self.events.delivered().with_gaps(CURSOR_GAPS);
                    let cursor = codec::encode_position(self.list, &position)?;
                    return Ok(Some(Watched::new(event.clone(), cursor)));
                }
            }
            if self.events.is_complete() {
                return Ok(None);
            }
            if !self.events.advance(&self.store).await? {
                wait(&self.store, &self.stream, self.events.waits_until()).await?;
            }
        }
    }
}
