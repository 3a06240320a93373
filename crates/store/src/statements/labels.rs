//! Labels of stored runs.

use std::collections::BTreeMap;

use runtrail_audit::{Error, Result, rules};
use runtrail_db::{Executor, Plan, Planned};
use runtrail_entity::skill_run::{COLUMN, Column, Model};
use sea_orm::sea_query::{LockType, Query, UpdateStatement};

use crate::codec;
use crate::error;
use crate::settings::Session;

/// The number of attempts while other callers add labels to the same run. In each round, at least
/// one of them succeeds.
const TRIES: usize = 100;

pub(crate) async fn add(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    labels: &BTreeMap<String, String>,
) -> Result<()> {
    rules::run_id("run_id", run_id)?;
    let added = rules::labels(labels)?;
    for _ in 0..TRIES {
        let stored = read(db, run_id).await?;
        let merged = codec::merge_labels(run_id, stored.as_deref(), added.as_deref())?;
        if merged == stored || db.execute(&replace(db, run_id, stored, merged)).await? > 0 {
            return Ok(());
        }
    }
    Err(Error::Busy {
        source: "other callers are adding labels to the run at the same time".into(),
    })
}

/// Reads the labels of a run with the same lock as
/// [`confirmed_run`](crate::statements::runs::confirmed_run): if the labels are already stored, the
/// call returns `Ok`, and so confirms an earlier write.
async fn read(db: &Session<'_, impl Executor>, run_id: &str) -> Result<Option<String>> {
    let query = Query::select()
        .column(Column::Labels)
        .from(db.runs())
        .and_where(COLUMN.id.eq(run_id))
        .take();
    let mut query = db.with_lock_timeout(query);
    query.lock(LockType::KeyShare);
    let rows = db.fetch(&Planned(query, Plan::Fixed)).await?;
    match rows.into_iter().next() {
        Some(row) => row.get(0).map_err(error::database),
        None => Err(Error::not_found(run_id)),
    }
}

/// Replaces exactly the labels that were read.
fn replace(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    stored: Option<String>,
    merged: Option<String>,
) -> Planned<UpdateStatement> {
    let mut update = set(db, run_id, merged);
    update.and_where(match stored {
        Some(stored) => COLUMN.labels.eq(stored),
        None => COLUMN.labels.is_null(),
    });
    Planned(update, Plan::Fixed)
}

fn set(db: &Session<'_, impl Executor>, run_id: &str, labels: Option<String>) -> UpdateStatement {
    let mut update = Query::update()
        .table(db.runs())
        .value(Column::Labels, labels)
        .and_where(COLUMN.id.eq(run_id))
        .take();
    if let Some(lock_timeout) = db.lock_timeout_table() {
        update.from(lock_timeout);
    }
    update
}

/// Replaces the labels of stored runs. Returns for each run whether it is stored.
pub(crate) async fn copy(db: &Session<'_, impl Executor>, rows: &[Model]) -> Result<Vec<bool>> {
    let mut stored = Vec::with_capacity(rows.len());
    for row in rows {
        let update = Planned(set(db, &row.id, row.labels.clone()), Plan::Fixed);
        stored.push(db.with_fresh_deadline().execute(&update).await? > 0);
    }
    Ok(stored)
}
