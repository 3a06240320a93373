//! A Seaography application whose GraphQL schema contains its own table and Runtrail's. It migrates
//! up, queries all tables, and migrates down.

mod migrator;
mod ticket;

use std::env;

use anyhow::{Context, Result, ensure};
use runtrail::entity::{skill_run, skill_run_log};
use runtrail::migration::locked;
use runtrail::{AuditStore, Error, SkillRun, SkillRunLog, Storage};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, EntityTrait, IntoActiveModel};
use sea_orm_migration::MigratorTrait;
use seaography::async_graphql::dynamic::Schema;
use seaography::{Builder, BuilderContext};
use serde_json::json;

use crate::migrator::Migrator;

const QUERY: &str =
    "{ tickets { nodes { question skillRun { id status skillRunLog { nodes { payload } } } } } }";

fn schema(db: &DatabaseConnection) -> Result<Schema> {
    let context: &'static BuilderContext = Box::leak(Box::default());
    let mut builder = Builder::new(context, db.clone());
    seaography::register_entities!(builder, [ticket, skill_run, skill_run_log]);
    Ok(builder.schema_builder().data(db.clone()).finish()?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let db = Database::connect(ConnectOptions::new(url)).await?;
    locked(&db, |txn| Box::pin(Migrator::up(txn, None))).await?;

    let store = AuditStore::new(db.clone());
    store.initialize().await?;
    store
        .start_run(&SkillRun::new("r", "answer", store.now()))
        .await?;
    store
        .append_log(&SkillRunLog::new("r", 0, "thought", json!({"words": 5})))
        .await?;
    // With arbitrary_precision this program can represent the number, but other readers can't.
    let huge = serde_json::from_str(r#"{"words": 1e400}"#)?;
    let refused = store
        .append_log(&SkillRunLog::new("r", 1, "thought", huge))
        .await;
    ensure!(
        matches!(refused, Err(Error::InvalidInput { .. })),
        "{refused:?}"
    );
    let ticket = ticket::Model {
        run_id: "r".into(),
        question: "How high is the tide?".into(),
    };
    ticket::Entity::insert(ticket.into_active_model())
        .exec_without_returning(&db)
        .await?;

    let schema = schema(&db)?;
    let answer = schema.execute(QUERY).await;
    ensure!(
        answer.errors.is_empty(),
        "{:?}\n{}",
        answer.errors,
        schema.sdl()
    );
    let answer = serde_json::to_value(answer.data)?;
    let expected = json!({"tickets": {"nodes": [{
        "question": "How high is the tide?",
        "skillRun": {
            "id": "r",
            "status": "running",
            "skillRunLog": {"nodes": [{"payload": r#"{"words":5}"#}]},
        },
    }]}});
    ensure!(answer == expected, "{answer}");

    // Serialise an entity together with the run that it refers to.
    let found = ticket::Entity::load()
        .with(skill_run::Entity)
        .one(&db)
        .await?;
    let text = serde_json::to_string(&found.context("no ticket")?)?;
    ensure!(text.contains(r#""skill_id":"answer""#), "{text}");

    let down = locked(&db, |txn| Box::pin(Migrator::down(txn, None))).await;
    ensure!(down.is_err_and(|err| format!("{err:?}").contains("has rows")));
    store.get_run("r").await?;
    locked(&db, |txn| Box::pin(Migrator::down(txn, Some(1)))).await?;
    store.get_run("r").await?;
    println!("graphql: ok");
    Ok(())
}
