//! Server-sent events: parts of a page as they change.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream, StreamExt};
use maud::Markup;
use runtrail_audit::{Cursor, Error, ErrorKind, Watched};
use tokio::time::{Instant, sleep_until};

use crate::filters::CURSOR;
use crate::visitor::Visitor;

type Items<T> = BoxStream<'static, Result<Watched<T>, Error>>;

/// Proxies close a connection that has been quiet for longer.
const QUIET: Duration = Duration::from_secs(15);

/// How long a stream may take to find out what is already stored. It may leave out what is stored
/// in this time.
const SETTLING: Duration = Duration::from_millis(250);

/// How long a browser waits before it connects again, and that the stream has begun.
const READY: &str = "retry: 2000\nevent: ready\ndata: ready\n\n";

/// The database doesn't answer, or answers again.
const AWAY: &str = "event: away\ndata: away\n\n";
const BACK: &str = "event: back\ndata: back\n\n";

/// There is nothing more to come, so the browser must not connect again.
const FINISHED: &str = "event: finished\ndata: finished\n\n";

/// Returns the cursor of the last message that the browser has received, if it connects again. A
/// script that opens a new connection can't set the header.
pub(crate) fn last_cursor(visitor: &Visitor) -> Option<Cursor> {
    let header = visitor.headers.get("last-event-id");
    let id = header
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty());
    id.or_else(|| visitor.parameters.first(CURSOR))
        .map(Cursor::from)
}

/// Responds with a stream. Each item becomes a message: the HTML is its data, the cursor its id.
///
/// The message `ready` says that everything that is stored later is in the stream. While the
/// database doesn't answer, the stream waits; `away` and `back` say so. If the stream ends for
/// good, its last message is `finished`.
pub(crate) fn respond<T: Send + 'static>(
    visitor: impl Into<Arc<Visitor>>,
    items: Items<T>,
    render: impl Fn(&Visitor, T) -> Markup + Send + 'static,
) -> Response {
    let visitor = visitor.into();
    let shutdown = visitor.shutdown();
    let feed = Feed {
        items,
        availability: visitor.availability(),
        ready_at: Some(Instant::now() + SETTLING),
        has_ended: false,
    };
    let messages = stream::unfold(feed, async |mut feed| {
        let next = feed.next().await?;
        Some((next, feed))
    });
    let messages = messages.map(move |message| {
        Ok::<_, Infallible>(match message {
            Message::Text(text) => text.to_owned(),
            Message::Item(Watched { item, cursor, .. }) => {
                message_of(&cursor, &render(&visitor, item))
            }
        })
    });
    let body = Body::from_stream(messages.take_until(shutdown));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // A proxy that collects the messages would delay them.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, body).into_response()
}

struct Feed<T> {
    items: Items<T>,
    /// Whether the database answers.
    availability: BoxStream<'static, bool>,
    /// When to send `ready`; `None` once it is sent.
    ready_at: Option<Instant>,
    has_ended: bool,
}

enum Message<T> {
    Text(&'static str),
    Item(Watched<T>),
}

impl<T> Feed<T> {
    async fn next(&mut self) -> Option<Message<T>> {
        while !self.has_ended {
            let until = self.ready_at.unwrap_or_else(|| Instant::now() + QUIET);
            let item = tokio::select! {
                biased;
                item = self.items.next() => item,
                Some(is_available) = self.availability.next() => {
                    return Some(Message::Text(if is_available { BACK } else { AWAY }));
                }
                () = sleep_until(until) => {
                    let is_first = self.ready_at.take().is_some();
                    return Some(Message::Text(if is_first { READY } else { ":\n\n" }));
                }
            };
            match item {
                Some(Ok(item)) => return Some(Message::Item(item)),
                Some(Err(err)) if err.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(%err, "could not show a damaged row");
                }
                Some(Err(err)) => {
                    tracing::warn!(%err, "a live stream has ended");
                    self.has_ended = true;
                    // Otherwise, the browser connects again.
                    let is_final =
                        matches!(err.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound);
                    return is_final.then_some(Message::Text(FINISHED));
                }
                None => {
                    self.has_ended = true;
                    return Some(Message::Text(FINISHED));
                }
            }
        }
        None
    }
}

fn message_of(cursor: &Cursor, html: &Markup) -> String {
    // A carriage return would end the line.
    let html = html.0.replace('\r', "&#13;");
    let mut message = format!("id: {cursor}\n");
    for line in html.split('\n') {
        message.push_str("data: ");
        message.push_str(line);
        message.push('\n');
    }
    message.push('\n');
    message
}

#[cfg(test)]
mod tests {
    use maud::html;
    use runtrail_audit::Error;

    use super::*;

    #[test]
    fn every_line_of_a_message_is_data() {
        let html = html! { p title="a\rb" { "c\n\nid: d" } };
        assert_eq!(
            message_of(&"cursor".into(), &html),
            "id: cursor\ndata: <p title=\"a&#13;b\">c\ndata: \ndata: id: d</p>\n\n"
        );
    }

    async fn texts(items: Vec<Result<Watched<u8>, Error>>) -> Vec<String> {
        let mut feed = Feed {
            items: stream::iter(items).boxed(),
            availability: stream::pending().boxed(),
            ready_at: None,
            has_ended: false,
        };
        let mut texts = Vec::new();
        while let Some(message) = feed.next().await {
            texts.push(match message {
                Message::Text(text) => text.to_owned(),
                Message::Item(watched) => watched.item.to_string(),
            });
        }
        texts
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_announced() {
        let mut feed = Feed::<u8> {
            items: stream::pending().boxed(),
            availability: stream::iter([false, true]).boxed(),
            ready_at: None,
            has_ended: false,
        };
        for expected in [AWAY, BACK] {
            let message = feed.next().await;
            assert!(matches!(message, Some(Message::Text(text)) if text == expected));
        }
    }

    #[tokio::test]
    async fn damaged_rows_are_skipped_and_only_a_final_end_is_announced() {
        let item = |number| Ok(Watched::new(number, "cursor".into()));
        let damaged = || {
            Err(Error::Corrupt {
                table: "skill_run",
                id: "run-1".into(),
                column: "status",
                reason: "is damaged".into(),
            })
        };
        let end = |err| vec![item(1), Err(err), item(2)];
        assert_eq!(
            texts(vec![item(1), damaged(), item(2)]).await,
            ["1", "2", FINISHED]
        );
        assert_eq!(
            texts(end(Error::invalid("cursor", "is malformed"))).await,
            ["1", FINISHED]
        );
        let lost = Error::Timeout {
            source: "lost".into(),
        };
        assert_eq!(texts(end(lost)).await, ["1"]);
    }
}
