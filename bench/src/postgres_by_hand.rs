//! Hand-written tokio-postgres on Runtrail's schema, with prepared statements.

use anyhow::Result;
use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog};
use tokio_postgres::{Client, NoTls, Row, Statement};

use crate::by_hand::{READ_COLUMNS, labels, object, time};

pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // The task ends when the client is dropped.
        let _ = connection.await;
    });
    Ok(client)
}

/// A connection with its prepared statements.
pub(crate) struct Postgres {
    pub(crate) client: Client,
    start: Statement,
    append: Statement,
    finish: Statement,
    get: Statement,
    list: Statement,
}

impl Postgres {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        let insert = |sql: &str| {
            // Placeholders are ?1 in SQLite and $1 in PostgreSQL.
            sql.replace('?', "$")
        };
        let start = insert(crate::by_hand::INSERT_RUN)
            .replace("WHERE finished_at", "WHERE skill_runs.finished_at");
        let append = "INSERT INTO skill_run_logs \
                      (run_id, sequence, created_at, event_type, payload) \
                      SELECT $1::text, $2::bigint, $3::bigint, $4::text, $5::text \
                      FROM skill_runs WHERE id = $1 \
                      FOR KEY SHARE ON CONFLICT DO NOTHING";
        let finish = "UPDATE skill_runs SET finished_at = $2, status = $3, output = $4, \
                      error = $5, tool_calls = $6, runtime_seconds = $7, total_input_tokens = $8, \
                      total_output_tokens = $9, total_thinking_tokens = $10 WHERE id = $1 \
                      AND finished_at IS NULL";
        let get = format!("SELECT {READ_COLUMNS} FROM skill_runs WHERE id = $1");
        let list = format!(
            "SELECT {READ_COLUMNS} FROM skill_runs WHERE skill_id = $1 AND status <> 'dry_run' \
             ORDER BY started_at DESC, id DESC LIMIT $2"
        );
        Ok(Self {
            start: client.prepare(&start).await?,
            append: client.prepare(append).await?,
            finish: client.prepare(finish).await?,
            get: client.prepare(&get).await?,
            list: client.prepare(&list).await?,
            client,
        })
    }

    pub(crate) async fn start(&self, run: &SkillRun) -> Result<()> {
        let inputs = serde_json::to_string(&run.inputs)?;
        self.client
            .execute(
                &self.start,
                &[
                    &run.id,
                    &run.skill_id,
                    &run.caller_id,
                    &run.channel_id,
                    &run.parent_run_id,
                    &run.started_at.timestamp_micros(),
                    &run.finished_at.map(|at| at.timestamp_micros()),
                    &run.status.as_str(),
                    &(run.tool_calls as i64),
                    &run.runtime_seconds,
                    &(run.total_input_tokens as i64),
                    &(run.total_output_tokens as i64),
                    &(run.total_thinking_tokens as i64),
                    &inputs,
                    &run.output,
                    &run.error,
                ],
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn append(&self, event: &SkillRunLog) -> Result<()> {
        let at = event.created_at.unwrap_or_default().timestamp_micros();
        let payload = serde_json::to_string(&event.payload)?;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [
            &event.run_id,
            &(event.sequence as i64),
            &at,
            &event.event_type,
            &payload,
        ];
        self.client.execute(&self.append, &values).await?;
        Ok(())
    }

    pub(crate) async fn finish(&self, run_id: &str, stats: &RunStats) -> Result<()> {
        self.client
            .execute(
                &self.finish,
                &[
                    &run_id,
                    &crate::clock::now().timestamp_micros(),
                    &stats.status.as_str(),
                    &stats.output,
                    &stats.error,
                    &(stats.tool_calls as i64),
                    &stats.runtime_seconds,
                    &(stats.input_tokens as i64),
                    &(stats.output_tokens as i64),
                    &(stats.thinking_tokens as i64),
                ],
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn get_run(&self, id: &str) -> Result<Option<SkillRun>> {
        let row = self.client.query_opt(&self.get, &[&id]).await?;
        Ok(row.as_ref().map(run))
    }

    pub(crate) async fn last_run_grouped(&self, skills: &[String]) -> Result<usize> {
        let sql = "SELECT skill_id, MAX(started_at) FROM skill_runs WHERE skill_id = ANY($1) \
            GROUP BY skill_id";
        Ok(self.client.query(sql, &[&skills]).await?.len())
    }

    /// Counts all runs of a skill, in an index without the status.
    pub(crate) async fn count_by_skill(&self, skill_id: &str) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM skill_runs WHERE skill_id = $1";
        Ok(self.client.query_one(sql, &[&skill_id]).await?.get(0))
    }

    pub(crate) async fn list_by_skill(&self, skill_id: &str, limit: i64) -> Result<Vec<SkillRun>> {
        let rows = self.client.query(&self.list, &[&skill_id, &limit]).await?;
        Ok(rows.iter().map(run).collect())
    }
}

fn run(row: &Row) -> SkillRun {
    let count = |column: usize| row.get::<_, i64>(column).unsigned_abs();
    let mut run = SkillRun::new(
        row.get::<_, String>(0),
        row.get::<_, String>(1),
        time(row.get(5)),
    );
    run.caller_id = row.get(2);
    run.channel_id = row.get(3);
    run.parent_run_id = row.get(4);
    run.finished_at = row.get::<_, Option<i64>>(6).map(time);
    run.status = RunStatus::from(row.get::<_, String>(7));
    run.tool_calls = count(8);
    run.runtime_seconds = row.get(9);
    run.total_input_tokens = count(10);
    run.total_output_tokens = count(11);
    run.total_thinking_tokens = count(12);
    run.inputs = object(row.get(13));
    run.output = row.get(14);
    run.error = row.get(15);
    run.owner_id = row.get(16);
    run.labels = labels(row.get(17));
    run
}
