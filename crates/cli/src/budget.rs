use std::io::Write;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Utc};
use clap::{Args, Subcommand};
use runtrail::{Amount, Budget as Definition, BudgetPeriod, BudgetScope, BudgetStatus, Budgets};
use runtrail::{rfc3339, rules};
use serde::Serialize;

use crate::Exit;
use crate::database::DatabaseArguments;
use crate::failure::{Failure, OVER_BUDGET, Result};
use crate::output::{self, Column, Table, count, dollars, printable};

const COLUMNS: [Column; 8] = [
    Column::id("BUDGET"),
    Column::text("SCOPE"),
    Column::text("PER"),
    Column::number("LIMIT"),
    Column::number("USED"),
    Column::number("RESERVED"),
    Column::number("LEFT"),
    Column::text("RENEWS").with_weight(1),
];

/// Limit what may be spent: set, list, check and remove budgets.
///
/// `exec --budget` reserves from them, as do programs that use the library. A budget counts from
/// when it is set.
#[derive(Args)]
pub(crate) struct Budget {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Set(Set),
    List(List),
    Check(Check),
    Remove(Remove),
}

/// Set a budget, or replace the one with this name.
///
/// With another limit only, everything keeps counting. With another unit, scope or period, the
/// budget counts anew.
#[derive(Args)]
struct Set {
    /// Name of the budget.
    name: String,
    /// How much may be used: tokens or US dollars, such as 200000tokens or 2.50usd.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    limit: Amount,
    /// When it renews: each day, each month, or continuously after a duration such as 24h.
    #[arg(long, value_name = "day|month|DURATION", value_parser = period)]
    per: BudgetPeriod,
    /// Offset of the time zone in which the day or month begins [default: +00:00].
    #[arg(long, value_name = "+HH:MM", allow_hyphen_values = true)]
    utc_offset: Option<FixedOffset>,
    #[command(flatten)]
    scope: Scope,
}

/// What counts against the budget; without any of them, everything.
#[derive(Args)]
#[group(multiple = false)]
struct Scope {
    /// Count only what is done for this caller.
    #[arg(long)]
    caller: Option<String>,
    /// Count only what this skill does.
    #[arg(long)]
    skill: Option<String>,
    /// Count only what is requested through this channel.
    #[arg(long)]
    channel: Option<String>,
}

/// List the budgets and what is left of them.
#[derive(Args)]
struct List {
    /// Print each budget as a line of JSON. Amounts are tokens, or millionths of a dollar.
    #[arg(long)]
    json: bool,
}

/// Print what is left of a budget; exits with 5 if nothing is.
#[derive(Args)]
struct Check {
    /// Name of the budget.
    name: String,
}

/// Remove a budget and what it has counted.
#[derive(Args)]
struct Remove {
    /// Name of the budget.
    name: String,
}

impl Budget {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<Exit> {
        match self.command {
            Command::Set(set) => set.run(database).await?,
            Command::List(list) => list.run(database).await?,
            Command::Check(check) => return check.run(database).await,
            Command::Remove(remove) => remove.run(database).await?,
        }
        Ok(Exit::Code(0))
    }
}

impl Set {
    async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let period = match (self.per, self.utc_offset) {
            (BudgetPeriod::Window(_), Some(_)) => {
                let message = "--utc-offset needs `--per day` or `--per month`";
                return Err(Failure::usage(message));
            }
            (period, None) => period,
            (period, Some(utc_offset)) => period.at_offset(utc_offset),
        };
        let budget = Definition::new(self.name, self.limit, period).scope(self.scope.into());
        let store = database.open_existing().await?;
        Ok(store.set_budget(&budget).await?)
    }
}

impl From<Scope> for BudgetScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope {
                caller: Some(id), ..
            } => Self::Caller(id),
            Scope {
                skill: Some(id), ..
            } => Self::Skill(id),
            Scope {
                channel: Some(id), ..
            } => Self::Channel(id),
            _ => Self::Everything,
        }
    }
}

impl List {
    async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_to_read().await?;
        let budgets = store.list_budgets().await?;
        if self.json {
            return output::json_lines(budgets.iter().map(Line::of));
        }
        let mut table = Table::new(&COLUMNS);
        for status in &budgets {
            let limit = status.budget.limit;
            let amount = |number| shown(limit.with_number(number));
            table.push([
                printable(&status.budget.name),
                printable(&scope(&status.budget.scope)),
                per(status.budget.period),
                shown(limit),
                amount(status.used),
                amount(status.reserved),
                shown(status.left()),
                status.renews_at.map(time).unwrap_or_default(),
            ]);
        }
        output::show(&table)
    }
}

impl Check {
    async fn run(self, database: &DatabaseArguments) -> Result<Exit> {
        let store = database.open_to_read().await?;
        let Some(status) = store.find_budget(&self.name).await? else {
            return Err(Failure::NoSuchBudget { name: self.name });
        };
        let renewal = match status.renews_at {
            Some(at) => format!("; it renews at {}", time(at)),
            None => String::new(),
        };
        let (left, limit) = (status.left(), status.budget.limit);
        let mut out = output::plain();
        writeln!(out, "{} of {} left{renewal}", words(left), words(limit))?;
        output::finish(out)?;
        Ok(Exit::Code(match left.number() {
            0 => OVER_BUDGET,
            _ => 0,
        }))
    }
}

impl Remove {
    async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let store = database.open_existing().await?;
        if store.find_budget(&self.name).await?.is_none() {
            return Err(Failure::NoSuchBudget { name: self.name });
        }
        Ok(store.remove_budget(&self.name).await?)
    }
}

/// A budget in JSON.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    scope: String,
    per: String,
    unit: &'static str,
    limit: u64,
    used: u64,
    reserved: u64,
    left: u64,
    #[serde(serialize_with = "rfc3339::serialize_option")]
    renews_at: Option<DateTime<Utc>>,
}

impl<'a> Line<'a> {
    fn of(status: &'a BudgetStatus) -> Self {
        Self {
            name: &status.budget.name,
            scope: scope(&status.budget.scope),
            per: per(status.budget.period),
            unit: match status.budget.limit {
                Amount::CostMicros(_) => "cost_micros",
                _ => "tokens",
            },
            limit: status.budget.limit.number(),
            used: status.used,
            reserved: status.reserved,
            left: status.left().number(),
            renews_at: status.renews_at,
        }
    }
}

fn scope(scope: &BudgetScope) -> String {
    match scope {
        BudgetScope::Caller(id) => format!("caller {id}"),
        BudgetScope::Skill(id) => format!("skill {id}"),
        BudgetScope::Channel(id) => format!("channel {id}"),
        _ => "everything".to_owned(),
    }
}

fn per(period: BudgetPeriod) -> String {
    let calendar = |unit: &str, offset: FixedOffset| match offset.local_minus_utc() {
        0 => unit.to_owned(),
        _ => format!("{unit} at {offset}"),
    };
    match period {
        BudgetPeriod::Month { utc_offset } => calendar("month", utc_offset),
        BudgetPeriod::Window(length) => humantime::format_duration(length).to_string(),
        BudgetPeriod::Day { utc_offset } => calendar("day", utc_offset),
        _ => String::new(),
    }
}

/// Formats an amount for a column.
fn shown(amount: Amount) -> String {
    match amount {
        Amount::CostMicros(micros) => dollars(micros),
        amount => count(amount.number()),
    }
}

/// Formats an amount with its unit.
fn words(amount: Amount) -> String {
    match amount {
        Amount::CostMicros(micros) => dollars(micros),
        amount => output::counted(amount.number(), "token"),
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%F %TZ").to_string()
}

/// Parses an amount such as `200000tokens` or `2.50usd`.
pub(crate) fn amount(text: &str) -> Result<Amount, String> {
    let expected = || "expected an amount such as 200000tokens or 2.50usd".to_owned();
    let text = text.trim().to_lowercase();
    let amount = if let Some(number) = text.strip_suffix("tokens") {
        let number = number.trim().parse();
        Amount::Tokens(number.map_err(|_| expected())?)
    } else {
        let number = text.strip_suffix("usd").ok_or_else(expected)?;
        Amount::CostMicros(micros(number.trim()).ok_or_else(expected)?)
    };
    if amount.number() > rules::MAX_AMOUNT {
        return Err("the amount is too large".to_owned());
    }
    Ok(amount)
}

/// Parses a decimal number as millionths; `None` if it has more than six decimals.
fn micros(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 6 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(fraction)
}

fn period(text: &str) -> Result<BudgetPeriod, String> {
    match text {
        "day" => Ok(BudgetPeriod::day()),
        "month" => Ok(BudgetPeriod::month()),
        _ => {
            let length: Duration = humantime::parse_duration(text).map_err(|err| {
                format!("expected day, month, or a duration such as 24h or 7days: {err}")
            })?;
            Ok(BudgetPeriod::Window(length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, expected) in [
            ("5usd", Amount::CostMicros(5_000_000)),
            ("2.50usd", Amount::CostMicros(2_500_000)),
            ("0.000001 USD", Amount::CostMicros(1)),
            ("200000tokens", Amount::Tokens(200_000)),
        ] {
            assert_eq!(amount(text), Ok(expected), "{text}");
        }
        for text in [
            "5",
            "usd",
            "-1usd",
            "1.2.3usd",
            "0.0000001usd",
            "1e3usd",
            ".5usd",
            "1.5tokens",
            "99999999999usd",
            "18446744073709551616tokens",
        ] {
            amount(text).unwrap_err();
        }
    }
}
