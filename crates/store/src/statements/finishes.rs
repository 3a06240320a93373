//! Finishing runs.

use runtrail_audit::{Error, Result, RunStats, RunStatus, rules};
use runtrail_db::{Executor, backend};
use runtrail_entity::skill_run::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, Query, UpdateStatement};
use sea_orm::{EntityTrait, QueryFilter, QueryTrait};
use serde::Serialize;

use crate::codec::Outcome;
use crate::settings::{Session, Settings};
use crate::statements::runs::{confirmed_run, confirmed_runs, fits_batch, unfolded_value};

/// The outcome of a run and its finish time.
#[derive(Debug, Serialize)]
pub(crate) struct Finish {
    #[serde(rename = "id")]
    pub(crate) run_id: String,
    finished_at: i64,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    #[serde(skip)]
    source: FinishSource,
}

/// Who reports a finish, which decides whether it replaces an interruption.
#[derive(Debug)]
enum FinishSource {
    /// A caller without an owner.
    Caller,
    /// An owner: it replaces the interruption of its own runs.
    Owner(String),
    /// A copy: the outcome in the source is authoritative.
    Copy,
}

impl Finish {
    /// Encodes the finish of a run, by default at the current time.
    pub(crate) fn encode(run_id: &str, stats: &RunStats, settings: &Settings) -> Result<Self> {
        Ok(Self {
            run_id: rules::run_id("run_id", run_id)?.to_owned(),
            finished_at: rules::micros(stats.finished_at.unwrap_or_else(|| settings.clock.now())),
            outcome: Outcome::encode_finished(stats, &settings.limits)?,
            source: match settings.owner_id() {
                Some(owner_id) => FinishSource::Owner(owner_id.to_owned()),
                None => FinishSource::Caller,
            },
        })
    }

    /// `None` while the run is running.
    fn of_row(row: &Model) -> Option<Self> {
        Some(Self {
            run_id: row.id.clone(),
            finished_at: row.finished_at?,
            outcome: Outcome::of_row(row),
            source: FinishSource::Copy,
        })
    }

    /// Whether the stored run was interrupted, and this is its real outcome.
    fn replaces(&self, stored: &Model) -> bool {
        const INTERRUPTED: RunStatus = RunStatus::INTERRUPTED;

        let may_replace = match &self.source {
            FinishSource::Caller => false,
            FinishSource::Owner(id) => {
                stored.owner_id.as_ref() == Some(id) && self.outcome.status != INTERRUPTED.as_str()
            }
            FinishSource::Copy => true,
        };
        may_replace && stored.finished_at.is_some() && stored.status == INTERRUPTED.as_str()
    }
}

pub(crate) async fn finish_one(db: &Session<'_, impl Executor>, finish: &Finish) -> Result<()> {
    let Finish {
        run_id,
        finished_at,
        outcome,
        source: _,
    } = finish;
    let values = [
        (*finished_at).into(),
        outcome.status.as_str().into(),
        outcome.tool_calls.into(),
        outcome.total_input_tokens.into(),
        outcome.total_output_tokens.into(),
        outcome.total_thinking_tokens.into(),
        outcome.output.as_str().into(),
        outcome.error.as_str().into(),
        outcome.runtime_seconds.into(),
        (*finished_at).into(),
        (*finished_at).into(),
        run_id.as_str().into(),
    ];
    let update = db.shaped(&db.tables.finish, values, || Ok(update_one(db, finish)))?;
    if db.execute(&update).await? > 0 {
        return Ok(());
    }

    let mut stored = confirmed_run(db, run_id).await?;
    if let Some(interrupted) = stored.as_ref().filter(|stored| finish.replaces(stored)) {
        let replacement = replace_interruption(db, finish, interrupted);
        if db.execute(&replacement).await? > 0 {
            return Ok(());
        }
        // Another call has replaced it.
        stored = confirmed_run(db, run_id).await?;
    }
    match stored {
        Some(stored) if stored.finished_at.is_none() => {
            // The run was started after the update, which therefore didn't find it.
            Err(Error::not_found(run_id))
        }
        Some(stored) if outcome.is_outcome_of(&stored) => Ok(()),
        Some(_) => Err(Error::RunFinished {
            run_id: run_id.clone(),
        }),
        None => Err(Error::not_found(run_id)),
    }
}

fn update_one(db: &Session<'_, impl Executor>, finish: &Finish) -> UpdateStatement {
    let mut update = update_run(db, finish);
    update.and_where(COLUMN.finished_at.is_null());
    update
}

/// Replaces an interruption with the real outcome, unless another call has already done so.
fn replace_interruption(
    db: &Session<'_, impl Executor>,
    finish: &Finish,
    interrupted: &Model,
) -> UpdateStatement {
    let mut update = update_run(db, finish);
    update
        .and_where(COLUMN.finished_at.eq(interrupted.finished_at))
        .and_where(COLUMN.status.eq(interrupted.status.as_str()));
    update
}

fn update_run(db: &Session<'_, impl Executor>, finish: &Finish) -> UpdateStatement {
    let Finish {
        run_id,
        finished_at,
        outcome,
        source: _,
    } = finish;
    let runtime = Outcome::runtime(Expr::val(outcome.runtime_seconds), Expr::val(*finished_at));
    let mut update = Entity::update_many()
        .set(outcome.finished_columns(*finished_at))
        .col_expr(Column::RuntimeSeconds, runtime)
        .filter(COLUMN.id.eq(run_id))
        .into_query();
    update.table(db.runs());
    if let Some(lock_timeout) = db.lock_timeout_table() {
        update.from(lock_timeout);
    }
    update
}

/// Finishes runs with distinct ids, except those that are already finished.
pub(crate) fn update_many(
    db: &Session<'_, impl Executor>,
    finishes: &[&Finish],
) -> Result<UpdateStatement> {
    let mut update = Query::update()
        .table(db.runs())
        .values(Outcome::COLUMNS.map(|column| (column, new_value(db, column))))
        .from(backend::unfold_rows(db.backend(), finishes)?)
        .and_where(Expr::col((Entity, Column::Id)).eq(unfolded_value(db, Column::Id)))
        .and_where(COLUMN.finished_at.is_null())
        .take();
    if let Some(lock_timeout) = db.lock_timeout_table() {
        update.from(lock_timeout);
    }
    Ok(update)
}

/// Returns for each finish in a statement of [`update_many`] that has not finished all runs whether
/// it is certainly stored.
pub(crate) async fn confirm_many(
    db: &Session<'_, impl Executor>,
    finishes: &[&Finish],
) -> Result<Vec<bool>> {
    let stored = confirmed_runs(db, finishes.iter().map(|finish| &finish.run_id)).await?;
    let is_stored = |finish: &&Finish| {
        let stored = stored.get(&finish.run_id);
        let finished = stored.filter(|stored| stored.finished_at.is_some());
        finished.is_some_and(|stored| finish.outcome.is_outcome_of(stored))
    };
    Ok(finishes.iter().map(is_stored).collect())
}

/// Finishes runs with the outcomes and times of another history. Returns for each finished run
/// whether this finish is stored.
pub(crate) async fn finish_copied(
    db: &Session<'_, impl Executor>,
    rows: &[Model],
) -> Result<Vec<bool>> {
    let finishes: Vec<_> = rows.iter().filter_map(Finish::of_row).collect();
    let mut stored = vec![false; finishes.len()];
    if rows.iter().all(fits_batch) {
        let finishes: Vec<_> = finishes.iter().collect();
        let updated = db.execute(&update_many(db, &finishes)?).await?;
        stored = match updated == finishes.len() as u64 {
            true => vec![true; finishes.len()],
            false => confirm_many(db, &finishes).await?,
        };
    }
    for (is_stored, finish) in stored.iter_mut().zip(&finishes) {
        if *is_stored {
            continue;
        }
        *is_stored = match finish_one(db, finish).await {
            Ok(()) => true,
            Err(Error::RunFinished { .. } | Error::NotFound { .. }) => false,
            Err(err) => return Err(err),
        };
    }
    Ok(stored)
}

/// The new value of this column, from an unfolded row.
fn new_value(db: &Session<'_, impl Executor>, column: Column) -> Expr {
    match column {
        Column::RuntimeSeconds => Outcome::runtime(
            unfolded_value(db, column),
            unfolded_value(db, Column::FinishedAt),
        ),
        column => unfolded_value(db, column),
    }
}
