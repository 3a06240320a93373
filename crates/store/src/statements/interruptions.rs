//! Ending the runs of dead owners.

use chrono::SecondsFormat;
use runtrail_audit::{Error, OwnerRecord, Result, RunStatus, rules};
use runtrail_db::{Connection, Executor, Plan, Planned, backend};
use runtrail_entity::{owner, skill_run};
use sea_orm::Order;
use sea_orm::sea_query::{
    CommonTableExpression, Expr, ExprTrait, LockBehavior, LockType, Query, SelectStatement,
    UnionType, WithClause, WithQuery,
};

use crate::codec::{self, Outcome};
use crate::settings::Session;
use crate::statements::owners;

/// The number of owners that one query reads.
const OWNERS: u64 = 100;

/// The number of an owner's runs that one statement ends, without their descendants: few enough not
/// to delay other writers to a SQLite file.
const RUNS: u64 = 100;

/// A dead owner is skipped once it has been swept this long after the end of its lease. Until then,
/// a run that it started may still reach the database.
const GRACE_MICROS: i64 = 10 * 60 * 1_000_000;

/// Ends the running runs of all dead owners. An owner whose runs are locked doesn't keep others
/// from being swept.
pub(crate) async fn sweep(db: &Session<'_, impl Connection>) -> Result<u64> {
    let (mut ended, mut failure) = (0, None);
    let mut after = String::new();
    loop {
        let db = &db.with_fresh_deadline();
        let dead = dead_owners(db, &after).await?;
        for record in &dead {
            after.clone_from(&record.owner.id);
            match end_runs(db, record).await {
                Ok(runs) => ended += runs,
                Err(err @ Error::Busy { .. }) => failure = Some(err),
                Err(err) => return Err(err),
            }
        }
        if (dead.len() as u64) < OWNERS {
            return failure.map_or(Ok(ended), Err);
        }
    }
}

/// Reads the next dead owners that may have running runs.
async fn dead_owners(db: &Session<'_, impl Connection>, after: &str) -> Result<Vec<OwnerRecord>> {
    use owner::{COLUMN, Column, Entity};

    let mut query = owners::select(db);
    query
        .and_where(COLUMN.swept_at.is_null())
        .and_where(COLUMN.id.gt(after))
        .and_where(owners::is_alive(db).not())
        .order_by((Entity, Column::Id), Order::Asc)
        .limit(OWNERS);
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    codec::decode_readable(rows, codec::decode_owner)
}

async fn end_runs(db: &Session<'_, impl Connection>, dead: &OwnerRecord) -> Result<u64> {
    let mut ended = 0;
    loop {
        let db = &db.with_fresh_deadline();
        match db.execute(&end_some_runs(db, dead)).await? {
            0 => break,
            runs => ended += runs,
        }
    }
    mark_swept(db, dead).await?;
    Ok(ended)
}

/// Ends some runs of a dead owner and their descendants: all of these, or none.
///
/// The statement checks again that no heartbeat has arrived. Runs of the owner that another
/// transaction has locked are skipped. For a locked descendant the statement fails: if it ended only
/// the ancestors, no later sweep would find the descendant.
fn end_some_runs(db: &Session<'_, impl Connection>, dead: &OwnerRecord) -> WithQuery {
    use skill_run::{COLUMN, Column, Entity};
    const OWNED: &str = "owned";
    const ENDED: &str = "ended";

    let mut owned = Query::select()
        .column((Entity, Column::Id))
        .from(db.runs())
        .and_where(COLUMN.owner_id.eq(dead.owner.id.as_str()))
        .and_where(COLUMN.finished_at.is_null())
        .and_where(Expr::exists(unchanged(db, dead)))
        .limit(RUNS)
        .take();
    if backend::has_row_locks(db.backend()) {
        // Compatible with the locks of events that are being appended.
        owned.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    }
    // Follows finished runs too: their children may still be running.
    let children = Query::select()
        .column((Entity, Column::Id))
        .from(db.runs())
        .inner_join(
            ENDED,
            Expr::col((ENDED, Column::Id)).equals((Entity, Column::ParentRunId)),
        )
        .and_where(has_living_owner(db).not())
        .take();
    let owned_and_descendants = Query::select()
        .column(Column::Id)
        .from(OWNED)
        .union(UnionType::Distinct, children)
        .take();
    let part = |name: &'static str, query: SelectStatement| {
        CommonTableExpression::new()
            .table_name(name)
            .column(Column::Id)
            .query(query)
            .to_owned()
    };
    let with = WithClause::new()
        .recursive(true)
        .cte(part(OWNED, owned))
        .cte(part(ENDED, owned_and_descendants))
        .to_owned();

    let last_seen_at = rules::micros(dead.last_seen_at);
    let started_at = || Expr::col((Entity, Column::StartedAt));
    let finished_at: Expr = Expr::case(started_at().gt(last_seen_at), started_at())
        .finally(Expr::val(last_seen_at))
        .into();
    let in_ended = Query::select().column(Column::Id).from(ENDED).take();
    let mut update = Query::update()
        .table(db.runs())
        .value(Column::Status, RunStatus::INTERRUPTED.as_str())
        .value(Column::Error, error_message(dead))
        .value(Column::FinishedAt, finished_at.clone())
        .value(
            Column::RuntimeSeconds,
            Outcome::runtime(Expr::val(None::<f64>), finished_at),
        )
        .and_where(Expr::col((Entity, Column::Id)).in_subquery(in_ended))
        .and_where(COLUMN.finished_at.is_null())
        .and_where(has_living_owner(db).not())
        .take();
    if let Some(lock_timeout) = backend::lock_timeout(db.backend()) {
        update.from(lock_timeout);
    }
    update.with(with)
}

/// Whether the run of the outer query belongs to a living owner.
fn has_living_owner(db: &Session<'_, impl Executor>) -> Expr {
    let owner_id = Expr::col((skill_run::Entity, skill_run::Column::OwnerId));
    owners::is_owner_alive(db, owner_id)
}

/// Selects the owner if it has had no heartbeat since it was read.
fn unchanged(db: &Session<'_, impl Executor>, dead: &OwnerRecord) -> SelectStatement {
    use owner::COLUMN;

    Query::select()
        .expr(Expr::val(1))
        .from(db.owners())
        .and_where(COLUMN.id.eq(dead.owner.id.as_str()))
        .and_where(COLUMN.last_seen_at.eq(rules::micros(dead.last_seen_at)))
        .take()
}

/// Why a run of this owner has ended.
fn error_message(dead: &OwnerRecord) -> String {
    let owner = &dead.owner;
    let name = match owner.label.as_str() {
        "" => owner.id.clone(),
        label => format!("{label} ({})", owner.id),
    };
    let last_seen_at = dead
        .last_seen_at
        .to_rfc3339_opts(SecondsFormat::AutoSi, true);
    format!(
        "interrupted: its owner {name} was last seen at {last_seen_at}, longer ago than its lease \
        of {:?}",
        owner.lease
    )
}

/// Keeps an owner without running runs out of further sweeps, until its next heartbeat.
async fn mark_swept(db: &Session<'_, impl Connection>, dead: &OwnerRecord) -> Result<()> {
    use owner::{COLUMN, Column};

    let running = Query::select()
        .expr(Expr::val(1))
        .from(db.runs())
        .and_where(skill_run::COLUMN.owner_id.eq(dead.owner.id.as_str()))
        .and_where(skill_run::COLUMN.finished_at.is_null())
        .take();
    let now = backend::now(db.backend());
    let mark = Query::update()
        .table(db.owners())
        .value(Column::SweptAt, now.clone())
        .and_where(COLUMN.id.eq(dead.owner.id.as_str()))
        .and_where(COLUMN.last_seen_at.eq(rules::micros(dead.last_seen_at)))
        .and_where(COLUMN.swept_at.is_null())
        .and_where(owners::lease_end().add(GRACE_MICROS).lt(now))
        .and_where(Expr::exists(running).not())
        .take();
    db.execute(&mark).await?;
    Ok(())
}
