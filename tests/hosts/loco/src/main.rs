//! A Loco application that composes its migrations with Runtrail's, records its jobs, and shows the
//! history behind its own login.
//!
//! `cargo run` checks it: it starts the application, visits it over HTTP, and stops it; then it
//! migrates up and down. `cargo run -- serve PORT` starts the application.

mod app;
mod history;
mod jobs;
mod login;
mod migrations;
mod migrator;
mod visit;

use std::env;

use anyhow::{Context, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, port] = arguments.as_slice()
        && command == "serve"
    {
        app::serve(&url, port.parse()?).await?;
        return Ok(());
    }
    visit::check(&url).await?;
    migrations::check(&url).await?;
    println!("loco: ok");
    Ok(())
}
