use std::time::Duration;

use chrono::{DateTime, Datelike, FixedOffset, Months, NaiveDate, NaiveDateTime, NaiveTime};
use runtrail_audit::{Amount, Budget, BudgetPeriod, BudgetScope, BudgetStatus, Result, rules};
use runtrail_db::{Row, RowValue};
use runtrail_entity::budget::{Column, Entity, Model};
use runtrail_entity::budget_usage;
use sea_orm::{EntityName, Iterable};

use super::RowDecoder;

const TOKENS: &str = "tokens";
const MICROS: &str = "micros";

const EVERYTHING: &str = "everything";
const CALLER: &str = "caller";
const SKILL: &str = "skill";
const CHANNEL: &str = "channel";

const DAY: &str = "day";
const MONTH: &str = "month";
const WINDOW: &str = "window";

/// The number of slots of a window. The triggers divide it in the same way.
const SLOTS: i64 = 64;

pub(crate) fn encode_budget(budget: &Budget) -> Result<Model> {
    rules::budget(budget)?;
    let unit = match budget.limit {
        Amount::CostMicros(_) => MICROS,
        _ => TOKENS,
    };
    let (scope, scope_id) = match &budget.scope {
        BudgetScope::Caller(id) => (CALLER, id.as_str()),
        BudgetScope::Skill(id) => (SKILL, id.as_str()),
        BudgetScope::Channel(id) => (CHANNEL, id.as_str()),
        _ => (EVERYTHING, ""),
    };
    let (period, period_micros) = match budget.period {
        BudgetPeriod::Month { utc_offset } => (MONTH, offset_micros(utc_offset)),
        BudgetPeriod::Window(length) => (WINDOW, rules::duration("window", length)?),
        BudgetPeriod::Day { utc_offset } => (DAY, offset_micros(utc_offset)),
        _ => (DAY, 0),
    };
    Ok(Model {
        name: budget.name.clone(),
        unit: unit.to_owned(),
        amount_limit: rules::amount("limit", budget.limit.number())?,
        scope: scope.to_owned(),
        scope_id: scope_id.to_owned(),
        period: period.to_owned(),
        period_micros,
    })
}

fn offset_micros(offset: FixedOffset) -> i64 {
    i64::from(offset.local_minus_utc()) * 1_000_000
}

/// A budget, the time of the query, and one of the slots in which it has counted something.
pub(crate) struct Counted {
    budget: Budget,
    now: i64,
    slot: Option<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    start: i64,
    used: u64,
    reserved: u64,
}

/// Decodes a row with all columns of a budget, followed by the current time and by the start, the
/// used and the reserved amount of a slot, which are NULL if there is none.
pub(crate) fn decode_counted(mut row: Row) -> Result<Counted> {
    let decoder = |id| RowDecoder {
        table: Entity.table_name(),
        id,
    };
    let name: String = decoder("?").take(&mut row, Column::Name)?;
    let decoder = decoder(&name);
    let limit = decoder.take(&mut row, Column::AmountLimit)?;
    let limit = decoder.count(limit, Column::AmountLimit)?;
    let unit: String = decoder.take(&mut row, Column::Unit)?;
    let limit = match unit.as_str() {
        TOKENS => Amount::Tokens(limit),
        MICROS => Amount::CostMicros(limit),
        _ => return Err(decoder.corrupt(Column::Unit, "is not a unit")),
    };
    let scope: String = decoder.take(&mut row, Column::Scope)?;
    let scope_id: String = decoder.take(&mut row, Column::ScopeId)?;
    let scope = match scope.as_str() {
        EVERYTHING => BudgetScope::Everything,
        CALLER => BudgetScope::Caller(scope_id),
        SKILL => BudgetScope::Skill(scope_id),
        CHANNEL => BudgetScope::Channel(scope_id),
        _ => return Err(decoder.corrupt(Column::Scope, "is not a scope")),
    };
    let period: String = decoder.take(&mut row, Column::Period)?;
    let micros: i64 = decoder.take(&mut row, Column::PeriodMicros)?;
    let period = match period.as_str() {
        DAY => offset(micros).map(|utc_offset| BudgetPeriod::Day { utc_offset }),
        MONTH => offset(micros).map(|utc_offset| BudgetPeriod::Month { utc_offset }),
        WINDOW => {
            let length = u64::try_from(micros).ok().filter(|length| *length > 0);
            length.map(|length| BudgetPeriod::Window(Duration::from_micros(length)))
        }
        _ => return Err(decoder.corrupt(Column::Period, "is not a period")),
    };
    let Some(period) = period else {
        return Err(decoder.corrupt(Column::PeriodMicros, "is out of range"));
    };
    fn take<T: RowValue>(row: &mut Row, decoder: &RowDecoder<'_>, place: usize) -> Result<T> {
        row.take(Column::iter().count() + place)
            .map_err(|err| decoder.corrupt(Column::Name, format!("has damaged slots: {err}")))
    }
    let slot = match take(&mut row, &decoder, 1)? {
        None => None,
        Some(start) => Some(Slot {
            start,
            used: decoder.count(take(&mut row, &decoder, 2)?, Column::Name)?,
            reserved: decoder.count(take(&mut row, &decoder, 3)?, Column::Name)?,
        }),
    };
    Ok(Counted {
        now: take(&mut row, &decoder, 0)?,
        budget: Budget::new(name.as_str(), limit, period).scope(scope),
        slot,
    })
}

/// Reads all columns of a slot; fails if one has the wrong type.
pub(crate) fn read_slot(mut row: Row) -> Result<budget_usage::Model> {
    use budget_usage::{Column, Entity};

    let decoder = |id| RowDecoder {
        table: Entity.table_name(),
        id,
    };
    let budget: String = decoder("?").take(&mut row, Column::Budget)?;
    let decoder = decoder(&budget);
    Ok(budget_usage::Model {
        slot_start: decoder.take(&mut row, Column::SlotStart)?,
        used: decoder.take(&mut row, Column::Used)?,
        reserved: decoder.take(&mut row, Column::Reserved)?,
        budget,
    })
}

fn offset(micros: i64) -> Option<FixedOffset> {
    FixedOffset::east_opt(i32::try_from(micros / 1_000_000).ok()?)
}

/// Adds up the slots of each budget. The rows are sorted by budget and slot.
pub(crate) fn budget_statuses(rows: Vec<Counted>) -> Vec<BudgetStatus> {
    rows.chunk_by(|left, right| left.budget.name == right.budget.name)
        .map(|rows| {
            let Counted { budget, now, .. } = &rows[0];
            let slots = rows.iter().filter_map(|row| row.slot);
            status(budget.clone(), *now, slots)
        })
        .collect()
}

fn status(budget: Budget, now: i64, slots: impl Iterator<Item = Slot>) -> BudgetStatus {
    let first = first_slot(budget.period, now);
    let counting: Vec<Slot> = slots.filter(|slot| slot.start >= first).collect();
    let sum = |amount: fn(&Slot) -> u64| counting.iter().map(amount).fold(0, u64::saturating_add);
    let renews_at = match budget.period {
        BudgetPeriod::Window(length) => {
            let is_counted = |slot: &&Slot| slot.used > 0 || slot.reserved > 0;
            let oldest = counting.iter().find(is_counted);
            oldest.map(|slot| slot.start + slot_length(length) + micros(length))
        }
        period => Some(next_start(period, now)),
    };
    let renews_at = renews_at.and_then(DateTime::from_timestamp_micros);
    BudgetStatus::new(budget, sum(|it| it.used), sum(|it| it.reserved), renews_at)
}

/// The start of the first slot that counts. The triggers compute it in the same way.
fn first_slot(period: BudgetPeriod, now: i64) -> i64 {
    match period {
        BudgetPeriod::Window(length) => now - micros(length) - slot_length(length) + 1,
        period => calendar_start(period, now, 0),
    }
}

fn next_start(period: BudgetPeriod, now: i64) -> i64 {
    calendar_start(period, now, 1)
}

/// The start of the day or month that contains this time, or of a later one.
fn calendar_start(period: BudgetPeriod, now: i64, later: u32) -> i64 {
    let (BudgetPeriod::Day { utc_offset } | BudgetPeriod::Month { utc_offset }) = period else {
        return now;
    };
    let local = DateTime::from_timestamp_micros(now).unwrap_or_default();
    let local = local.with_timezone(&utc_offset).date_naive();
    let start = match period {
        BudgetPeriod::Month { .. } => local
            .with_day(1)
            .and_then(|date| date.checked_add_months(Months::new(later))),
        _ => local.checked_add_days(chrono::Days::new(later.into())),
    };
    let start = NaiveDateTime::new(start.unwrap_or(NaiveDate::MAX), NaiveTime::MIN);
    start.and_utc().timestamp_micros() - offset_micros(utc_offset)
}

fn slot_length(window: Duration) -> i64 {
    (micros(window) + SLOTS - 1) / SLOTS
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
    }

    #[test]
    fn days_and_months_begin_at_midnight_in_their_time_zone() {
        let east = FixedOffset::east_opt(2 * 3_600).unwrap();
        let west = FixedOffset::west_opt(9 * 3_600 + 1_800).unwrap();
        let (day, month) = (BudgetPeriod::day(), BudgetPeriod::month());
        for (period, now, first, next) in [
            (
                day,
                "2026-03-01T00:00:00Z",
                "2026-03-01T00:00:00Z",
                "2026-03-02T00:00:00Z",
            ),
            (
                day,
                "2026-12-31T23:59:59.999999Z",
                "2026-12-31T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                day.at_offset(east),
                "2026-03-01T22:00:00Z",
                "2026-03-01T22:00:00Z",
                "2026-03-02T22:00:00Z",
            ),
            (
                day.at_offset(west),
                "2026-03-01T09:29:59Z",
                "2026-02-28T09:30:00Z",
                "2026-03-01T09:30:00Z",
            ),
            (
                month,
                "2028-02-29T12:00:00Z",
                "2028-02-01T00:00:00Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                month.at_offset(east),
                "2026-12-31T22:00:00Z",
                "2026-12-31T22:00:00Z",
                "2027-01-31T22:00:00Z",
            ),
        ] {
            assert_eq!(first_slot(period, at(now)), at(first), "{period:?} {now}");
            assert_eq!(next_start(period, at(now)), at(next), "{period:?} {now}");
        }
    }

    #[test]
    fn a_slot_leaves_a_window_once_all_of_it_has() {
        let window = Duration::from_secs(64);
        let period = BudgetPeriod::Window(window);
        let start = at("2026-03-01T00:00:00Z");
        let slot = Slot {
            start,
            used: 7,
            reserved: 1,
        };
        let budget = Budget::new("b", Amount::Tokens(10), period);
        let status = |now| status(budget.clone(), now, [slot].into_iter());
        let leaves = start + 65_000_000;
        let before = status(leaves - 1);
        assert_eq!(
            (before.used, before.reserved, before.left()),
            (7, 1, Amount::Tokens(2))
        );
        assert_eq!(before.renews_at, DateTime::from_timestamp_micros(leaves));
        let after = status(leaves);
        assert_eq!((after.used, after.reserved, after.renews_at), (0, 0, None));
    }
}
