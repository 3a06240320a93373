//! `exec --otel`, and `TRACEPARENT`.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use runtrail_audit::{RunStatus, RunTree, SkillRun, StagedRecord, Staging};
use serde_json::json;

use crate::fixture::*;
use crate::telemetry::exporter::{Span, post, span_id, traces};

/// The agent whose span the child below sends.
const AGENT: u64 = 7;

/// Sends the spans of an agent to where the variables of OpenTelemetry say.
#[test]
#[ignore = "a child process of the cases below"]
fn child_that_sends_spans() {
    let endpoint = env::var("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap();
    let context = env::var("TRACEPARENT").unwrap();
    let parts: Vec<_> = context.split('-').collect();
    let trace = u128::from_str_radix(parts[1], 16).unwrap();
    let parent = u64::from_str_radix(parts[2], 16).unwrap();
    let text = |text: &str| json!([{"role": "user", "content": text}]);
    let agent = Span::agent(AGENT, "researcher").below(parent).with(json!({
        "gen_ai.input.messages": text("a secret question"),
        "gen_ai.output.messages": text("a secret answer"),
    }));
    let call = Span::chat(8, 10).below(AGENT).during(1_000, 2_000);
    let send = async |spans: &[Span]| {
        let url = format!("{endpoint}/v1/traces");
        let answer = post(&url, &traces(trace, spans)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    runtime().block_on(async {
        send(&[call]).await;
        send(&[agent]).await;
    });
}

/// Runs a script under `runtrail exec` with these options. In it, `$SEND` is the child above.
fn exec(cli: &Cli, options: &[&str], script: &str, variables: &[(&str, &str)]) -> Output {
    let arguments = [&["exec"], options, &["--", "sh", "-c", script]].concat();
    let suite = env::current_exe().unwrap();
    let suite = suite.display();
    let mut command = cli.command(&arguments);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || text.starts_with("CLAUDE_CODE_") || text == "TRACEPARENT" {
            command.env_remove(name);
        }
    }
    command
        .env(
            "SEND",
            format!("{suite} --ignored --exact --quiet cli::exec_otel::child_that_sends_spans"),
        )
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    output
}

/// Returns the run of the agent, which is the only child of this run.
async fn agent_below(cli: &Cli, id: &str) -> SkillRun {
    let subtree = cli.store.list_subtree(id).await.unwrap();
    let mut below = subtree.into_iter().filter(|run| run.id != id);
    let agent = cli
        .run(&below.next().expect("the agent is not recorded").id)
        .await;
    assert!(below.next().is_none());
    assert_eq!(agent.parent_run_id.as_deref(), Some(id));
    agent
}

/// Returns what is staged for the span that the program of this run has printed.
async fn announced(cli: &Cli, run: &str) -> Vec<StagedRecord> {
    let printed = String::from_utf8(cli.printed_by(run, "stdout").await).unwrap();
    let parts: Vec<_> = printed.trim().split('-').collect();
    cli.store
        .find_staged(parts[1], &[parts[2].to_owned()])
        .await
        .unwrap()
}

on_each_backend! {
    async fn the_agents_of_a_program_become_children_of_its_run(database) {
        let cli = Cli::on(database).await;
        exec(&cli, &["--otel", "--id", "r"], "$SEND; echo done", &[]);
        let run = cli.run("r").await;
        assert_eq!(run.status, RunStatus::OK);
        let agent = agent_below(&cli, "r").await;
        assert!(agent.id.ends_with(&span_id(AGENT)), "{}", agent.id);
        assert_eq!((agent.skill_id.as_str(), &agent.status), ("researcher", &RunStatus::OK));
        assert_eq!(agent.output, "a secret answer");
        assert_eq!(agent.total_input_tokens, 10);
        assert_eq!(cli.events(&agent.id).await.len(), 1);
        let tree = cli.succeeds(&["tree", "r"]);
        assert!(tree.contains("researcher"), "{tree}");
    }

    async fn without_content_the_texts_of_agents_are_left_out(database) {
        let cli = Cli::on(database).await;
        let script = "$SEND >/dev/null; env | grep -c CAPTURE_MESSAGE_CONTENT";
        let script = format!("{script} || true");
        exec(&cli, &["--otel", "--no-content", "--id", "r"], &script, &[]);
        assert_eq!(cli.printed_by("r", "stdout").await, b"0\n");
        let agent = agent_below(&cli, "r").await;
        assert_eq!(agent.skill_id, "researcher");
        assert!(!format!("{agent:?}").contains("secret"), "{agent:#?}");
    }

    async fn variables_of_the_user_are_kept(database) {
        let cli = Cli::on(database).await;
        let user = [
            ("OTEL_BSP_SCHEDULE_DELAY", "7"),
            ("OTEL_METRICS_EXPORTER", "console"),
            ("OTEL_RESOURCE_ATTRIBUTES", "team=a"),
            // These would send the telemetry elsewhere.
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://example.com"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://example.com"),
            ("OTEL_SDK_DISABLED", "true"),
        ];
        exec(&cli, &["--otel", "--id", "r"], "env", &user);
        let printed = String::from_utf8(cli.printed_by("r", "stdout").await).unwrap();
        let value = |name: &str| {
            let mut lines = printed.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        assert_eq!(value("OTEL_BSP_SCHEDULE_DELAY"), Some("7"));
        assert_eq!(value("OTEL_METRICS_EXPORTER"), Some("console"));
        assert_eq!(value("OTEL_TRACES_EXPORTER"), Some("otlp"));
        assert_eq!(value("OTEL_RESOURCE_ATTRIBUTES"), Some("team=a,runtrail.run_id=r"));
        assert_eq!(value("CLAUDE_CODE_ENABLE_TELEMETRY"), Some("1"));
        let endpoint = value("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap();
        assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
        for name in ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"] {
            assert_eq!(value(name), None, "{name}");
        }
    }

    async fn settings_for_another_receiver_are_removed(database) {
        let cli = Cli::on(database).await;
        let mut names = Vec::new();
        for signal in ["", "TRACES_", "LOGS_", "METRICS_"] {
            for setting in [
                "ENDPOINT",
                "PROTOCOL",
                "HEADERS",
                "COMPRESSION",
                "CERTIFICATE",
                "CLIENT_CERTIFICATE",
                "CLIENT_KEY",
            ] {
                names.push(format!("OTEL_EXPORTER_OTLP_{signal}{setting}"));
            }
        }
        let user: Vec<_> = names.iter().map(|name| (name.as_str(), "of-another")).collect();
        exec(&cli, &["--otel", "--id", "r"], "env", &user);
        let printed = String::from_utf8(cli.printed_by("r", "stdout").await).unwrap();
        assert!(printed.contains("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:"), "{printed}");
        assert!(!printed.contains("of-another"), "{printed}");
    }

    async fn codex_gets_arguments(database) {
        let cli = Cli::on(database).await;
        let codex = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n";
        fs::write(cli.path("codex"), codex).unwrap();
        let executable = Permissions::from_mode(0o755);
        fs::set_permissions(cli.path("codex"), executable).unwrap();
        let output = cli.output(&["exec", "--otel", "--id", "r", "--", "./codex", "exec", "why?"]);
        let printed = stdout(&output);
        let arguments: Vec<_> = printed.lines().collect();
        assert_eq!(arguments.len(), 8, "{printed}");
        for (place, setting) in
            [(1, "otel.exporter="), (3, "otel.trace_exporter="), (5, "otel.log_user_prompt=true")]
        {
            assert_eq!(arguments[place - 1], "-c");
            assert!(arguments[place].starts_with(setting), "{printed}");
        }
        assert!(arguments[1].contains("/v1/logs\"") && arguments[3].contains("/v1/traces\""));
        assert_eq!(arguments[6..], ["exec", "why?"]);
    }

    async fn a_program_continues_the_trace_of_the_environment(database) {
        let cli = Cli::on(database).await;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let context = format!("00-{trace}-b7ad6b7169203331-01");
        let options = ["--otel", "--id", "r"];
        exec(&cli, &options, "echo $TRACEPARENT; $SEND", &[("TRACEPARENT", &context)]);
        let agent = agent_below(&cli, "r").await;
        assert_eq!(agent.id, format!("{trace}-{}", span_id(AGENT)));
        let printed = String::from_utf8(cli.printed_by("r", "stdout").await).unwrap();
        let given = printed.lines().next().unwrap();
        assert!(given.starts_with(&format!("00-{trace}-")), "{given}");
        assert!(!given.contains("b7ad6b7169203331"), "{given}");
    }

    async fn a_receiver_elsewhere_learns_which_run_a_program_belongs_to(database) {
        let cli = Cli::on(database).await;
        let script = "echo $TRACEPARENT";
        for signal in ["", "TRACES_", "LOGS_", "METRICS_"] {
            let variable = format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT");
            let run = format!("r-{signal}");
            exec(&cli, &["--id", &run], script, &[(&variable, "http://127.0.0.1:1")]);
            let records = announced(&cli, &run).await;
            let runs: Vec<_> = records.iter().map(|record| record.run_id.as_deref()).collect();
            assert_eq!(runs, [Some(run.as_str())], "{variable}");
        }
        exec(&cli, &["--id", "r"], script, &[]);
        assert_eq!(announced(&cli, "r").await, []);
    }

    async fn without_otel_a_program_gets_only_the_trace(database) {
        let cli = Cli::on(database).await;
        exec(&cli, &["--id", "r"], "env", &[]);
        let printed = String::from_utf8(cli.printed_by("r", "stdout").await).unwrap();
        let variables: Vec<_> = printed
            .lines()
            .filter(|line| line.starts_with("OTEL_") || line.starts_with("CLAUDE_CODE_"))
            .collect();
        assert_eq!(variables, Vec::<&str>::new());
        let context = printed.lines().find_map(|line| line.strip_prefix("TRACEPARENT="));
        let parts: Vec<_> = context.unwrap().split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2]);
    }
}
