use async_trait::async_trait;
use runtrail_audit::{Budget, BudgetStatus, Budgets, ReservationRequest, Result, Spending};
use runtrail_db::Connection;
use tracing::debug_span;

use crate::record::Write;
use crate::statements::budgets;
use crate::store::AuditStore;

#[async_trait]
impl<C: Connection> Budgets for AuditStore<C> {
    async fn set_budget(&self, budget: &Budget) -> Result<()> {
        let db = self.writing(debug_span!("set_budget")).await?;
        budgets::set(&db, budget).await
    }

    async fn remove_budget(&self, name: &str) -> Result<()> {
        let db = self.writing(debug_span!("remove_budget")).await?;
        budgets::remove(&db, name).await
    }

    async fn list_budgets(&self) -> Result<Vec<BudgetStatus>> {
        let db = self.reading(debug_span!("list_budgets")).await?;
        budgets::list(&db).await
    }

    async fn find_budget(&self, name: &str) -> Result<Option<BudgetStatus>> {
        let db = self.reading(debug_span!("find_budget")).await?;
        budgets::find(&db, name).await
    }

    async fn reserve(&self, request: &ReservationRequest) -> Result<()> {
        let db = self.writing(debug_span!("reserve")).await?;
        self.renew_if_due(&db).await?;
        self.record(&db, Write::reserve(request, &db)?).await
    }

    async fn settle_reservation(&self, id: &str, actual: &Spending) -> Result<()> {
        let db = self.writing(debug_span!("settle_reservation")).await?;
        self.record(&db, Write::settle(id, actual)?).await
    }
}
