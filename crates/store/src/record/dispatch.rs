//! Decides how a call that records is written: together with others, or alone.

use std::sync::Arc;

use runtrail_audit::Result;
use runtrail_db::{Connection, backend};

use crate::record::write::{Request, Write};
use crate::record::writer::{Place, Writer};
use crate::settings::Session;

/// Writes one call: through the task that groups them, where there is one.
pub(crate) async fn dispatch(
    db: &Session<'_, impl Connection>,
    writer: Option<&Writer>,
    write: Write,
) -> Result<()> {
    let Some((pool, writer)) = db.connection().pool().zip(writer) else {
        return write.alone(db).await;
    };
    let _waiting = writer.begin()?;
    let place = Place {
        schema: db.schema.clone(),
        has_prepared_statements: pool.has_prepared_statements(),
    };
    let (write, _caller) = Request::new(write);
    if !writer.is_blocked(write.run_id()) {
        let written = db.attempt(|| writer.write(Arc::clone(&write), place.clone()));
        if let Some(()) = written.await? {
            return Ok(());
        }
    }
    if backend::has_row_locks(db.connection()) {
        db.attempt(|| writer.write_apart(pool, db, Arc::clone(&write)))
            .await
    } else {
        write.alone(db).await
    }
}
