use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{Result, Storage};

/// Records of telemetry that have been received, but don't belong to a run yet.
///
/// A receiver of spans gets children before their parents. It stages each record before it
/// acknowledges it, and settles it once the record is stored as a run or as an event. Until then,
/// the record survives the receiver.
///
/// A record belongs to a group, such as a trace, and has an id within it.
///
/// ```
/// use chrono::Utc;
/// use runtrail_audit::{Result, StagedRecord, Staging};
/// use serde_json::json;
///
/// async fn receive(store: &impl Staging) -> Result<()> {
///     let content = json!({"name": "GET"});
///     let span = StagedRecord::new("trace-1", "span-2", "span", Utc::now(), content);
///     store.stage(&[span.parent("span-1")]).await?;
///     // Later, once the span's run is known:
///     store.settle("trace-1", &[("span-2".to_owned(), "run-7".to_owned())]).await
/// }
/// ```
#[async_trait]
pub trait Staging: Storage {
    /// Stores records, except those whose group and id are already staged or settled.
    ///
    /// If the call fails or the future is dropped, some records may be stored. It can be repeated.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for a record with an empty group or id, an
    /// identifier of more than 255 bytes or with a NUL, or content that is missing, nested too
    /// deeply, or contains a number out of range; [`TooLarge`](crate::Error::TooLarge) for content
    /// of more than 16 MiB. Then no record is stored.
    async fn stage(&self, records: &[StagedRecord]) -> Result<()>;

    /// Returns groups with waiting records, in the order of their names, after the group `after`;
    /// at most `limit`.
    async fn waiting_groups(&self, after: &str, limit: u64) -> Result<Vec<WaitingGroup>>;

    /// Returns the waiting records of a group without their content, in the order of their receipt
    /// and then of their ids; at most `limit`.
    async fn waiting_records(&self, group_id: &str, limit: u64) -> Result<Vec<StagedRecord>>;

    /// Returns records of a group, in the order of their ids: waiting ones with their content, and
    /// settled ones with their run. Unknown ids are left out.
    async fn find_staged(&self, group_id: &str, ids: &[String]) -> Result<Vec<StagedRecord>>;

    /// Marks records of a group as stored, each given by its id and the id of its run, and deletes
    /// their content. An empty run id marks a record that belongs to no run. Unknown records, and
    /// those that are already settled, don't change.
    async fn settle(&self, group_id: &str, records: &[(String, String)]) -> Result<()>;

    /// Deletes the settled records received before `cutoff`, and returns their number. A record
    /// that arrives again after that is staged again.
    async fn forget_settled(&self, cutoff: DateTime<Utc>) -> Result<u64>;
}

const _: fn(&dyn Staging) = |_| {};

/// A record in [`Staging`], which waits for its run or is settled.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StagedRecord {
    /// The group of the record, such as a trace id; 1 to 255 bytes.
    pub group_id: String,
    /// Its id within the group; 1 to 255 bytes.
    pub id: String,
    /// The id of the record above it, if any.
    pub parent_id: Option<String>,
    /// What it is, in the words of the receiver; at most 255 bytes.
    pub kind: String,
    /// When it began, in whole microseconds.
    pub started_at: DateTime<Utc>,
    /// When it was received. The store sets it when it stages the record.
    pub received_at: Option<DateTime<Utc>>,
    /// The run in which it is stored, if it is settled; an empty text if it is in none.
    pub run_id: Option<String>,
    /// What was received, nested at most 64 levels deep; `None` if it is settled.
    pub content: Option<Value>,
}

impl StagedRecord {
    /// Creates a record without a parent.
    pub fn new(
        group_id: impl Into<String>,
        id: impl Into<String>,
        kind: impl Into<String>,
        started_at: DateTime<Utc>,
        content: Value,
    ) -> Self {
        Self {
            group_id: group_id.into(),
            id: id.into(),
            parent_id: None,
            kind: kind.into(),
            started_at,
            received_at: None,
            run_id: None,
            content: Some(content),
        }
    }

    /// Sets the record above it.
    #[must_use]
    pub fn parent(mut self, id: impl Into<String>) -> Self {
        self.parent_id = Some(id.into());
        self
    }
}

/// A group that has waiting records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitingGroup {
    /// Its name.
    pub group_id: String,
    /// When the first of its waiting records was received.
    pub first_received_at: DateTime<Utc>,
    /// When the last of them was received.
    pub last_received_at: DateTime<Utc>,
}

impl WaitingGroup {
    /// Describes a group.
    pub fn new(
        group_id: impl Into<String>,
        first_received_at: DateTime<Utc>,
        last_received_at: DateTime<Utc>,
    ) -> Self {
        Self {
            group_id: group_id.into(),
            first_received_at,
            last_received_at,
        }
    }
}
