//! `serve`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr};
use std::time::{Duration, Instant};

use runtrail_audit::RunStatus;
use serde_json::json;

use crate::fixture::*;
use crate::telemetry::exporter::{Span, get, post, request, run_id, traces};

/// A receiver that listens on a free port.
pub(super) struct Serve {
    process: Child,
    stderr: BufReader<ChildStderr>,
    pub(super) url: String,
}

impl Serve {
    pub(super) fn start(cli: &Cli, arguments: &[&str]) -> Self {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let mut process = cli
            .command_by(WITH_DEFAULT_SIGNALS, &arguments)
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let (_, url) = line
            .trim()
            .split_once("listening on ")
            .unwrap_or_else(|| panic!("{line}"));
        let (url, _) = url.split_once(' ').unwrap();
        Self {
            url: url.to_owned(),
            process,
            stderr,
        }
    }

    async fn send(&self, trace: u128, spans: &[Span]) {
        let url = format!("{}/v1/traces", self.url);
        let answer = post(&url, &traces(trace, spans)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Sends a signal, expects success, and returns what else the process has printed.
    pub(super) fn end(mut self, signal: &str) -> String {
        send(signal, &self.process.id().to_string());
        let status = ended(&mut self.process);
        assert_eq!(status.code(), Some(0), "{status}");
        self.stderr
            .lines()
            .map(|line| line.unwrap() + "\n")
            .collect()
    }
}

on_each_backend! {
    async fn serve_records_what_it_has_acknowledged_before_it_ends(database) {
        let cli = Cli::on(database).await;
        let serve = Serve::start(&cli, &[]);
        for probe in ["healthz", "readyz"] {
            assert_eq!(get(&format!("{}/{probe}", serve.url)).await.status, 200);
        }
        let agent = Span::agent(1, "researcher").with(json!({"gen_ai.completion": "because"}));
        serve.send(1, &[agent, Span::chat(2, 10).below(1)]).await;
        assert_eq!(serve.end("TERM"), "");
        let listed = cli.json(&["list", "--json"]);
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0]["skill_id"], "researcher");
        assert_eq!(listed[0]["total_input_tokens"], 10);
        let run = cli.run(&run_id(1, 1)).await;
        assert_eq!((&run.status, run.output.as_str()), (&RunStatus::OK, "because"));

        // What still waits is recorded by the next one.
        let serve = Serve::start(&cli, &["--no-content"]);
        serve.send(2, &[Span::chat(2, 10).below(1)]).await;
        assert_eq!(serve.end("INT"), "");
        assert_eq!(cli.json(&["list", "--json"]).len(), 1);
        let serve = Serve::start(&cli, &["--no-content"]);
        let agent = Span::agent(1, "second").with(json!({"gen_ai.completion": "a secret"}));
        serve.send(2, &[agent]).await;
        serve.end("TERM");
        let run = cli.run(&run_id(2, 1)).await;
        assert_eq!((run.skill_id.as_str(), run.total_input_tokens), ("second", 10));
        assert_eq!(run.output, "");
    }

    async fn serve_with_a_token_requires_it(database) {
        let cli = Cli::on(database).await;
        let refused = cli.fails(2, &["serve", "--listen", "0.0.0.0:0"]);
        assert!(refused.contains("--token-file"), "{refused}");
        std::fs::write(cli.path("empty"), "\n").unwrap();
        let refused = cli.fails(2, &["serve", "--listen", "0.0.0.0:0", "--token-file", "empty"]);
        assert!(refused.contains("has no token"), "{refused}");
        std::fs::write(cli.path("lines"), "a\nb\n").unwrap();
        let refused = cli.fails(2, &["serve", "--token-file", "lines"]);
        assert!(refused.contains("a single line"), "{refused}");
        cli.fails(1, &["serve", "--token-file", "missing"]);

        std::fs::write(cli.path("token"), "open sesame\n").unwrap();
        let serve = Serve::start(&cli, &["--token-file", "token"]);
        let url = format!("{}/v1/traces", serve.url);
        let body = traces(1, &[Span::agent(1, "agent")]).to_string();
        for (header, expected) in [
            ("", 401),
            ("Authorization: Bearer close sesame\r\n", 401),
            ("Authorization: Bearer open sesame\r\n", 200),
        ] {
            let answer = request("POST", &url, header, &body).await.unwrap();
            assert_eq!(answer.status, expected, "{header}");
        }
        assert_eq!(get(&format!("{}/healthz", serve.url)).await.status, 200);
        let page = format!("{}/", serve.url);
        let refused = get(&page).await;
        assert_eq!(refused.status, 401);
        assert!(refused.header("www-authenticate").unwrap().starts_with("Basic "));
        // Any user, with the token as the password.
        let password = "Authorization: Basic YW55OnBlbiBzZXNhbWU=\r\n";
        assert_eq!(request("GET", &page, password, "").await.unwrap().status, 401);
        let password = "Authorization: Basic YW55Om9wZW4gc2VzYW1l\r\n";
        assert_eq!(request("GET", &page, password, "").await.unwrap().status, 200);
        serve.end("TERM");
        assert_eq!(cli.json(&["list", "--json"]).len(), 1);
    }

    async fn serve_shows_the_history_in_a_browser(database) {
        let cli = Cli::on(database).await;
        let serve = Serve::start(&cli, &[]);
        let agent = Span::agent(1, "researcher");
        serve.send(1, &[agent, Span::chat(2, 10).below(1)]).await;
        let page = format!("{}/?show=all", serve.url);
        let give_up = Instant::now() + PATIENCE;
        while !get(&page).await.body.contains("researcher") {
            assert!(Instant::now() < give_up, "the run is not shown");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for path in ["statistics", "histogram", "api/v1/runs", &format!("runs/{}", run_id(1, 1))] {
            let answer = get(&format!("{}/{path}", serve.url)).await;
            assert_eq!(answer.status, 200, "{path}");
        }
        assert_eq!(get(&format!("{}/nowhere", serve.url)).await.status, 404);
        let elsewhere = request("GET", &page, "Host: evil.example.com\r\n", "").await;
        assert_eq!(elsewhere.unwrap().status, 403);
        assert_eq!(serve.end("INT"), "");
    }

    async fn serve_reports_a_port_that_is_taken(database) {
        let cli = Cli::on(database).await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let refused = cli.fails(1, &["serve", "--listen", &address]);
        assert!(refused.contains(&address), "{refused}");
    }
}
