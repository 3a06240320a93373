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
pub(crate) const TRIES: usize = 100;

pub(crate) async fn add_all(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    labels: &BTreeMap<String, String>,
) -> Result<()> {
    rules::run_id("run_id", run_id)?;
    add(db, run_id, rules::labels(labels)?.as_deref()).await
}

/// Adds labels, which are the text of a JSON object.
pub(crate) async fn add(
    db: &Session<'_, impl Executor>,
    run_id: &str,
    added: Option<&str>,
) -> Result<()> {
    for _ in 0..TRIES {
        let stored = read(db, run_id).await?;
        let merged = codec::merge_labels(run_id, stored.as_deref(), added)?;
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
    let mut update = Query::update()
        .table(db.runs())
        .value(Column::Labels, merged)
        .and_where(COLUMN.id.eq(run_id))
        .and_where(match stored {
            Some(stored) => COLUMN.labels.eq(stored),
            None => COLUMN.labels.is_null(),
        })
        .take();
    if let Some(lock_timeout) = db.lock_timeout_table() {
        update.from(lock_timeout);
    }
    Planned(update, Plan::Fixed)
}

/// Replaces labels that were read with those of another history. Returns for each run whether it
/// had these labels.
pub(crate) async fn copy(
    db: &Session<'_, impl Executor>,
    rows: &[(Model, Option<String>)],
) -> Result<Vec<bool>> {
    let mut stored = Vec::with_capacity(rows.len());
    for (row, read) in rows {
        let update = replace(db, &row.id, read.clone(), row.labels.clone());
        stored.push(db.with_fresh_deadline().execute(&update).await? > 0);
    }
    Ok(stored)
}
