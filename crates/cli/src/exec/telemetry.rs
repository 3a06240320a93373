//! Receives the telemetry of the recorded program (`--otel`).

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runtrail::otlp::{HostRun, Policy, Receiver, ReceiverOptions, RouterOptions, router};
use runtrail::{AuditStore, Error, new_run_id};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long requests that have begun may take once the program has ended.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// How long the processes that the program has left behind may still send.
const LINGER: Duration = Duration::from_millis(300);

/// How long storing may take afterwards.
const DRAIN: Duration = Duration::from_secs(10);

/// A receiver for the time of a run.
pub(super) struct Telemetry {
    endpoint: String,
    receiver: Receiver,
    stop: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
    has_content: bool,
}

impl Telemetry {
    /// Starts a receiver on a free port of this machine.
    pub(super) async fn start(
        store: AuditStore,
        host_run: HostRun,
        has_content: bool,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        // Other users of this machine don't know the path, unless it is in the arguments of Codex.
        let path = format!("/{}", new_run_id());
        let endpoint = format!("http://{}{path}", listener.local_addr()?);
        let policy = match has_content {
            true => Policy::default(),
            false => Policy::default().without_content(),
        };
        let options = ReceiverOptions::new().policy(policy).host_run(host_run);
        let receiver = Receiver::new(Arc::new(store), options);
        let routes = router(Arc::new(receiver.clone()), RouterOptions::default());
        let routes = axum::Router::new().nest(&path, routes);
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, routes).with_graceful_shutdown(async {
            // Also if the sender is dropped.
            let _ = stopped.await;
        });
        Ok(Self {
            endpoint,
            receiver,
            stop,
            server: tokio::spawn(server.into_future()),
            has_content,
        })
    }

    /// Returns the variables that make programs send their telemetry here. Keeps the user's
    /// settings, except the destination.
    pub(super) fn variables(&self, run_id: &str) -> Vec<(&'static str, Option<String>)> {
        let removed = EXPORTER.iter().chain(&SWITCHES);
        let mut variables: Vec<_> = removed.map(|name| (*name, None)).collect();
        let mut set = |name, value: &str| variables.push((name, Some(value.to_owned())));
        set("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint);
        set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        set("OTEL_TRACES_EXPORTER", "otlp");
        set("OTEL_LOGS_EXPORTER", "otlp");
        let resource = env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let separator = if resource.is_empty() { "" } else { "," };
        let resource = format!("{resource}{separator}runtrail.run_id={}", encoded(run_id));
        set("OTEL_RESOURCE_ATTRIBUTES", &resource);
        let defaults = DEFAULTS.iter();
        let content = CONTENT.iter().filter(|_| self.has_content);
        for (name, value) in defaults.chain(content) {
            if env::var_os(name).is_none() {
                set(name, value);
            }
        }
        variables
    }

    /// Returns the arguments of the program, for one that takes its settings from there.
    pub(super) fn arguments(&self, command: &[OsString]) -> Vec<OsString> {
        let Some((program, arguments)) = command.split_first() else {
            return Vec::new();
        };
        let mut all = vec![program.clone()];
        if Path::new(program)
            .file_name()
            .is_some_and(|name| name == "codex")
        {
            let exporter = |signal| {
                let endpoint = format!("{}/v1/{signal}", self.endpoint);
                format!("{{otlp-http={{endpoint=\"{endpoint}\",protocol=\"binary\"}}}}")
            };
            for setting in [
                format!("otel.exporter={}", exporter("logs")),
                format!("otel.trace_exporter={}", exporter("traces")),
                format!("otel.log_user_prompt={}", self.has_content),
            ] {
                all.extend(["-c".into(), setting.into()]);
            }
        }
        all.extend(arguments.iter().cloned());
        all
    }

    /// Waits for the last batch, and stores everything that was received. Returns whether there was
    /// anything.
    pub(super) async fn finish(self) -> Result<bool, Error> {
        tokio::time::sleep(LINGER).await;
        let _ = self.stop.send(());
        let abort = self.server.abort_handle();
        if timeout(LAST_REQUESTS, self.server).await.is_err() {
            abort.abort();
        }
        self.receiver.finish(DRAIN).await?;
        Ok(self.receiver.has_received())
    }
}

/// Whether the environment sends telemetry to a receiver.
pub(super) fn is_sent_elsewhere() -> bool {
    ENDPOINTS.iter().any(|name| env::var_os(name).is_some())
}

/// Expands to the names of exporter settings: for all signals, then for each one.
macro_rules! exporter_settings {
    ($($setting:literal),*) => {
        [$(
            concat!("OTEL_EXPORTER_OTLP_", $setting),
            concat!("OTEL_EXPORTER_OTLP_TRACES_", $setting),
            concat!("OTEL_EXPORTER_OTLP_LOGS_", $setting),
            concat!("OTEL_EXPORTER_OTLP_METRICS_", $setting),
        )*]
    };
}

const ENDPOINTS: [&str; 4] = exporter_settings!["ENDPOINT"];

/// Settings that apply to the user's own receiver.
const EXPORTER: [&str; 28] = exporter_settings![
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "COMPRESSION",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY"
];

/// Settings that would send no telemetry, or only some.
const SWITCHES: [&str; 2] = ["OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"];

/// Settings that switch telemetry on, and send it soon: a program may be killed.
const DEFAULTS: [(&str, &str); 7] = [
    ("OTEL_METRICS_EXPORTER", "none"),
    ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "1000"),
    ("CLAUDE_CODE_ENABLE_TELEMETRY", "1"),
    ("CLAUDE_CODE_ENHANCED_TELEMETRY_BETA", "1"),
    ("OTEL_TRACES_EXPORT_INTERVAL", "1000"),
    ("OTEL_LOGS_EXPORT_INTERVAL", "1000"),
];

/// Settings that include prompts, answers, and arguments and results of tools.
const CONTENT: [(&str, &str); 5] = [
    (
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "gen_ai_latest_experimental",
    ),
    (
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        "SPAN_ONLY",
    ),
    ("OTEL_LOG_USER_PROMPTS", "1"),
    ("OTEL_LOG_TOOL_DETAILS", "1"),
    ("OTEL_LOG_TOOL_CONTENT", "1"),
];

/// Encodes a value of `OTEL_RESOURCE_ATTRIBUTES`.
fn encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
