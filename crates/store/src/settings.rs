use std::sync::Arc;

use runtrail_audit::{Clock, Limits, SystemClock};
use runtrail_db::{Shape, Timing};
use runtrail_entity::{
    budget, budget_charge, budget_reservation, budget_usage, owner, run_label, skill_run,
    skill_run_log, staged_record,
};
use runtrail_migration::{Migrator, SchemaName};
use sea_orm::sea_query::{IntoIden, IntoTableRef, Query, SelectStatement, TableRef};
use sea_orm::{EntityName, Iden, Iterable};

use crate::store_owner::StoreOwner;

/// One call of a method of a store.
pub(crate) type Session<'a, C> = runtrail_db::Session<'a, C, Settings>;

/// Settings shared by every kind of store.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) timing: Timing,
    pub(crate) owner: Option<Arc<StoreOwner>>,
}

/// The tables of a store, and the statements about them whose text has been built.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) schema: Option<SchemaName>,
    pub(crate) start: Shape,
    pub(crate) append: Shape,
    pub(crate) append_with_usage: Shape,
    pub(crate) finish: Shape,
    pub(crate) get: Shape,
    pub(crate) chain: Shape,
    pub(crate) list_logs: Shape,
    pub(crate) due: Shape,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            tables: Arc::default(),
            timing: Timing::default(),
            owner: None,
        }
    }
}

impl AsRef<Timing> for Settings {
    fn as_ref(&self) -> &Timing {
        &self.timing
    }
}

impl Settings {
    pub(crate) fn migrator(&self) -> Migrator {
        match &self.tables.schema {
            Some(schema) => Migrator::in_schema(schema.clone()),
            None => Migrator::new(),
        }
    }

    /// The id of the owner of the store.
    pub(crate) fn owner_id(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| owner.id())
    }

    /// The table of runs, qualified with its schema.
    pub(crate) fn runs(&self) -> TableRef {
        self.qualified(skill_run::Entity)
    }

    /// The table of events, qualified with its schema.
    pub(crate) fn logs(&self) -> TableRef {
        self.qualified(skill_run_log::Entity)
    }

    /// The table of owners, qualified with its schema.
    pub(crate) fn owners(&self) -> TableRef {
        self.qualified(owner::Entity)
    }

    /// The index of labels, qualified with its schema.
    pub(crate) fn run_labels(&self) -> TableRef {
        self.qualified(run_label::Entity)
    }

    /// The table of staged records, qualified with its schema.
    pub(crate) fn staged_records(&self) -> TableRef {
        self.qualified(staged_record::Entity)
    }

    /// The table of budgets, qualified with its schema.
    pub(crate) fn budgets(&self) -> TableRef {
        self.qualified(budget::Entity)
    }

    /// The table of what budgets have counted, qualified with its schema.
    pub(crate) fn budget_usage(&self) -> TableRef {
        self.qualified(budget_usage::Entity)
    }

    /// The table of reservations, qualified with its schema.
    pub(crate) fn reservations(&self) -> TableRef {
        self.qualified(budget_reservation::Entity)
    }

    /// The table of what reservations hold, qualified with its schema.
    pub(crate) fn budget_charges(&self) -> TableRef {
        self.qualified(budget_charge::Entity)
    }

    /// Selects all columns of runs.
    pub(crate) fn select_runs(&self) -> SelectStatement {
        let columns = skill_run::Column::iter().map(|column| (skill_run::Entity, column));
        Query::select().columns(columns).from(self.runs()).take()
    }

    /// Selects all columns of events.
    pub(crate) fn select_logs(&self) -> SelectStatement {
        let columns = skill_run_log::Column::iter().map(|column| (skill_run_log::Entity, column));
        Query::select().columns(columns).from(self.logs()).take()
    }

    /// Names the schema in the statement instead of setting it on the connection: behind a pooler,
    /// the next statement may use another connection.
    fn qualified(&self, entity: impl EntityName + Iden) -> TableRef {
        match &self.tables.schema {
            Some(schema) => (schema.as_str().to_owned(), entity.into_iden()).into_table_ref(),
            None => entity.into_iden().into_table_ref(),
        }
    }
}
