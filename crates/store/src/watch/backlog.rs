//! The latest items of a source that several streams follow.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use runtrail_audit::Result;
use tokio::sync::Notify;

/// The number of items that are kept. A stream that is further behind reads from the database.
const MAX_ITEMS: usize = 1_024;

/// The latest items, numbered in the order in which they have arrived.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    items: VecDeque<T>,
    /// The number of the next item.
    end: u64,
    pub(super) followers: Followers,
}

/// The streams that follow a source.
#[derive(Debug, Default)]
pub(super) struct Followers {
    streams: Vec<Weak<Notify>>,
    /// Set when nothing more will arrive.
    outcome: Option<Result<()>>,
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            end: 0,
            followers: Followers::default(),
        }
    }
}

/// What has arrived since a stream last looked.
pub(super) enum News<T> {
    Items(Vec<T>),
    /// Some items are no longer kept.
    Lost,
    /// No more items will arrive.
    End(Result<()>),
}

impl<T: Clone> Backlog<T> {
    /// The number of the next item.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn push(&mut self, item: T) {
        if self.items.len() == MAX_ITEMS {
            self.items.pop_front();
        }
        self.items.push_back(item);
        self.end += 1;
    }

    /// Returns the items from this number on, and advances it.
    pub(super) fn since(&self, number: &mut u64) -> News<T> {
        let missed = usize::try_from(self.end - *number).unwrap_or(usize::MAX);
        let Some(skipped) = self.items.len().checked_sub(missed) else {
            *number = self.end;
            return News::Lost;
        };
        *number = self.end;
        match self.followers.outcome() {
            Some(outcome) if missed == 0 => News::End(outcome.clone()),
            _ => News::Items(self.items.range(skipped..).cloned().collect()),
        }
    }
}

impl Followers {
    /// How the source has ended; `None` if more may arrive.
    pub(super) fn outcome(&self) -> Option<&Result<()>> {
        self.outcome.as_ref()
    }

    /// Ends the streams that follow, once they have received everything.
    pub(super) fn finish(&mut self, outcome: Result<()>) {
        self.outcome.get_or_insert(outcome);
        self.wake();
    }

    /// Wakes this stream whenever something has arrived, until it is dropped.
    pub(super) fn add(&mut self, stream: &Arc<Notify>) {
        self.streams.retain(|stream| stream.strong_count() > 0);
        self.streams.push(Arc::downgrade(stream));
    }

    pub(super) fn wake(&self) {
        for stream in self.streams.iter().filter_map(Weak::upgrade) {
            stream.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(news: News<usize>) -> Vec<usize> {
        match news {
            News::Items(items) => items,
            _ => panic!("no items"),
        }
    }

    #[test]
    fn a_stream_gets_what_it_has_not_seen_and_then_the_end() {
        let mut backlog = Backlog::default();
        let mut number = backlog.end();
        backlog.push(1);
        backlog.push(2);
        assert_eq!(items(backlog.since(&mut number)), [1, 2]);
        assert_eq!(items(backlog.since(&mut number)), [0; 0]);
        backlog.push(3);
        backlog.followers.finish(Ok(()));
        assert_eq!(items(backlog.since(&mut number)), [3]);
        assert!(matches!(backlog.since(&mut number), News::End(Ok(()))));
    }

    #[test]
    fn a_stream_that_is_too_far_behind_learns_that() {
        let mut backlog = Backlog::default();
        for item in 0..=MAX_ITEMS {
            backlog.push(item);
        }
        let mut number = 0;
        assert!(matches!(backlog.since(&mut number), News::Lost));
        assert_eq!(items(backlog.since(&mut number)), [0; 0]);
        number -= MAX_ITEMS as u64;
        assert_eq!(items(backlog.since(&mut number)).len(), MAX_ITEMS);
    }
}
