//! Decides whether a write is part of a group commit.

use std::sync::Arc;

use runtrail_audit::Result;
use runtrail_db::{Executor, backend};

use crate::record::write::{Request, Write};
use crate::record::writer::{WriteTarget, Writer};
use crate::settings::Session;

/// Writes one call: through the group-commit task, if the store has one, or in a separate
/// statement.
pub(crate) async fn dispatch(
    db: &Session<'_, impl Executor>,
    writer: Option<&Writer>,
    write: Write,
) -> Result<()> {
    let Some((pool, writer)) = db.connection().pool().zip(writer) else {
        return write.execute(db).await;
    };
    let _pending = writer.register_call()?;
    let target = WriteTarget {
        tables: Arc::clone(&db.tables),
        has_prepared_statements: pool.has_prepared_statements(),
    };
    let (write, _caller) = Request::new(write);
    if !writer.is_blocked(write.run_id()) {
        let written = db.attempt(|| writer.write(Arc::clone(&write), target.clone()));
        if let Some(()) = written.await? {
            return Ok(());
        }
    }
    if backend::has_row_locks(db.backend()) {
        db.attempt(|| writer.write_ungrouped(pool, db, Arc::clone(&write)))
            .await
    } else {
        write.execute(db).await
    }
}
