use clap::{Parser, Subcommand};
use clap_complete::Shell;
use runtrail_migration::command::Command as Migrate;

use crate::budget::Budget;
use crate::chain::Chain;
use crate::copy::Copy;
use crate::cost::CostCommand;
use crate::count::Count;
use crate::database::DatabaseArguments;
use crate::exec::Exec;
use crate::export::Export;
use crate::import::Import;
use crate::last::Last;
use crate::list::List;
use crate::logs::Logs;
use crate::purge::Purge;
use crate::serve::Serve;
use crate::show::Show;
use crate::stats::Stats;
use crate::sweep::Sweep;
use crate::tree::Tree;
use crate::watch::WatchRuns;

/// Record any program as a run, and query the history.
#[derive(Parser)]
#[command(
    version,
    name = "runtrail",
    propagate_version = true,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage, 4 no such run or budget, 5 over \
        budget. `exec` exits with the program's own code."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) database: DatabaseArguments,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Exec(Exec),
    Serve(Serve),
    List(List),
    Show(Show),
    Tree(Tree),
    Logs(Logs),
    Watch(WatchRuns),
    Count(Count),
    Stats(Stats),
    Cost(CostCommand),
    Last(Last),
    Chain(Chain),
    Budget(Budget),
    Purge(Purge),
    Sweep(Sweep),
    Copy(Copy),
    Export(Export),
    Import(Import),
    /// Migrate the database: up (default), down, status, print-sql.
    Migrate {
        #[command(subcommand)]
        command: Option<Migrate>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell to complete for.
        shell: Shell,
    },
}
