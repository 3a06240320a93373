use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;
use runtrail::otlp::{Policy, Receiver, ReceiverOptions, RouterOptions, guarded, router};
use runtrail::web::{self, FullAccess, WebOptions};
use runtrail::{History, Owner, keep_alive};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::database::DatabaseArguments;
use crate::failure::{Failure, Result};
use crate::warnings::note;

/// The id of the owner of all runs that receivers record. Those of a receiver that has ended belong
/// to the next one, so that it can still finish them.
const OWNER: &str = "runtrail-serve";

/// How long requests that have begun may take once the process is told to end.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// How long storing the last records may take.
const FLUSH: Duration = Duration::from_secs(5);

/// Show the history in a browser, and receive the telemetry of agents over OTLP/HTTP.
///
/// The page with the runs is at http://127.0.0.1:4318/.
///
/// Programs that use OpenTelemetry send their spans and logs here if OTEL_EXPORTER_OTLP_ENDPOINT is
/// http://127.0.0.1:4318 and OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf or http/json. The
/// response 200 means that a request is stored. To record a single program, `exec --otel` is
/// simpler.
///
/// GET /healthz and /readyz are for probes. There is no TLS: use a proxy. SIGTERM and ^C end the
/// process after the requests that have begun.
#[derive(Args)]
pub(crate) struct Serve {
    /// The IP address and port to listen on. An address that isn't a loopback address needs
    /// --token-file.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4318")]
    listen: SocketAddr,
    /// Require the header `Authorization: Bearer TOKEN`, with the token in this file. Browsers ask
    /// for it as a password; the user name doesn't matter.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Accept requests that are addressed to this name; can be given several times. Requests to
    /// localhost are always accepted, and with --token-file all of them.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Leave out prompts, answers, and the arguments and results of tools.
    #[arg(long)]
    no_content: bool,
}

impl Serve {
    pub(crate) async fn run(self, database: &DatabaseArguments) -> Result<()> {
        let options = self.router_options()?;
        // Before the port is open, so that no signal ends the process without a last flush.
        let (mut terminated, mut interrupted) = signals()?;
        let owner = format!("runtrail serve, process {}", std::process::id());
        let store = database.open_shared().await?;
        let store = store.with_owner(Owner::new(owner).id(OWNER));
        let history: Arc<dyn History> = Arc::new(store);
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(|err| Failure::failed(format!("can't listen on {}: {err}", self.listen)))?;
        let policy = match self.no_content {
            true => Policy::default().without_content(),
            false => Policy::default(),
        };
        let receiver = Receiver::new(history.clone(), ReceiverOptions::new().policy(policy));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = stopped.map(drop).shared();
        let options_of_page = WebOptions::new(FullAccess).shutdown(stopped.clone());
        let page = web::router(history.clone(), options_of_page);
        let routes = guarded(page, &options).merge(router(Arc::new(receiver.clone()), options));
        let heartbeats = tokio::spawn(async move { keep_alive(&*history).await });
        let address = listener.local_addr().unwrap_or(self.listen);
        note(format!(
            "listening on http://{address} (open it in a browser to see the history)"
        ));

        let server = axum::serve(listener, routes).with_graceful_shutdown(stopped);
        let mut server = tokio::spawn(server.into_future());
        tokio::select! {
            ended = &mut server => {
                let reason = match ended {
                    Ok(Ok(())) => "it ended".to_owned(),
                    Ok(Err(err)) => err.to_string(),
                    Err(err) => err.to_string(),
                };
                return Err(Failure::failed(format!("the server failed: {reason}")));
            }
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        let _ = stop.send(());
        if timeout(LAST_REQUESTS, &mut server).await.is_err() {
            server.abort();
        }
        let flushed = receiver.flush(FLUSH).await;
        heartbeats.abort();
        // The rest stays staged, and the next receiver stores it.
        if let Err(err) = flushed {
            note(format!(
                "warning: not everything is stored as runs yet: {err}"
            ));
        }
        Ok(())
    }

    fn router_options(&self) -> Result<RouterOptions> {
        let mut options = RouterOptions::default();
        for host in &self.allow_host {
            options = options.allow_host(host);
        }
        let Some(file) = &self.token_file else {
            return match self.listen.ip().is_loopback() {
                true => Ok(options),
                false => Err(Failure::usage(format!(
                    "{} can be reached from other machines: give a --token-file",
                    self.listen
                ))),
            };
        };
        let token = fs::read_to_string(file)
            .map_err(|err| Failure::failed(format!("{} can't be read: {err}", file.display())))?;
        let token = token.trim();
        if token.is_empty() {
            return Err(Failure::usage(format!("{} has no token", file.display())));
        }
        // No request could have it.
        if token.contains(|it: char| it.is_control() || !it.is_ascii()) {
            return Err(Failure::usage(format!(
                "the token in {} must be a single line of ASCII characters",
                file.display()
            )));
        }
        Ok(options.bearer_token(token).allow_any_host())
    }
}

fn signals() -> Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    let handler = |kind| {
        signal(kind)
            .map_err(|err| Failure::failed(format!("signal handlers can't be installed: {err}")))
    };
    Ok((
        handler(SignalKind::terminate())?,
        handler(SignalKind::interrupt())?,
    ))
}
