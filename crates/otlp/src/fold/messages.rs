//! The messages of model calls. Each call repeats those of the calls before it, so only the new
//! ones are stored.

use std::collections::HashMap;

use runtrail_audit::{Error, History, ListOrder, LogFilter, PageRequest, Result};
use runtrail_telemetry::EventPart;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::wire::hex;

/// The number of conversations that are remembered of each run, which may interleave several.
const PER_RUN: usize = 8;

/// The number of runs whose conversations are remembered. Those of the others are read again.
const RUNS: usize = 10_000;

/// The most bytes of the messages of one call. The oldest ones beyond it are left out.
const MAX_BYTES: usize = 512 << 10;

const MODEL_CALL: &str = "model_call";

/// The payload's key for the new messages.
const MESSAGES: &str = "messages";
/// The payload's key for the number of messages that earlier events have.
const EARLIER: &str = "earlier_messages";
/// The payload's key for the number of new messages that were left out for their size.
const OMITTED: &str = "omitted_messages";
/// The payload's key for the digest of all messages.
const DIGEST: &str = "messages_sha256";

/// How far a conversation has gone: the number of its messages, and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    count: u64,
    digest: String,
}

/// The conversations of runs.
#[derive(Debug, Default)]
pub(super) struct Conversations(HashMap<String, Vec<Progress>>);

impl Conversations {
    /// Takes the conversations of a run, so that a fold that fails leaves none that isn't stored.
    pub(super) fn take(&mut self, run: &str) -> Self {
        let taken = self.0.remove_entry(run);
        Self(taken.into_iter().collect())
    }

    /// Adds conversations that are stored.
    pub(super) fn extend(&mut self, stored: Self) {
        if self.0.len() >= RUNS {
            self.0.clear();
        }
        self.0.extend(stored.0);
    }

    pub(super) fn knows(&self, run: &str) -> bool {
        self.0.contains_key(run)
    }

    pub(super) fn forget(&mut self, run: &str) {
        self.0.remove(run);
    }

    /// Notes that a run is new.
    pub(super) fn begin(&mut self, run: &str) {
        self.0.entry(run.to_owned()).or_default();
    }

    /// Reads how far the conversations of a run have gone.
    pub(super) async fn read(&mut self, history: &dyn History, run: &str) -> Result<()> {
        let calls = LogFilter::new().event_type(MODEL_CALL);
        let request = PageRequest::first(PER_RUN as u64);
        let order = ListOrder::NewestFirst;
        let events = match history.page_logs(run, &calls, order, &request).await {
            Ok(page) => page.items,
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(err) => return Err(err),
        };
        let progress = |payload: &Value| {
            let count = |key| payload.get(key).and_then(Value::as_u64).unwrap_or(0);
            let new = payload.get(MESSAGES)?.as_array()?.len() as u64;
            Some(Progress {
                count: new
                    .saturating_add(count(EARLIER))
                    .saturating_add(count(OMITTED)),
                digest: payload.get(DIGEST)?.as_str()?.to_owned(),
            })
        };
        let events = events.iter().rev();
        let known = events
            .filter_map(|event| progress(&event.payload))
            .collect();
        self.0.insert(run.to_owned(), known);
        Ok(())
    }

    /// Adds the messages of a call to its payload: those that no earlier call of the run has.
    pub(super) fn continue_with(
        &mut self,
        run: &str,
        mut messages: Vec<Value>,
        digests: &[String],
        payload: &mut Map<String, Value>,
    ) {
        let known = self.0.entry(run.to_owned()).or_default();
        let is_known = |(count, digest): &(usize, &String)| {
            let mut known = known.iter();
            known.any(|it| it.count == *count as u64 && it.digest == **digest)
        };
        let counted = (1..).zip(digests);
        let earlier = counted
            .filter(is_known)
            .last()
            .map_or(0, |(count, _)| count);
        // The first messages may have been left out when the call was received.
        let left_out = digests.len().saturating_sub(messages.len());
        messages.drain(..earlier.saturating_sub(left_out).min(messages.len()));
        let omitted = left_out.saturating_sub(earlier);
        if let Some(digest) = digests.last() {
            let progress = Progress {
                count: digests.len() as u64,
                digest: digest.clone(),
            };
            known.retain(|it| *it != progress);
            known.push(progress);
            if known.len() > PER_RUN {
                known.remove(0);
            }
            payload.insert(DIGEST.to_owned(), digest.as_str().into());
        }
        for (key, count) in [(EARLIER, earlier), (OMITTED, omitted)] {
            if count > 0 {
                payload.insert(key.to_owned(), count.into());
            }
        }
        payload.insert(MESSAGES.to_owned(), messages.into());
    }
}

/// Computes the digests of the messages of a call, and leaves out the first ones if they are too
/// large together.
pub(crate) fn prepare(event: &mut EventPart) {
    let mut before = Sha256::new();
    let mut sizes = Vec::with_capacity(event.messages.len());
    let mut digests = Vec::with_capacity(event.messages.len());
    for message in &event.messages {
        let text = message.to_string();
        before.update(text.len().to_le_bytes());
        before.update(&text);
        sizes.push(text.len());
        digests.push(hex(&before.clone().finalize()[..16]));
    }
    let mut kept = 0;
    let mut bytes = 0;
    for size in sizes.iter().rev() {
        bytes += size;
        if bytes > MAX_BYTES {
            break;
        }
        kept += 1;
    }
    event.messages.drain(..event.messages.len() - kept);
    event.digests = digests;
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::json;

    use super::*;

    fn call(messages: &[Value]) -> EventPart {
        let mut event = EventPart {
            messages: messages.to_vec(),
            ..EventPart::default()
        };
        prepare(&mut event);
        event
    }

    fn stored(conversations: &mut Conversations, messages: &[Value]) -> Value {
        let event = call(messages);
        let mut payload = Map::new();
        conversations.continue_with("r", event.messages, &event.digests, &mut payload);
        payload.remove(DIGEST);
        Value::Object(payload)
    }

    #[test]
    fn a_call_has_only_the_messages_that_are_new() {
        let [a, b, c] = ["a", "b", "c"].map(|text| json!({"role": "user", "content": text}));
        let mut known = Conversations::default();
        let first = stored(&mut known, slice::from_ref(&a));
        assert_eq!(first, json!({"messages": [a]}));
        let second = stored(&mut known, &[a.clone(), b.clone(), c.clone()]);
        assert_eq!(second, json!({"messages": [b, c], "earlier_messages": 1}));
        // Another conversation in between.
        let other = stored(&mut known, &[b.clone(), a.clone()]);
        assert_eq!(other, json!({"messages": [b, a]}));
        let repeated = stored(&mut known, &[a.clone(), b.clone(), c.clone()]);
        assert_eq!(repeated, json!({"messages": [], "earlier_messages": 3}));
    }

    #[test]
    fn the_oldest_messages_are_left_out_if_all_are_too_large() {
        let messages: Vec<_> = (0..4)
            .map(|n| json!(format!("{n}").repeat(200 << 10)))
            .collect();
        let event = call(&messages);
        assert_eq!((event.messages.len(), event.digests.len()), (2, 4));
        let mut known = Conversations::default();
        let first = stored(&mut known, &messages);
        assert_eq!(first["omitted_messages"], 2);
        // The next call continues after them.
        let more = [messages, vec![json!("new")]].concat();
        let next = stored(&mut known, &more);
        assert_eq!(next, json!({"messages": ["new"], "earlier_messages": 4}));
    }
}
