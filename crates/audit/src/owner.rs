use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::new_run_id;

/// A process that owns runs, and sends heartbeats to show that it is alive.
///
/// An owner is *alive* until its lease has passed since its last heartbeat. When it is dead,
/// [`sweep_interrupted`](crate::Ownership::sweep_interrupted) ends its running runs.
///
/// ```
/// use std::time::Duration;
///
/// use runtrail_audit::Owner;
///
/// let owner = Owner::new("worker-3, process 4711");
/// assert_eq!(owner.lease, Duration::from_secs(30));
/// assert_eq!(owner.heartbeat_interval(), Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Owner {
    /// Unique in the history; 1 to 255 bytes. Use a new id for each process: two processes with the
    /// same id keep each other's runs alive.
    pub id: String,
    /// Describes the process to a person, such as its host and process id; at most 255 bytes, may
    /// be empty.
    pub label: String,
    /// How long the owner stays alive after a heartbeat, from 100 ms to a year, in whole
    /// microseconds; 30 s by default.
    pub lease: Duration,
}

impl Owner {
    const DEFAULT_LEASE: Duration = Duration::from_secs(30);

    /// Creates an owner with this label, a new unique id and a lease of 30 s.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            id: new_run_id(),
            label: label.into(),
            lease: Self::DEFAULT_LEASE,
        }
    }

    /// Sets [`id`](Self::id).
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets [`lease`](Self::lease).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Returns the time from one heartbeat to the next: a third of the lease, so that the owner
    /// stays alive if two heartbeats fail.
    pub fn heartbeat_interval(&self) -> Duration {
        self.lease / 3
    }
}

/// The result of a [heartbeat](crate::Ownership::heartbeat).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heartbeat {
    /// The owner was alive, or this was its first heartbeat.
    Renewed,
    /// The owner was dead, for example because the machine was suspended. A sweep may have ended
    /// its runs as interrupted; each can still be finished.
    Late {
        /// The time of the heartbeat before this one.
        last_seen_at: DateTime<Utc>,
    },
}

/// An owner as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerRecord {
    /// The owner as of its last heartbeat.
    pub owner: Owner,
    /// The time of its last heartbeat, by the database's clock on PostgreSQL and the machine's on
    /// SQLite.
    pub last_seen_at: DateTime<Utc>,
    /// Whether it was alive when it was read.
    pub is_alive: bool,
}

impl OwnerRecord {
    /// Creates a record.
    pub fn new(owner: Owner, last_seen_at: DateTime<Utc>, is_alive: bool) -> Self {
        Self {
            owner,
            last_seen_at,
            is_alive,
        }
    }
}
