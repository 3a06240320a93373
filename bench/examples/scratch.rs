#![allow(warnings)]
use runtrail_store::AuditStore;
use runtrail_store::audit::*;
use std::time::Instant;
#[tokio::main(worker_threads = 2)]
async fn main() {
    tokio::spawn(go()).await.unwrap();
}
async fn go() {
    let url = "postgres://postgres@127.0.0.1:54329/scratch";
    let which = std::env::args().nth(1).unwrap();
    let store = AuditStore::connect(url).await.unwrap();
    store.initialize().await.unwrap();
    let n = 5000u64;
    let id = format!("r-{}", std::process::id());
    store
        .start_run(&SkillRun::new(id.as_str(), "s", store.now()))
        .await
        .unwrap();
    if which == "ours" {
        let t = Instant::now();
        for i in 0..n {
            store
                .append_log(&SkillRunLog::new(
                    id.as_str(),
                    i,
                    "message",
                    serde_json::json!({"a": "x".repeat(200)}),
                ))
                .await
                .unwrap();
        }
        println!("ours {:?}", t.elapsed() / n as u32);
    } else if which == "direct" {
        let db = runtrail_store::ConnectOptions::new(url)
            .open()
            .await
            .unwrap();
        let store = AuditStore::new(db);
        store.get_run(&id).await.unwrap();
        let t = Instant::now();
        for i in 0..n {
            store
                .append_log(&SkillRunLog::new(
                    id.as_str(),
                    i,
                    "message",
                    serde_json::json!({"a": "x".repeat(200)}),
                ))
                .await
                .unwrap();
        }
        println!("direct {:?}", t.elapsed() / n as u32);
    } else if which == "encode" {
        let t = Instant::now();
        for i in 0..n {
            let _ = std::hint::black_box(
                store
                    .append_log(&SkillRunLog::new(
                        "",
                        i,
                        "message",
                        serde_json::json!({"a": "x".repeat(200)}),
                    ))
                    .await,
            );
        }
        println!("encode {:?}", t.elapsed() / n as u32);
    } else if which == "sqlx" {
        let mut c = <sea_orm::sqlx::PgConnection as sea_orm::sqlx::Connection>::connect(url)
            .await
            .unwrap();
        let sql = r#"INSERT INTO "skill_run_logs" ("run_id", "sequence", "created_at", "event_type", "payload") SELECT $1, $2, $3, $4, $5 FROM "skill_runs" WHERE "skill_runs"."id" = $6 FOR KEY SHARE ON CONFLICT ("run_id", "sequence") DO NOTHING"#;
        let t = Instant::now();
        for i in 2 * n..3 * n {
            sea_orm::sqlx::query(sql)
                .bind(&id)
                .bind(i as i64)
                .bind(5i64)
                .bind("message")
                .bind("x".repeat(210))
                .bind(&id)
                .execute(&mut c)
                .await
                .unwrap();
        }
        println!("sqlx {:?}", t.elapsed() / n as u32);
    } else if which == "hand6" {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let sql = r#"INSERT INTO "skill_run_logs" ("run_id", "sequence", "created_at", "event_type", "payload") SELECT $1::text, $2::bigint, $3::bigint, $4::text, $5::text FROM "skill_runs" WHERE "skill_runs"."id" = $6 FOR KEY SHARE ON CONFLICT ("run_id", "sequence") DO NOTHING"#;
        let st = client.prepare(sql).await.unwrap();
        let t = Instant::now();
        for i in 2 * n..3 * n {
            client
                .execute(
                    &st,
                    &[&id, &(i as i64), &5i64, &"message", &"x".repeat(210), &id],
                )
                .await
                .unwrap();
        }
        println!("hand6 {:?}", t.elapsed() / n as u32);
    } else {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let sql = "INSERT INTO skill_run_logs (run_id, sequence, created_at, event_type, payload) SELECT $1::text, $2::bigint, $3::bigint, $4::text, $5::text FROM skill_runs WHERE id = $1 FOR KEY SHARE ON CONFLICT DO NOTHING";
        let st = client.prepare(sql).await.unwrap();
        let t = Instant::now();
        for i in 2 * n..3 * n {
            client
                .execute(
                    &st,
                    &[&id, &(i as i64), &5i64, &"message", &"x".repeat(210)],
                )
                .await
                .unwrap();
        }
        println!("tokio-postgres {:?}", t.elapsed() / n as u32);
    }
}
