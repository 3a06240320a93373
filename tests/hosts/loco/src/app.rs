use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use loco_rs::Result;
use loco_rs::app::{AppContext, Hooks, Initializer};
use loco_rs::bgworker::Queue;
use loco_rs::boot::{BootResult, ServeParams, StartMode, create_app, start};
use loco_rs::config::Config;
use loco_rs::controller::AppRoutes;
use loco_rs::environment::Environment;
use loco_rs::task::Tasks;
use runtrail::Recorder;
use serde_json::json;

use crate::history::{self, ShowHistory};
use crate::jobs::AnswerWorker;
use crate::migrator::Migrator;
use crate::{jobs, login};

/// How long the application waits for events to be written when it stops.
const FLUSH: Duration = Duration::from_secs(10);

pub(crate) struct App;

#[async_trait]
impl Hooks for App {
    fn app_name() -> &'static str {
        "runtrail-host-loco"
    }

    async fn boot(
        mode: StartMode,
        environment: &Environment,
        config: Config,
    ) -> Result<BootResult> {
        create_app::<Self, Migrator>(mode, environment, config).await
    }

    async fn initializers(_ctx: &AppContext) -> Result<Vec<Box<dyn Initializer>>> {
        Ok(vec![Box::new(ShowHistory)])
    }

    fn routes(_ctx: &AppContext) -> AppRoutes {
        AppRoutes::with_default_routes()
            .add_route(login::routes())
            .add_route(jobs::routes())
    }

    async fn connect_workers(ctx: &AppContext, queue: &Queue) -> Result<()> {
        queue.register(AnswerWorker::new(ctx)).await
    }

    fn register_tasks(_tasks: &mut Tasks) {}

    async fn truncate(_ctx: &AppContext) -> Result<()> {
        Ok(())
    }

    async fn seed(_ctx: &AppContext, _path: &Path) -> Result<()> {
        Ok(())
    }
}

/// Migrates the database, and builds the application.
pub(crate) async fn boot(url: &str, mode: StartMode) -> Result<BootResult> {
    App::boot(mode, &Environment::Test, config(url)?).await
}

/// Serves the application, and runs its jobs, until the process receives a signal.
pub(crate) async fn serve(url: &str, port: u16) -> Result<()> {
    let booted = boot(url, StartMode::ServerAndWorker).await?;
    let recorder: Recorder = history::recorder(&booted.app_context)?;
    let address = ServeParams {
        port: port.into(),
        binding: "127.0.0.1".to_owned(),
    };
    start::<App>(booted, address, true).await?;
    // Only now has the last job ended.
    let unwritten = recorder.shutdown(FLUSH).await;
    if !unwritten.is_empty() {
        return Err(loco_rs::Error::string(&format!(
            "not recorded: {unwritten:?}"
        )));
    }
    Ok(())
}

/// The `config/development.yaml` of a new Loco application, with a queue in the database.
fn config(url: &str) -> Result<Config> {
    let is_sqlite = url.starts_with("sqlite:");
    let config = json!({
        "logger": {"enable": false, "level": "off", "format": "compact"},
        "server": {
            "binding": "localhost", "port": 0, "host": "http://localhost", "middlewares": {},
        },
        "database": {
            "uri": url, "enable_logging": false, "min_connections": 1, "max_connections": 1,
            "connect_timeout": 5_000, "idle_timeout": 5_000, "auto_migrate": true,
        },
        "workers": {"mode": "BackgroundQueue"},
        "queue": {
            "kind": if is_sqlite { "Sqlite" } else { "Postgres" }, "uri": url,
            "max_connections": 2, "num_workers": 2,
        },
        "auth": {"jwt": {
            "location": {"from": "Cookie", "name": login::COOKIE},
            "secret": "YSBzZWNyZXQgb2YgdGhpcyB0ZXN0", "expiration": 3_600,
        }},
    });
    Ok(serde_json::from_value(config)?)
}
