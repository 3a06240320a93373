//! The last run of each skill.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use runtrail_audit::{Result, RunStatus, rules};
use runtrail_db::backend::{self, LIST};
use runtrail_db::{Connection, Plan, Planned};
use runtrail_entity::skill_run::{COLUMN, Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{IdenStatic, Order};

use crate::settings::Session;
use crate::{codec, error};

/// Needs one index lookup per skill; `GROUP BY` with a maximum would read all runs of each skill.
pub(crate) async fn by_skills(
    db: &Session<'_, impl Connection>,
    skill_ids: &[String],
    include_failed: bool,
) -> Result<HashMap<String, DateTime<Utc>>> {
    for skill_id in skill_ids {
        rules::identifier("skill_ids", skill_id)?;
    }
    if skill_ids.is_empty() {
        return Ok(HashMap::new());
    }

    let mut newest = Query::select();
    newest
        .column((Entity, Column::StartedAt))
        .from(db.runs())
        .and_where(Expr::col((Entity, Column::SkillId)).equals(LIST))
        // Otherwise a damaged row whose time isn't an integer could sort first.
        .and_where(codec::is_whole_number(Column::StartedAt))
        .and_where(
            COLUMN
                .started_at
                .lte(rules::micros(DateTime::<Utc>::MAX_UTC)),
        )
        .order_by((Entity, Column::StartedAt), Order::Desc)
        .limit(1);
    if !include_failed {
        let failed = RunStatus::FAILED.map(|status| status.to_string());
        newest.and_where(COLUMN.status.is_not_in(failed));
    }
    let mut query = backend::unfold(db.backend(), skill_ids)?;
    query.expr_as(
        Expr::SubQuery(None, Box::new(newest.into())),
        Column::StartedAt,
    );

    let mut last_runs = HashMap::new();
    for row in db.fetch(&Planned(query, Plan::Fixed)).await? {
        let skill_id: String = row.get(LIST.1).map_err(error::database)?;
        let started_at: Option<i64> = row
            .get(Column::StartedAt.as_str())
            .map_err(error::database)?;
        if let Some(at) = started_at.and_then(DateTime::from_timestamp_micros) {
            last_runs.insert(skill_id, at);
        }
    }
    Ok(last_runs)
}
