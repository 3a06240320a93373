//! A help desk: a small SeaORM application that stores its tickets, and the history of how they
//! were answered, in one database. It starts on SQLite and later moves to PostgreSQL:
//!
//! ```sh
//! help-desk answer "How high is the tide?"
//! runtrail copy --from sqlite://desk.db --to postgres://localhost/desk
//! help-desk answer "And tomorrow?"
//! # Stop the application, then copy the rest of the history, and the application's tickets.
//! runtrail copy --from sqlite://desk.db --to postgres://localhost/desk --final
//! export DATABASE_URL=postgres://localhost/desk
//! help-desk fetch-tickets sqlite://desk.db
//! help-desk list
//! ```
#![expect(clippy::print_stdout, reason = "the program prints its answers")]
#![expect(
    clippy::disallowed_methods,
    reason = "these rules are for the library; an application uses its own transactions"
)]

mod migrator;
mod ticket;

use anyhow::Result;
use clap::{Parser, Subcommand};
use runtrail::entity::skill_run;
use runtrail::{
    AuditStore, RunStats, RunStatus, SkillRun, SkillRunLog, Storage, discard_open_transactions,
    new_run_id,
};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryOrder, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use serde_json::json;

use crate::migrator::Migrator;

/// Answers questions, and records how.
#[derive(Parser)]
struct Cli {
    /// The URL of the database.
    #[arg(long, env, default_value = "sqlite://desk.db?mode=rwc")]
    database_url: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer a question.
    Answer { question: String },
    /// List all questions with their answers, the oldest first.
    List,
    /// Copy all tickets from another database into this one.
    FetchTickets { from: String },
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let db = open(&cli.database_url).await?;
    Migrator::up(&db, None).await?;
    match cli.command {
        Command::Answer { question } => answer(&db, question).await?,
        Command::List => list(&db).await?,
        Command::FetchTickets { from } => fetch_tickets(&open(&from).await?, &db).await?,
    }
    db.close().await?;
    Ok(())
}

/// Opens one pool for the application and the history.
async fn open(url: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    discard_open_transactions(&mut options);
    if url.starts_with("sqlite:") {
        options.map_sqlx_sqlite_opts(|sqlite| sqlite.pragma("journal_mode", "wal"));
    }
    Ok(Database::connect(options).await?)
}

async fn answer(db: &DatabaseConnection, question: String) -> Result<()> {
    let store = AuditStore::new(db.clone());
    let run = SkillRun::new(new_run_id(), "answer", store.now());
    let ticket = ticket::Model {
        run_id: run.id.clone(),
        question,
    };

    // Write the ticket and its run atomically.
    let txn = db.begin().await?;
    ticket::Entity::insert(ticket.clone().into_active_model())
        .exec_without_returning(&txn)
        .await?;
    store.on(&txn).start_run(&run).await?;
    txn.commit().await?;

    let words = ticket.question.split_whitespace().count();
    let thought = SkillRunLog::new(&run.id, 0, "thought", json!({"words": words}));
    store.append_log(&thought).await?;
    let stats = RunStats::new(RunStatus::OK).output(format!("A good question, in words: {words}."));
    store.finish_run(&run.id, &stats).await?;
    println!("{}", stats.output);
    Ok(())
}

async fn list(db: &DatabaseConnection) -> Result<()> {
    let tickets = ticket::Entity::find()
        .find_also_related(skill_run::Entity)
        .order_by_asc(ticket::Column::RunId)
        .all(db)
        .await?;
    for (ticket, run) in tickets {
        let answer = run.map_or_else(|| "(no run)".to_owned(), |run| run.output);
        println!("{}: {answer}", ticket.question);
    }
    Ok(())
}

/// Copies the application's own table; `runtrail copy` copies only the history.
async fn fetch_tickets(from: &DatabaseConnection, to: &DatabaseConnection) -> Result<()> {
    const PAGE_SIZE: u64 = 1_000;

    let mut pages = ticket::Entity::find()
        .order_by_asc(ticket::Column::RunId)
        .paginate(from, PAGE_SIZE);
    while let Some(tickets) = pages.fetch_and_next().await? {
        let tickets = tickets.into_iter().map(IntoActiveModel::into_active_model);
        ticket::Entity::insert_many(tickets)
            .on_conflict_do_nothing()
            .exec_without_returning(to)
            .await?;
    }
    Ok(())
}
