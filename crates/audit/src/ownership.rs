use async_trait::async_trait;

use crate::{Heartbeat, Owner, OwnerRecord, Result, Storage};

/// Owners of runs: a sweep ends the runs whose process has died.
///
/// A run belongs to the [`Owner`] of the store that started it last;
/// [`owner_id`](crate::SkillRun::owner_id) holds that owner's id. An interrupted run stays with its
/// owner.
///
/// On PostgreSQL, the server's clock decides whether an owner is alive; the clocks of clients don't
/// matter. On SQLite, the machine's clock decides.
///
/// ```
/// use runtrail_audit::{Heartbeat, Ownership, Result};
///
/// async fn heartbeat_once(store: &impl Ownership) -> Result<()> {
///     if let Heartbeat::Late { last_seen_at } = store.heartbeat().await? {
///         eprintln!("runs may have been ended as interrupted since {last_seen_at}");
///     }
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait Ownership: Storage {
    /// Returns the owner of this store, if it has one.
    fn owner(&self) -> Option<&Owner>;

    /// Records that the owner of this store is alive, with one statement for all its runs. To stay
    /// alive, an owner needs a heartbeat at least once per lease: call this every
    /// [`heartbeat_interval`](Owner::heartbeat_interval), or use the `Recorder` of
    /// `runtrail-record`, which sends them.
    ///
    /// A store also does this before it starts a run, if a heartbeat is due.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) if the store has no owner, or one with an
    /// invalid id, label or lease.
    async fn heartbeat(&self) -> Result<Heartbeat>;

    /// Ends the running runs of all dead owners with the status
    /// [`INTERRUPTED`](crate::RunStatus::INTERRUPTED), and returns their number. Releases what they
    /// have [reserved](crate::Budgets::reserve), too.
    ///
    /// `finished_at` is the time when the owner was last seen, or the start of the run if that is
    /// later; the error message names the owner. The running descendants of such a run end with it,
    /// unless they belong to a living owner or descend from a run that does. A run without an
    /// owner, or with one that has never had a heartbeat, ends only as such a descendant.
    ///
    /// Any number of sweeps may run at the same time. If the owner was alive after all, its
    /// [`finish_run`](Storage::finish_run) replaces the status `interrupted` with the real outcome.
    /// Descendants without an owner can't be finished any more.
    ///
    /// If the future is dropped, the runs of some dead owners may remain for the next sweep. The
    /// returned number is too low if the reply to a statement was lost.
    ///
    /// # Errors
    ///
    /// [`Busy`](crate::Error::Busy) if another transaction has locked a descendant: then some runs
    /// of that owner remain for the next sweep, while those of the others have ended. (A locked run
    /// of the owner itself is skipped.) [`InvalidInput`](crate::Error::InvalidInput) on a
    /// connection of the caller (`AuditStore::on`).
    async fn sweep_interrupted(&self) -> Result<u64>;

    /// Returns an owner as of its last heartbeat; `None` if it has never had one, or was purged. A
    /// purge deletes the dead owners that were last seen before its cutoff and have neither a
    /// running run nor an open reservation.
    async fn find_owner(&self, owner_id: &str) -> Result<Option<OwnerRecord>>;
}

const _: fn(&dyn Ownership) = |_| {};
