//! Ending the runs of dead owners.

use chrono::SecondsFormat;
use runtrail_audit::{Error, OwnerRecord, Result, RunStatus, rules};
use runtrail_db::{Connection, Plan, Planned, Row, backend};
use runtrail_entity::{owner, skill_run};
use sea_orm::Order;
use sea_orm::sea_query::{
    CommonTableExpression, DynIden, Expr, ExprTrait, IntoIden, LockBehavior, LockType, Query,
    SelectStatement, UnionType, WithClause, WithQuery,
};

use crate::codec::{self, Outcome};
use crate::error;
use crate::settings::Session;
use crate::statements::{owners, reservations};

/// The number of owners that one query reads.
const OWNERS: u64 = 100;

/// The number of an owner's runs that one statement ends, without their descendants: few enough not
/// to delay other writers to a SQLite file.
const RUNS: u64 = 100;

/// The subquery that selects the owners of running runs.
const RUNNING: &str = "running";

/// The subquery of the owner's runs.
const OWNED: &str = "owned";

/// The subquery of those runs and their descendants.
const ENDED: &str = "ended";

/// The columns of [`OWNED`] and [`ENDED`].
const ENDED_COLUMNS: [skill_run::Column; 2] = [skill_run::Column::Id, skill_run::Column::OwnerId];

/// Releases the reservations of all dead owners, and ends their running runs. A locked descendant
/// makes the sweep fail with `Busy`, but only after it has swept the other owners.
pub(crate) async fn sweep(db: &Session<'_, impl Connection>) -> Result<u64> {
    if db.connection().pool().is_none() {
        // In a snapshot that is older than the lease, every owner would seem dead.
        let reason = "is a caller's connection: sweep through a store with its own pool";
        return Err(Error::invalid("connection", reason));
    }
    reservations::release_of_dead(db).await?;
    let (mut ended, mut failure) = (0, None);
    let mut after = String::new();
    loop {
        let db = &db.with_fresh_deadline();
        let rows = dead_owners(db, &after).await?;
        let is_last = (rows.len() as u64) < OWNERS;
        if let Some(last) = rows.last() {
            after = last.get(0).map_err(error::database)?;
        }
        for dead in codec::decode_readable(rows, codec::decode_owner)? {
            match end_runs(db, &dead).await {
                Ok(runs) => ended += runs,
                Err(err @ Error::Busy { .. }) => failure = Some(err),
                Err(err) => return Err(err),
            }
        }
        if is_last {
            return failure.map_or(Ok(ended), Err);
        }
    }
}

/// Reads the next dead owners that have running runs, damaged rows included.
async fn dead_owners(db: &Session<'_, impl Connection>, after: &str) -> Result<Vec<Row>> {
    use owner::{COLUMN, Column, Entity};

    let with_running_runs = Query::select()
        .column(Column::Id)
        .from(RUNNING)
        .and_where(Expr::col(Column::Id).is_not_null())
        .take();
    let query = owners::select(db)
        .and_where(COLUMN.id.in_subquery(with_running_runs))
        .and_where(owners::is_alive(db).not())
        .order_by((Entity, Column::Id), Order::Asc)
        .limit(OWNERS)
        .take()
        .with(
            WithClause::new()
                .recursive(true)
                .cte(named(
                    RUNNING,
                    [Column::Id],
                    owners_of_running_runs(db, after),
                ))
                .to_owned(),
        );
    db.fetch(&Planned(query, Plan::Fixed)).await
}

/// Selects the owners of running runs, with one search of an index for each owner: the next greater
/// id, until there is none. An owner may have thousands of running runs.
fn owners_of_running_runs(db: &Session<'_, impl Connection>, after: &str) -> SelectStatement {
    use skill_run::{COLUMN, Column, Entity};

    let next = |after: Expr| {
        Expr::from(
            Query::select()
                .column((Entity, Column::OwnerId))
                .from(db.runs())
                .and_where(COLUMN.owner_id.is_not_null())
                .and_where(COLUMN.finished_at.is_null())
                .and_where(Expr::col((Entity, Column::OwnerId)).gt(after))
                .order_by((Entity, Column::OwnerId), Order::Asc)
                .limit(1)
                .take(),
        )
    };
    let last = Expr::col((RUNNING, owner::Column::Id));
    let following = Query::select()
        .expr(next(last.clone()))
        .from(RUNNING)
        .and_where(last.is_not_null())
        .take();
    Query::select()
        .expr(next(Expr::val(after)))
        .union(UnionType::All, following)
        .take()
}

async fn end_runs(db: &Session<'_, impl Connection>, dead: &OwnerRecord) -> Result<u64> {
    let mut ended = 0;
    loop {
        let statement = Planned(end_some_runs(db, dead), Plan::Fixed);
        let runs = db.with_fresh_deadline().execute(&statement).await?;
        ended += runs;
        if runs < RUNS {
            return Ok(ended);
        }
    }
}

/// Ends some runs of a dead owner and their descendants: all of these, or none.
///
/// The statement checks again that no heartbeat has arrived, and that no run has been started again
/// by another owner. Runs of the owner that another transaction has locked are skipped. For a locked
/// descendant the statement fails: if it ended only the ancestors, no later sweep would find the
/// descendant.
fn end_some_runs(db: &Session<'_, impl Connection>, dead: &OwnerRecord) -> WithQuery {
    use skill_run::{COLUMN, Column, Entity};

    let in_runs = |column| Expr::col((Entity, column));
    let run_and_owner = |table: DynIden| {
        // Stands for NULL: no owner has an empty id.
        let owner_id = Expr::col((table.clone(), Column::OwnerId));
        let no_owner = Expr::Constant("".into());
        [Expr::col((table, Column::Id)), owner_id.if_null(no_owner)]
    };
    let ended = Query::select()
        .exprs(run_and_owner(ENDED.into_iden()))
        .from(ENDED)
        .take();
    let is_ended = Expr::tuple(run_and_owner(Entity.into_iden())).in_subquery(ended);
    let is_of_dead = || COLUMN.owner_id.eq(dead.owner.id.as_str());
    let last_seen_at = rules::micros(dead.last_seen_at);
    let finished_at: Expr = Expr::case(
        in_runs(Column::StartedAt).gt(last_seen_at),
        in_runs(Column::StartedAt),
    )
    .finally(Expr::val(last_seen_at))
    .into();
    let [own_message, descendant_message] = messages(dead);
    let message = Expr::case(is_of_dead(), own_message).finally(descendant_message);
    let mut update = Query::update()
        .table(db.runs())
        .value(Column::Status, RunStatus::INTERRUPTED.as_str())
        .value(Column::Error, message)
        .value(Column::FinishedAt, finished_at.clone())
        .value(
            Column::RuntimeSeconds,
            Outcome::runtime(Expr::val(None::<f64>), finished_at),
        )
        .and_where(is_ended)
        .and_where(COLUMN.finished_at.is_null())
        // Another dead owner was last seen at another time, so its runs end in its own turn.
        .and_where(is_of_dead().or(Expr::exists(owners::owner_of_run(db)).not()))
        .take();
    if let Some(lock_timeout) = backend::lock_timeout(db.backend()) {
        update.from(lock_timeout);
    }
    update.with(
        WithClause::new()
            .recursive(true)
            .cte(named(OWNED, ENDED_COLUMNS, some_owned_runs(db, dead)))
            .cte(named(ENDED, ENDED_COLUMNS, owned_runs_and_descendants(db)))
            .to_owned(),
    )
}

fn named<const N: usize>(
    name: &'static str,
    columns: [impl IntoIden; N],
    query: SelectStatement,
) -> CommonTableExpression {
    CommonTableExpression::new()
        .table_name(name)
        .columns(columns)
        .query(query)
        .to_owned()
}

/// Selects some running runs of an owner, if it has had no heartbeat since it was read.
fn some_owned_runs(db: &Session<'_, impl Connection>, dead: &OwnerRecord) -> SelectStatement {
    use skill_run::{COLUMN, Entity};

    let unchanged = Query::select()
        .expr(Expr::Constant(1.into()))
        .from(db.owners())
        .and_where(owner::COLUMN.id.eq(dead.owner.id.as_str()))
        .and_where(
            owner::COLUMN
                .last_seen_at
                .eq(rules::micros(dead.last_seen_at)),
        )
        .take();
    let mut owned = Query::select()
        .columns(ENDED_COLUMNS.map(|column| (Entity, column)))
        .from(db.runs())
        .and_where(COLUMN.owner_id.eq(dead.owner.id.as_str()))
        .and_where(COLUMN.finished_at.is_null())
        .and_where(Expr::exists(unchanged))
        .limit(RUNS)
        .take();
    if backend::has_row_locks(db.backend()) {
        // Doesn't conflict with the foreign-key locks that inserts of events take.
        owned.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked);
    }
    owned
}

/// Adds the descendants, except the runs of living owners and everything below them. Finished runs
/// are included, since their children may still be running.
fn owned_runs_and_descendants(db: &Session<'_, impl Connection>) -> SelectStatement {
    use skill_run::{Column, Entity};

    let is_child = Expr::col((ENDED, Column::Id)).equals((Entity, Column::ParentRunId));
    let children = Query::select()
        .columns(ENDED_COLUMNS.map(|column| (Entity, column)))
        .from(db.runs())
        .inner_join(ENDED, backend::selective(db.backend(), is_child))
        .and_where(owners::has_living_owner(db).not())
        .take();
    Query::select()
        .columns(ENDED_COLUMNS)
        .from(OWNED)
        .union(UnionType::Distinct, children)
        .take()
}

/// Why a run of this owner has ended, and why a descendant of such a run has.
fn messages(dead: &OwnerRecord) -> [String; 2] {
    let OwnerRecord {
        owner,
        last_seen_at,
        ..
    } = dead;
    let name = match owner.label.as_str() {
        "" => owner.id.clone(),
        label => format!("{label} ({})", owner.id),
    };
    let last_seen_at = last_seen_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let seen = format!(
        "was last seen at {last_seen_at}, and its lease of {:?} has expired",
        owner.lease
    );
    [
        format!("interrupted: its owner {name} {seen}"),
        format!("interrupted: the owner of an ancestor, {name}, {seen}"),
    ]
}
