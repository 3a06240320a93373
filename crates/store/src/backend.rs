//! The only place that asks which backend a statement is for.

use runtrail_audit::{Error, Result};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Func, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend};

/// Whether a database has schemas, to which a table's name can be qualified.
pub(crate) fn has_schemas(connection: &impl ConnectionTrait) -> bool {
    connection.get_database_backend() == DbBackend::Postgres
}

/// The table that [`unfold`] gives, and its only column.
pub(crate) const LIST: (&str, &str) = ("list", "value");

/// A list of texts as a table, `LIST`: one parameter however long the list is. A parameter for each would stop
/// at 32,766 of them, and give every length of the list a statement of its own to prepare.
pub(crate) fn unfold(
    connection: &impl ConnectionTrait,
    texts: &[impl AsRef<str>],
) -> Result<SelectStatement> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let json = serde_json::to_string(&texts).map_err(|err| Error::Backend {
        transient: false,
        source: Box::new(err),
    })?;
    let function = match connection.get_database_backend() {
        DbBackend::Postgres => {
            Func::cust("jsonb_array_elements_text").arg(Expr::val(json).cast_as("jsonb"))
        }
        _ => Func::cust("json_each").arg(json),
    };
    Ok(Query::select()
        .column(LIST)
        .from_function(function, Alias::new(LIST.0))
        .take())
}
