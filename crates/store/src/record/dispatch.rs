//! Decides whether a write is part of a group commit.

use std::sync::Arc;

use runtrail_audit::Result;
use runtrail_db::{Executor, Pool, backend};

use crate::record::write::{Request, Write};
use crate::record::writer::{WriteTarget, Writer};
use crate::settings::Session;
use crate::watch::Hub;

/// Writes one call: through the group-commit task, if the store has one, or in a separate
/// statement. Then reports it to the streams.
pub(crate) async fn dispatch(
    db: &Session<'_, impl Executor>,
    writer: Option<&Writer>,
    hub: &Hub,
    write: Write,
) -> Result<()> {
    let Some((pool, writer)) = db.connection().pool().zip(writer) else {
        write.execute(db).await?;
        write.report(hub);
        return Ok(());
    };
    let (write, _caller) = Request::new(write);
    write_grouped(db, pool, writer, &write).await?;
    write.report(hub);
    Ok(())
}

async fn write_grouped(
    db: &Session<'_, impl Executor>,
    pool: &Pool,
    writer: &Writer,
    write: &Arc<Request>,
) -> Result<()> {
    let _pending = writer.register_call()?;
    let target = WriteTarget {
        tables: Arc::clone(&db.tables),
        has_prepared_statements: pool.has_prepared_statements(),
    };
    if !writer.is_blocked(write.run_id()) {
        let written = db.attempt(|| writer.write(Arc::clone(write), target.clone()));
        if let Some(()) = written.await? {
            return Ok(());
        }
    }
    if backend::has_row_locks(db.backend()) {
        db.attempt(|| writer.write_ungrouped(pool, db, Arc::clone(write)))
            .await
    } else {
        write.execute(db).await
    }
}
