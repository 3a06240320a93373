use std::hash::Hasher;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use fnv::FnvHasher;
use runtrail_audit::{
    Bounds, Choice, Cursor, Error, LabelFilter, ListOrder, LogFilter, Parent, Result, RunQuery,
    RunStatus,
};
use sea_orm::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error;

/// A decoded cursor.
pub(crate) struct Bookmark {
    /// Whether the page lies before the key instead of after it.
    pub(crate) is_backward: bool,
    /// The key of a row; the page doesn't include that row.
    pub(crate) key: Vec<Value>,
}

/// Identifies the list that a cursor belongs to.
#[derive(Clone, Copy)]
pub(crate) struct ListId(u64);

impl ListId {
    /// The list of the runs that match a query.
    pub(crate) fn of_runs(query: &RunQuery, order: ListOrder) -> Result<Self> {
        let query = query.clone().sorted();
        Self::of(&("runs", QueryKey::of(&query), order))
    }

    /// The list of the events of a run that match a filter.
    pub(crate) fn of_logs(run_id: &str, filter: &LogFilter, order: ListOrder) -> Result<Self> {
        Self::of(&("logs", run_id, LogFilterKey::of(filter), order))
    }

    /// The stream of the events of a run, or of its tree, that match a filter.
    pub(crate) fn of_watched_logs(
        stream: &'static str,
        run_id: &str,
        filter: &LogFilter,
    ) -> Result<Self> {
        Self::of(&(stream, run_id, LogFilterKey::of(filter)))
    }

    /// The stream of the runs that match a query.
    pub(crate) fn of_watched_runs(query: &RunQuery) -> Result<Self> {
        Self::of(&("watch_runs", QueryKey::of(&query.clone().sorted())))
    }

    /// Hashes with FNV, which has the same result in every build.
    fn of(list: &impl Serialize) -> Result<Self> {
        let mut hasher = FnvHasher::default();
        hasher.write(&serde_json::to_vec(list).map_err(error::json)?);
        Ok(Self(hasher.finish()))
    }
}

/// The input of a list's hash. If a query gets a new part, omit that part here while it is unset;
/// otherwise all cursors that clients have stored become invalid.
#[derive(Serialize)]
struct QueryKey<'a> {
    statuses: ChoiceKey<'a, RunStatus>,
    skills: ChoiceKey<'a, String>,
    callers: ChoiceKey<'a, String>,
    channels: ChoiceKey<'a, String>,
    parent: &'a Parent,
    started: Bounds<DateTime<Utc>>,
    finished: Bounds<DateTime<Utc>>,
    runtime_seconds: Bounds<f64>,
    total_tokens: Bounds<u64>,
    id_prefix: &'a str,
    include_dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_since: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [LabelFilter],
}

/// Treats an absent list like an empty one. This is unambiguous: a query with an empty list matches
/// nothing, so it never returns a cursor.
#[derive(Serialize)]
struct ChoiceKey<'a, T> {
    only: &'a [T],
    except: &'a [T],
}

#[derive(Serialize)]
struct LogFilterKey<'a> {
    event_type: Option<&'a str>,
    after: Option<u64>,
}

impl<'a> LogFilterKey<'a> {
    fn of(filter: &'a LogFilter) -> Self {
        Self {
            event_type: filter.event_type.as_deref(),
            after: filter.after,
        }
    }
}

impl<'a> QueryKey<'a> {
    fn of(query: &'a RunQuery) -> Self {
        Self {
            statuses: ChoiceKey::of(&query.statuses),
            skills: ChoiceKey::of(&query.skills),
            callers: ChoiceKey::of(&query.callers),
            channels: ChoiceKey::of(&query.channels),
            parent: &query.parent,
            started: query.started,
            finished: query.finished,
            runtime_seconds: query.runtime_seconds,
            total_tokens: query.total_tokens,
            id_prefix: &query.id_prefix,
            include_dry_run: query.include_dry_run,
            stale_since: query.stale_since,
            labels: &query.labels,
        }
    }
}

impl<'a, T> ChoiceKey<'a, T> {
    fn of(choice: &'a Choice<T>) -> Self {
        Self {
            only: choice.only.as_deref().unwrap_or_default(),
            except: &choice.except,
        }
    }
}

/// The JSON inside a cursor. Clients store cursors, so any change of the format needs a new
/// version.
#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(rename = "v")]
    version: u8,
    #[serde(rename = "l")]
    list: u64,
    #[serde(rename = "b")]
    is_backward: bool,
    #[serde(rename = "k")]
    key: Vec<Part>,
}

const VERSION: u8 = 1;

/// A value of a key. In a damaged row, its type may differ from the column's.
#[derive(Serialize, Deserialize)]
enum Part {
    #[serde(rename = "i")]
    Integer(i64),
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "f")]
    FloatBits(u64),
    #[serde(rename = "x")]
    Bytes(Vec<u8>),
}

pub(crate) fn encode_cursor(list: ListId, bookmark: Bookmark) -> Result<Cursor> {
    let token = Token {
        version: VERSION,
        list: list.0,
        is_backward: bookmark.is_backward,
        key: bookmark.key.into_iter().filter_map(part).collect(),
    };
    encode(&token)
}

fn encode(token: &impl Serialize) -> Result<Cursor> {
    let json = serde_json::to_vec(token).map_err(error::json)?;
    Ok(URL_SAFE_NO_PAD.encode(json).into())
}

fn decode<T: DeserializeOwned>(cursor: &Cursor) -> Result<T> {
    let token = URL_SAFE_NO_PAD.decode(cursor.as_str()).ok();
    let token = token.and_then(|json| serde_json::from_slice(&json).ok());
    token.ok_or_else(|| invalid("is malformed: pass one that a page or a stream returned"))
}

fn check(version: u8, is_same_list: bool) -> Result<()> {
    match (version, is_same_list) {
        (VERSION, true) => Ok(()),
        (VERSION, false) => Err(invalid("belongs to another filter, order or list")),
        _ => Err(invalid("was created by another version of Runtrail")),
    }
}

fn invalid(reason: &'static str) -> Error {
    Error::invalid("cursor", reason)
}

/// The JSON inside a cursor of a stream.
#[derive(Serialize, Deserialize)]
struct StreamToken<T> {
    #[serde(rename = "v")]
    version: u8,
    #[serde(rename = "l")]
    list: u64,
    #[serde(rename = "p")]
    position: T,
}

/// Encodes a position in a stream.
pub(crate) fn encode_position(list: ListId, position: &impl Serialize) -> Result<Cursor> {
    encode(&StreamToken {
        version: VERSION,
        list: list.0,
        position,
    })
}

/// Decodes a position in a stream. A client may have changed it.
pub(crate) fn decode_position<T: DeserializeOwned>(list: ListId, cursor: &Cursor) -> Result<T> {
    let token: StreamToken<serde_json::Value> = decode(cursor)?;
    check(token.version, token.list == list.0)?;
    serde_json::from_value(token.position).map_err(|_| invalid("is malformed"))
}

pub(crate) fn decode_cursor(list: ListId, cursor: &Cursor, key_length: usize) -> Result<Bookmark> {
    let token: Token = decode(cursor)?;
    check(
        token.version,
        token.list == list.0 && token.key.len() == key_length,
    )?;
    Ok(Bookmark {
        is_backward: token.is_backward,
        key: token.key.into_iter().map(value).collect(),
    })
}

fn part(value: Value) -> Option<Part> {
    match value {
        Value::BigInt(integer) => integer.map(Part::Integer),
        Value::String(text) => text.map(Part::Text),
        Value::Double(float) => float.map(|float| Part::FloatBits(float.to_bits())),
        Value::Bytes(bytes) => bytes.map(Part::Bytes),
        _ => None,
    }
}

fn value(part: Part) -> Value {
    match part {
        Part::Integer(integer) => integer.into(),
        Part::Text(text) => text.into(),
        Part::FloatBits(bits) => f64::from_bits(bits).into(),
        Part::Bytes(bytes) => bytes.into(),
    }
}
