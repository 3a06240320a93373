//! Merges the rows of two histories in key order.

use std::cmp::Ordering;
use std::sync::Arc;
use std::vec;

use runtrail_audit::{Error, ErrorSource, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::history::{CopiedRow, History, Page, Range, ScanPosition, ScannedRow};

/// The pages of a range: at least one, which may be empty. A task reads the next page while the
/// current one is processed.
pub(crate) struct Pages<M: CopiedRow> {
    pages: mpsc::Receiver<Result<Page<M>>>,
    is_finished: bool,
    /// Aborts the task when dropped.
    _reader: JoinSet<()>,
}

impl<M: CopiedRow> Pages<M> {
    pub(crate) fn new<F>(
        history: Arc<dyn History>,
        range: Range,
        read: impl Fn(Arc<dyn History>, ScanPosition) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Page<M>>> + Send,
    {
        let (sender, receiver) = mpsc::channel(1);
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let mut next = Some(ScanPosition::start(range));
            while let Some(position) = next {
                let page = read(Arc::clone(&history), position).await;
                next = page.as_ref().ok().and_then(|page| page.next.clone());
                if sender.send(page).await.is_err() {
                    return;
                }
            }
        });
        Self {
            pages: receiver,
            is_finished: false,
            _reader: reader,
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Page<M>>> {
        if self.is_finished {
            return Ok(None);
        }
        let Some(page) = self.pages.recv().await else {
            // The last page has not been received, so the task has failed.
            return Err(task_failed("the reading task has ended"));
        };
        let page = page?;
        self.is_finished = page.next.is_none();
        Ok(Some(page))
    }
}

/// The error for a task that panicked, or whose runtime was shut down.
pub(crate) fn task_failed(source: impl Into<ErrorSource>) -> Error {
    Error::Backend {
        transient: false,
        source: source.into(),
    }
}

/// A peekable stream of rows.
pub(crate) struct Rows<M: CopiedRow> {
    page: vec::IntoIter<ScannedRow<M>>,
    rest: Option<Pages<M>>,
    /// The key of the last row that was returned.
    last: Option<M::Key>,
}

impl<M: CopiedRow> Rows<M> {
    /// The rows of one page, whose keys must be greater than `after`.
    pub(crate) fn from_page(rows: Vec<ScannedRow<M>>, after: Option<M::Key>) -> Self {
        Self {
            page: rows.into_iter(),
            rest: None,
            last: after,
        }
    }

    pub(crate) fn from_pages(pages: Pages<M>) -> Self {
        Self {
            page: Vec::new().into_iter(),
            rest: Some(pages),
            last: None,
        }
    }

    fn pop(&mut self) -> Result<Option<ScannedRow<M>>> {
        let Some(mut row) = self.page.next() else {
            return Ok(None);
        };
        if row.key.is_none() {
            return Ok(Some(row));
        }
        match row.key.cmp(&self.last) {
            Ordering::Greater => {}
            // A legacy table may lack a unique key ...
            Ordering::Equal => {
                row.content = Err(Error::invalid("key", "is a duplicate"));
            }
            // ... or compare keys by a collation.
            Ordering::Less => {
                let reason = "aren't in byte order; check for a collation or text that isn't UTF-8";
                return Err(Error::invalid("keys", reason));
            }
        }
        self.last.clone_from(&row.key);
        Ok(Some(row))
    }

    async fn peek(&mut self) -> Result<Option<&ScannedRow<M>>> {
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

/// The rows with the next key, of one side or of both.
pub(crate) enum Pair<M: CopiedRow> {
    Source(ScannedRow<M>),
    Target(ScannedRow<M>),
    Both(ScannedRow<M>, ScannedRow<M>),
}

/// Returns the next pair, or `None` at the end of both sides.
pub(crate) async fn next_pair<M: CopiedRow>(
    source: &mut Rows<M>,
    target: &mut Rows<M>,
) -> Result<Option<Pair<M>>> {
    let order = match (source.peek().await?, target.peek().await?) {
        (None, None) => return Ok(None),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        // A row without a key never forms a pair.
        (Some(source), Some(_)) if source.key.is_none() => Ordering::Less,
        (Some(source), Some(target)) => source.key.cmp(&target.key),
    };
    Ok(match order {
        Ordering::Less => source.pop()?.map(Pair::Source),
        Ordering::Greater => target.pop()?.map(Pair::Target),
        Ordering::Equal => {
            let both = source.pop()?.zip(target.pop()?);
            both.map(|(source, target)| Pair::Both(source, target))
        }
    })
}
