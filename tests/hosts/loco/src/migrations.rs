//! Checks that the application's migrations and Runtrail's go up and down together.

use anyhow::{Result, ensure};
use loco_rs::app::AppContext;
use loco_rs::boot::{RunDbCommand, StartMode, run_db};
use runtrail::{SkillRun, SkillRunLog, Storage};
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::app::{self, App};
use crate::history;
use crate::migrator::Migrator;

pub(crate) async fn check(url: &str) -> Result<()> {
    let ctx = app::boot(url, StartMode::ServerOnly).await?.app_context;
    let store = history::store(&ctx)?;
    store
        .start_run(&SkillRun::new("r", "answer", store.now()))
        .await?;
    store
        .append_log(&SkillRunLog::new("r", 0, "thought", json!({"words": 5})))
        .await?;
    execute(
        &ctx,
        "INSERT INTO tickets (run_id, question) VALUES ('r', 'How high is the tide?')",
    )
    .await?;

    // One step down reverts the application's migration and leaves the history.
    run_db::<App, Migrator>(&ctx, RunDbCommand::Down(1)).await?;
    ensure!(store.list_logs_by_run("r").await?.len() == 1);
    let refused = run_db::<App, Migrator>(&ctx, RunDbCommand::Down(16)).await;
    ensure!(refused.is_err_and(|err| err.to_string().contains("has rows")));
    run_db::<App, Migrator>(&ctx, RunDbCommand::Migrate).await?;
    store.get_run("r").await?;

    // All steps down work once the history has been deleted.
    execute(&ctx, "DELETE FROM tickets").await?;
    execute(&ctx, "DELETE FROM skill_run_logs").await?;
    execute(&ctx, "DELETE FROM skill_runs").await?;
    run_db::<App, Migrator>(&ctx, RunDbCommand::Down(17)).await?;
    ensure!(store.get_run("r").await.is_err());
    run_db::<App, Migrator>(&ctx, RunDbCommand::Migrate).await?;
    store.initialize().await?;
    Ok(())
}

async fn execute(ctx: &AppContext, sql: &str) -> Result<()> {
    ctx.db.execute_unprepared(sql).await?;
    Ok(())
}
