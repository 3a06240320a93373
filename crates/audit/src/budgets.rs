use async_trait::async_trait;

use crate::{Budget, BudgetStatus, ReservationRequest, Result, Spending, Storage};

/// Budgets: limits of what may be spent.
///
/// Work that costs tokens or money reserves an amount before it begins, and settles the reservation
/// with the actual amount afterwards. However many callers reserve at the same time, the
/// reservations never exceed a limit.
///
/// A reservation counts in the period in which it was made, even if it is settled later. Days,
/// months and windows follow the database's clock on PostgreSQL and the machine's on SQLite.
///
/// If a process dies, its reservations remain open. Those of a store with an
/// [`Owner`](crate::Owner) belong to that owner, and
/// [`sweep_interrupted`](crate::Ownership::sweep_interrupted) releases them once it is dead. The
/// others count until their period has ended.
///
/// A purge deletes the reservations that were closed before its cutoff, and those without an owner
/// whose periods have ended. A copy into another database contains the budgets with what they have
/// used, but no reservations. An export contains neither.
///
/// ```
/// use runtrail_audit::{Budgets, Error, ReservationRequest, Result, Spending, new_run_id};
///
/// async fn ask(store: &impl Budgets, question: &str) -> Result<String> {
///     let id = new_run_id();
///     let request = ReservationRequest::new(&*id, Spending::new().tokens(20_000)).caller("alice");
///     if let Err(Error::OverBudget { budget, left, .. }) = store.reserve(&request).await {
///         return Ok(format!("{budget} has only {left} left"));
///     }
///     let (answer, tokens) = call_a_model(question).await;
///     store.settle_reservation(&id, &Spending::new().tokens(tokens)).await?;
///     Ok(answer)
/// }
/// # async fn call_a_model(_: &str) -> (String, u64) { (String::new(), 0) }
/// ```
#[async_trait]
pub trait Budgets: Storage {
    /// Sets a budget, and replaces the one with the same name.
    ///
    /// With another unit, scope or period, it counts anew: the open reservations no longer count
    /// against it. With another limit only, everything keeps counting.
    ///
    /// If the future is dropped, the budget is either set or unchanged.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid name, limit, scope or period.
    async fn set_budget(&self, budget: &Budget) -> Result<()>;

    /// Removes a budget and what it has counted, if there is one with this name. Reservations
    /// remain, and count against the other budgets.
    ///
    /// If the future is dropped, the budget is either removed or unchanged.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid name.
    async fn remove_budget(&self, name: &str) -> Result<()>;

    /// Returns all budgets in the order of their names, with what is left of them.
    async fn list_budgets(&self) -> Result<Vec<BudgetStatus>>;

    /// Returns a budget with what is left of it; `None` if there is none with this name.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::Error::InvalidInput) for an invalid name.
    async fn find_budget(&self, name: &str) -> Result<Option<BudgetStatus>>;

    /// Reserves an amount from every budget whose scope includes the request: from all of them, or
    /// from none. A budget in a unit of which the request contains nothing refuses it only if it is
    /// used up.
    ///
    /// The same request again is `Ok` and counts once, even if the reservation has since been
    /// settled or released. If the future is dropped, the amount is either reserved or not; repeat
    /// the call, or settle the reservation.
    ///
    /// A store with an owner sends a heartbeat first, if one is due.
    ///
    /// # Errors
    ///
    /// [`OverBudget`](crate::Error::OverBudget) if a budget has too little left;
    /// [`ReservationConflict`](crate::Error::ReservationConflict) if another reservation has this
    /// id; [`InvalidInput`](crate::Error::InvalidInput) for invalid ids or amounts above 10^15;
    /// [`Busy`](crate::Error::Busy) if other callers keep changing the budgets.
    async fn reserve(&self, request: &ReservationRequest) -> Result<()>;

    /// Replaces the reserved amount by the actual one. Nothing (`Spending::new()`) releases the
    /// reservation.
    ///
    /// The actual amount may exceed the reserved one, and then even the limit. All of it counts, so
    /// the next reservation is refused. A reservation that a sweep has released can still be
    /// settled.
    ///
    /// The same amount again is `Ok` and counts once. If the future is dropped, the reservation is
    /// either settled or unchanged.
    ///
    /// # Errors
    ///
    /// [`UnknownReservation`](crate::Error::UnknownReservation) if no reservation has this id;
    /// [`ReservationConflict`](crate::Error::ReservationConflict) if it is settled with another
    /// amount; [`InvalidInput`](crate::Error::InvalidInput) for an invalid id or an amount above
    /// 10^15.
    async fn settle_reservation(&self, id: &str, actual: &Spending) -> Result<()>;
}

const _: fn(&dyn Budgets) = |_| {};
