//! A Loco application that composes its migrations with Runtrail's. It migrates up, writes, and
//! migrates down.

mod migrator;

use std::env;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use loco_rs::app::{AppContext, Hooks};
use loco_rs::bgworker::Queue;
use loco_rs::boot::{BootResult, RunDbCommand, StartMode, create_app, run_db};
use loco_rs::config::Config;
use loco_rs::controller::AppRoutes;
use loco_rs::environment::Environment;
use loco_rs::task::Tasks;
use runtrail::{AuditStore, SkillRun, SkillRunLog, Storage};
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::migrator::Migrator;

struct App;

#[async_trait]
impl Hooks for App {
    fn app_name() -> &'static str {
        "runtrail-host-loco"
    }

    async fn boot(
        mode: StartMode,
        environment: &Environment,
        config: Config,
    ) -> loco_rs::Result<BootResult> {
        create_app::<Self, Migrator>(mode, environment, config).await
    }

    fn routes(_ctx: &AppContext) -> AppRoutes {
        AppRoutes::with_default_routes()
    }

    async fn connect_workers(_ctx: &AppContext, _queue: &Queue) -> loco_rs::Result<()> {
        Ok(())
    }

    fn register_tasks(_tasks: &mut Tasks) {}

    async fn truncate(_ctx: &AppContext) -> loco_rs::Result<()> {
        Ok(())
    }

    async fn seed(_ctx: &AppContext, _path: &Path) -> loco_rs::Result<()> {
        Ok(())
    }
}

/// The `config/development.yaml` of a new Loco application.
fn config(url: &str) -> Result<Config> {
    let config = json!({
        "logger": {"enable": false, "level": "off", "format": "compact"},
        "server": {
            "binding": "localhost", "port": 0, "host": "http://localhost", "middlewares": {},
        },
        "database": {
            "uri": url, "enable_logging": false, "min_connections": 1, "max_connections": 1,
            "connect_timeout": 5_000, "idle_timeout": 5_000, "auto_migrate": true,
        },
        "workers": {"mode": "ForegroundBlocking"},
    });
    Ok(serde_json::from_value(config)?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let booted = App::boot(StartMode::ServerOnly, &Environment::Test, config(&url)?).await?;
    let ctx = booted.app_context;

    let store = AuditStore::new(ctx.db.clone());
    store.initialize().await?;
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
    let refused = run_db::<App, Migrator>(&ctx, RunDbCommand::Down(15)).await;
    ensure!(refused.is_err_and(|err| err.to_string().contains("has rows")));
    run_db::<App, Migrator>(&ctx, RunDbCommand::Migrate).await?;
    store.get_run("r").await?;

    // All steps down work once the history has been deleted.
    execute(&ctx, "DELETE FROM skill_run_logs").await?;
    execute(&ctx, "DELETE FROM skill_runs").await?;
    run_db::<App, Migrator>(&ctx, RunDbCommand::Down(17)).await?;
    ensure!(store.get_run("r").await.is_err());
    run_db::<App, Migrator>(&ctx, RunDbCommand::Migrate).await?;
    store.initialize().await?;
    println!("loco: ok");
    Ok(())
}

async fn execute(ctx: &AppContext, sql: &str) -> Result<()> {
    ctx.db.execute_unprepared(sql).await?;
    Ok(())
}
