//! Rows of two histories, side by side in the order of their keys.

use std::cmp::Ordering;
use std::sync::Arc;
use std::vec;

use runtrail_audit::{Error, ErrorSource, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::history::{Copied, Found, History, Page, Range, Stretch};

/// The pages of a range, of which the next one is read while this one is worked on; at least one, which may be empty.
pub(crate) struct Pages<M: Copied> {
    pages: mpsc::Receiver<Result<Page<M>>>,
    is_ended: bool,
    /// Which ends with this.
    _reading: JoinSet<()>,
}

impl<M: Copied> Pages<M> {
    pub(crate) fn of<F>(
        history: Arc<dyn History>,
        range: Range,
        read: impl Fn(Arc<dyn History>, Stretch) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Page<M>>> + Send,
    {
        let (sender, receiver) = mpsc::channel(1);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut next = Some(Stretch::beginning(range));
            while let Some(stretch) = next {
                let page = read(Arc::clone(&history), stretch).await;
                next = page.as_ref().ok().and_then(|page| page.next.clone());
                if sender.send(page).await.is_err() {
                    return;
                }
            }
        });
        Self {
            pages: receiver,
            is_ended: false,
            _reading: reading,
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Page<M>>> {
        if self.is_ended {
            return Ok(None);
        }
        let Some(page) = self.pages.recv().await else {
            // Not before its last page, unless something has ended the task.
            return Err(ended("the task that reads has ended"));
        };
        let page = page?;
        self.is_ended = page.next.is_none();
        Ok(Some(page))
    }
}

/// A task was ended by a panic, or by the end of its runtime.
pub(crate) fn ended(source: impl Into<ErrorSource>) -> Error {
    Error::Backend {
        transient: false,
        source: source.into(),
    }
}

/// Rows one by one.
pub(crate) struct Rows<M: Copied> {
    page: vec::IntoIter<Found<M>>,
    rest: Option<Pages<M>>,
    /// The key of the last row that was taken.
    last: Option<M::Key>,
}

impl<M: Copied> Rows<M> {
    /// Those of a page, which come after the row with this key.
    pub(crate) fn of_page(rows: Vec<Found<M>>, after: Option<M::Key>) -> Self {
        Self {
            page: rows.into_iter(),
            rest: None,
            last: after,
        }
    }

    pub(crate) fn of(pages: Pages<M>) -> Self {
        Self {
            page: Vec::new().into_iter(),
            rest: Some(pages),
            last: None,
        }
    }

    fn take(&mut self) -> Result<Option<Found<M>>> {
        let Some(mut found) = self.page.next() else {
            return Ok(None);
        };
        if found.key.is_none() {
            return Ok(Some(found));
        }
        match found.key.cmp(&self.last) {
            Ordering::Greater => {}
            // A table of somebody else's need not have a key that is unique ...
            Ordering::Equal => {
                found.content = Err(Error::invalid("key", "belongs to another row as well"));
            }
            // ... nor compare it as we do.
            Ordering::Less => {
                let reason = "don't come in the order of their bytes: a collation, or not UTF-8?";
                return Err(Error::invalid("keys", reason));
            }
        }
        self.last.clone_from(&found.key);
        Ok(Some(found))
    }

    async fn peek(&mut self) -> Result<Option<&Found<M>>> {
        while self.page.as_slice().is_empty() {
            let Some(pages) = &mut self.rest else {
                return Ok(None);
            };
            match pages.next().await? {
                Some(page) => self.page = page.rows.into_iter(),
                None => self.rest = None,
            }
        }
        Ok(self.page.as_slice().first())
    }
}

/// What has the next key: a row of one side, or of both.
pub(crate) enum Pair<M: Copied> {
    Source(Found<M>),
    Target(Found<M>),
    Both(Found<M>, Found<M>),
}

/// The next rows of both sides.
pub(crate) async fn next<M: Copied>(
    source: &mut Rows<M>,
    target: &mut Rows<M>,
) -> Result<Option<Pair<M>>> {
    let order = match (source.peek().await?, target.peek().await?) {
        (None, None) => return Ok(None),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        // Rows without a key come by themselves.
        (Some(source), Some(_)) if source.key.is_none() => Ordering::Less,
        (Some(source), Some(target)) => source.key.cmp(&target.key),
    };
    Ok(match order {
        Ordering::Less => source.take()?.map(Pair::Source),
        Ordering::Greater => target.take()?.map(Pair::Target),
        Ordering::Equal => {
            let both = source.take()?.zip(target.take()?);
            both.map(|(source, target)| Pair::Both(source, target))
        }
    })
}
