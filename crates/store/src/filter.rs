//! A filter as a condition: the one place that knows what its parts mean in SQL.

use runtrail_audit::{Result, RunFilter, RunStatus, rules};
use runtrail_entity::skill_run::COLUMN;
use sea_orm::Condition;

pub(crate) fn condition(filter: &RunFilter) -> Result<Condition> {
    let RunFilter {
        status,
        skill_id,
        caller_id,
        channel_id,
        top_level_only,
        since,
        until,
        include_dry_run,
    } = filter;

    let mut all = Condition::all();
    if let Some(status) = status {
        let status = rules::identifier("status", status.as_str())?;
        all = all.add(COLUMN.status.eq(status));
    }
    if let Some(skill_id) = skill_id {
        all = all.add(COLUMN.skill_id.eq(rules::identifier("skill_id", skill_id)?));
    }
    if let Some(caller_id) = caller_id {
        all = all.add(
            COLUMN
                .caller_id
                .eq(rules::identifier("caller_id", caller_id)?),
        );
    }
    if let Some(channel_id) = channel_id {
        all = all.add(
            COLUMN
                .channel_id
                .eq(rules::identifier("channel_id", channel_id)?),
        );
    }
    if *top_level_only {
        all = all.add(COLUMN.parent_run_id.is_null());
    }
    if let Some(since) = since {
        all = all.add(COLUMN.started_at.gte(rules::micros(*since)));
    }
    if let Some(until) = until {
        all = all.add(COLUMN.started_at.lte(rules::micros(*until)));
    }
    if !include_dry_run {
        all = all.add(COLUMN.status.ne(RunStatus::DRY_RUN.as_str()));
    }
    Ok(all)
}
