/// What a caller intends to spend, or has spent.
///
/// ```
/// use runtrail_audit::{Amount, Spending};
///
/// let spending = Spending::new().tokens(1_200).cost_micros(4_200);
/// assert_eq!(Spending::from(Amount::Tokens(7)), Spending::new().tokens(7));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Spending {
    /// Tokens of input and of output together, at most 10^15.
    pub tokens: u64,
    /// Money in millionths of a US dollar, at most 10^15.
    pub cost_micros: u64,
}

impl Spending {
    /// Returns nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`tokens`](Self::tokens).
    #[must_use]
    pub fn tokens(mut self, tokens: u64) -> Self {
        self.tokens = tokens;
        self
    }

    /// Sets [`cost_micros`](Self::cost_micros).
    #[must_use]
    pub fn cost_micros(mut self, cost: u64) -> Self {
        self.cost_micros = cost;
        self
    }
}

impl From<crate::Amount> for Spending {
    fn from(amount: crate::Amount) -> Self {
        match amount {
            crate::Amount::Tokens(tokens) => Self::new().tokens(tokens),
            crate::Amount::CostMicros(cost) => Self::new().cost_micros(cost),
        }
    }
}

/// A request to reserve an amount before the work begins, for
/// [`reserve`](crate::Budgets::reserve).
///
/// ```
/// use runtrail_audit::{ReservationRequest, Spending, new_run_id};
///
/// let request = ReservationRequest::new(new_run_id(), Spending::new().tokens(20_000))
///     .caller("alice")
///     .skill("summarise");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReservationRequest {
    /// Chosen by the caller, unique in the history; 1 to 255 bytes.
    pub id: String,
    /// How much to reserve.
    pub amount: Spending,
    /// Who the work is done for; at most 255 bytes, may be empty.
    pub caller_id: String,
    /// What does the work; at most 255 bytes, may be empty.
    pub skill_id: String,
    /// Where the request came from; at most 255 bytes, may be empty.
    pub channel_id: String,
    /// The run that it is for, if any; 1 to 255 bytes. It isn't checked, so that the run can start
    /// later.
    pub run_id: Option<String>,
}

impl ReservationRequest {
    /// Creates a request without a caller, skill, channel or run.
    pub fn new(id: impl Into<String>, amount: Spending) -> Self {
        Self {
            id: id.into(),
            amount,
            caller_id: String::new(),
            skill_id: String::new(),
            channel_id: String::new(),
            run_id: None,
        }
    }

    /// Sets who the work is done for.
    #[must_use]
    pub fn caller(mut self, id: impl Into<String>) -> Self {
        self.caller_id = id.into();
        self
    }

    /// Sets what does the work.
    #[must_use]
    pub fn skill(mut self, id: impl Into<String>) -> Self {
        self.skill_id = id.into();
        self
    }

    /// Sets where the request came from.
    #[must_use]
    pub fn channel(mut self, id: impl Into<String>) -> Self {
        self.channel_id = id.into();
        self
    }

    /// Sets the run that it is for.
    #[must_use]
    pub fn run(mut self, id: impl Into<String>) -> Self {
        self.run_id = Some(id.into());
        self
    }
}
