//! The messages of model calls. Each call repeats those of the calls before it, so only the new
//! ones are stored.

use std::collections::HashMap;

use runtrail_audit::{Error, History, ListOrder, LogFilter, PageRequest, Result};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The number of conversations that are remembered of each run: its calls may alternate between
/// some.
const PER_RUN: usize = 8;

/// The number of runs whose conversations are remembered. Those of the others are read again.
const RUNS: usize = 10_000;

const MODEL_CALL: &str = "model_call";

/// The payload's key for the new messages.
const MESSAGES: &str = "messages";
/// The payload's key for the number of messages that earlier events have.
const EARLIER: &str = "earlier_messages";
/// The payload's key for the digest of all messages.
const DIGEST: &str = "messages_sha256";

/// How far a conversation has gone: the number of its messages, and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    count: u64,
    digest: String,
}

/// The conversations of recent runs.
#[derive(Debug, Default)]
pub(super) struct Conversations(HashMap<String, Vec<Progress>>);

impl Conversations {
    /// Adds the messages of a call to its payload: those that no earlier call of the run has.
    pub(super) async fn continue_with(
        &mut self,
        history: &dyn History,
        run: &str,
        mut messages: Vec<Value>,
        payload: &mut Map<String, Value>,
    ) -> Result<()> {
        if !self.0.contains_key(run) {
            let known = stored(history, run).await?;
            if self.0.len() >= RUNS {
                self.0.clear();
            }
            self.0.insert(run.to_owned(), known);
        }
        let known = self.0.entry(run.to_owned()).or_default();
        let digests = digests(&messages);
        let is_known = |(count, digest): &(usize, &String)| {
            let mut known = known.iter();
            known.any(|it| it.count == *count as u64 && it.digest == **digest)
        };
        let counted = (1..).zip(&digests);
        let earlier = counted
            .filter(is_known)
            .last()
            .map_or(0, |(count, _)| count);
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
        messages.drain(..earlier);
        if earlier > 0 {
            payload.insert(EARLIER.to_owned(), earlier.into());
        }
        payload.insert(MESSAGES.to_owned(), messages.into());
        Ok(())
    }

    pub(super) fn forget(&mut self, run: &str) {
        self.0.remove(run);
    }
}

/// Returns for each message a digest of it and all before it.
fn digests(messages: &[Value]) -> Vec<String> {
    let mut before = Sha256::new();
    let digest = |message: &Value| {
        let text = message.to_string();
        before.update(text.len().to_le_bytes());
        before.update(text);
        hex(&before.clone().finalize()[..16])
    };
    messages.iter().map(digest).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads how far the conversations of a run have gone.
async fn stored(history: &dyn History, run: &str) -> Result<Vec<Progress>> {
    let calls = LogFilter::new().event_type(MODEL_CALL);
    let request = PageRequest::first(PER_RUN as u64);
    let order = ListOrder::NewestFirst;
    let page = match history.page_logs(run, &calls, order, &request).await {
        Ok(page) => page,
        Err(Error::NotFound { .. }) => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let progress = |payload: &Value| {
        let new = payload.get(MESSAGES)?.as_array()?.len() as u64;
        let earlier = payload.get(EARLIER).and_then(Value::as_u64).unwrap_or(0);
        Some(Progress {
            count: earlier.saturating_add(new),
            digest: payload.get(DIGEST)?.as_str()?.to_owned(),
        })
    };
    let events = page.items.iter().rev();
    Ok(events
        .filter_map(|event| progress(&event.payload))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_digest_covers_all_messages_before_it() {
        let [a, b, c] = ["a", "b", "c"].map(|text| json!({"role": "user", "content": text}));
        let first = digests(&[a.clone(), b.clone()]);
        let second = digests(&[a, b.clone(), c.clone()]);
        assert_eq!(first[..], second[..2]);
        assert_ne!(digests(&[c, b])[1], first[1]);
    }
}
