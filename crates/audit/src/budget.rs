use std::fmt;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

/// A limit of what may be spent in a period.
///
/// It counts the [reservations](crate::ReservationRequest) that its scope includes, from when it is
/// set.
///
/// ```
/// use runtrail_audit::{Amount, Budget, BudgetPeriod, BudgetScope};
///
/// // 5 dollars a day for one caller, until midnight in UTC.
/// let budget = Budget::new("alice", Amount::CostMicros(5_000_000), BudgetPeriod::day())
///     .scope(BudgetScope::Caller("alice".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Budget {
    /// Unique in the history; 1 to 255 bytes.
    pub name: String,
    /// How much may be used in each period, at most 10^15.
    pub limit: Amount,
    /// What counts against it; by default everything.
    pub scope: BudgetScope,
    /// When it renews.
    pub period: BudgetPeriod,
}

impl Budget {
    /// Creates a budget for everything.
    pub fn new(name: impl Into<String>, limit: Amount, period: BudgetPeriod) -> Self {
        Self {
            name: name.into(),
            limit,
            scope: BudgetScope::Everything,
            period,
        }
    }

    /// Sets [`scope`](Self::scope).
    #[must_use]
    pub fn scope(mut self, scope: BudgetScope) -> Self {
        self.scope = scope;
        self
    }
}

/// An amount of tokens or of money.
///
/// ```
/// use runtrail_audit::Amount;
///
/// assert_eq!(Amount::Tokens(1_200).to_string(), "1200 tokens");
/// assert_eq!(Amount::CostMicros(2_500_000).to_string(), "$2.50");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Amount {
    /// Tokens, of input and of output together.
    Tokens(u64),
    /// Money, in millionths of a US dollar.
    CostMicros(u64),
}

impl Amount {
    /// Returns the number of tokens or of millionths of a dollar.
    pub fn number(self) -> u64 {
        match self {
            Self::Tokens(number) | Self::CostMicros(number) => number,
        }
    }

    /// Returns this number in the same unit.
    #[must_use]
    pub fn with_number(self, number: u64) -> Self {
        match self {
            Self::Tokens(_) => Self::Tokens(number),
            Self::CostMicros(_) => Self::CostMicros(number),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(1) => f.write_str("1 token"),
            Self::Tokens(number) => write!(f, "{number} tokens"),
            Self::CostMicros(micros) => {
                let fraction = format!("{:06}", micros % 1_000_000);
                let shown = fraction.trim_end_matches('0').len().max(2);
                write!(f, "${}.{}", micros / 1_000_000, &fraction[..shown])
            }
        }
    }
}

/// What counts against a budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BudgetScope {
    /// Every reservation.
    #[default]
    Everything,
    /// The reservations for this caller.
    Caller(String),
    /// The reservations for this skill.
    Skill(String),
    /// The reservations for this channel.
    Channel(String),
}

/// When a budget renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BudgetPeriod {
    /// At each midnight, in the time zone with this fixed offset.
    Day {
        /// The offset of the time zone from UTC.
        utc_offset: FixedOffset,
    },
    /// At midnight before the first day of each month, in the time zone with this fixed offset.
    Month {
        /// The offset of the time zone from UTC.
        utc_offset: FixedOffset,
    },
    /// Continuously: what was reserved longer than this ago no longer counts. At least 1 s and at
    /// most 366 days, in whole microseconds.
    ///
    /// Amounts leave the window in steps of a 64th of its length, never too early.
    Window(Duration),
}

impl BudgetPeriod {
    /// Renews a budget each day at midnight in UTC.
    pub fn day() -> Self {
        let utc_offset = offset_of_utc();
        Self::Day { utc_offset }
    }

    /// Renews a budget each month at midnight in UTC.
    pub fn month() -> Self {
        let utc_offset = offset_of_utc();
        Self::Month { utc_offset }
    }

    /// Sets the offset of the time zone from UTC; no effect on a window.
    #[must_use]
    pub fn at_offset(self, utc_offset: FixedOffset) -> Self {
        match self {
            Self::Day { .. } => Self::Day { utc_offset },
            Self::Month { .. } => Self::Month { utc_offset },
            Self::Window(_) => self,
        }
    }
}

fn offset_of_utc() -> FixedOffset {
    chrono::Offset::fix(&Utc)
}

/// A budget and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetStatus {
    /// The budget.
    pub budget: Budget,
    /// What the settled reservations of the period have used. It may exceed the limit, since the
    /// actual amounts may exceed the reserved ones.
    pub used: u64,
    /// What the open reservations of the period hold.
    pub reserved: u64,
    /// When something of it is renewed: the start of the next day or month, or the time at which
    /// the first amount leaves the window; `None` if the window contains none.
    pub renews_at: Option<DateTime<Utc>>,
}

impl BudgetStatus {
    /// Combines a budget with what it has counted.
    pub fn new(budget: Budget, used: u64, reserved: u64, renews_at: Option<DateTime<Utc>>) -> Self {
        Self {
            budget,
            used,
            reserved,
            renews_at,
        }
    }

    /// Returns what can still be reserved.
    pub fn left(&self) -> Amount {
        let limit = self.budget.limit;
        let taken = self.used.saturating_add(self.reserved);
        limit.with_number(limit.number().saturating_sub(taken))
    }
}
