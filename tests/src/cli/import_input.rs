//! Imports of files that were not written by an export.

use std::fs;
use std::io::Write;

use runtrail_audit::Storage;
use serde_json::{Value, json};

use crate::fixture::*;

fn line(id: &str, change: &dyn Fn(&mut Value)) -> String {
    let mut line = serde_json::to_value(finished_at(id, 5)).unwrap();
    line["events"] =
        json!([{"sequence": 0, "event_type": "said", "payload": null, "created_at": at(0)}]);
    change(&mut line);
    line.to_string()
}

fn with_payload(id: &str, payload: &str) -> String {
    line(id, &|_| ()).replace("\"payload\":null", &format!("\"payload\":{payload}"))
}

on_each_backend! {
    async fn numbers_that_cannot_be_stored_are_refused_with_their_line(database) {
        let cli = Cli::on(database).await;
        let refused = [
            ("18446744073709551616", "has more than 64 bits"),
            ("-9223372036854775809", "has more than 64 bits"),
            (
                "[1,{\"a\":100000000000000000000000000}]",
                "has more than 64 bits",
            ),
            ("1e-400", "is too small and would be stored as 0"),
            ("0.00e-400", ""),
            ("1e400", "is too large to be stored"),
            ("\"18446744073709551616\"", ""),
            (
                "[0,-0.0,1e20,18446744073709551615,-9223372036854775808,5e-324,\"\\\"1e-400\"]",
                "",
            ),
        ];
        let lines: Vec<_> = refused
            .iter()
            .enumerate()
            .map(|(number, (payload, _))| with_payload(&format!("run-{number}"), payload))
            .collect();
        fs::write(cli.path("lines"), lines.join("\n")).unwrap();
        let output = cli.output(&["import", "lines"]);
        let messages = stderr(&output);
        for (number, (payload, reason)) in refused.iter().enumerate() {
            let prefix = format!("line {}: ", number + 1);
            let message = messages.lines().find(|line| line.starts_with(&prefix));
            assert_eq!(
                message.is_some(),
                !reason.is_empty(),
                "{payload}: {messages}"
            );
            assert!(
                message.unwrap_or_default().contains(reason),
                "{payload}: {messages}"
            );
            let stored = cli.store.get_run(&format!("run-{number}")).await;
            assert_eq!(stored.is_ok(), reason.is_empty(), "{payload}");
        }
    }

    async fn duplicate_keys_are_refused_with_their_line(database) {
        let cli = Cli::on(database).await;
        let plain = line("r", &|_| ());
        let lines = [
            with_payload("r", r#"{"a":1,"b":{"c":1,"c":2}}"#),
            plain.replacen("\"output\":", "\"output\":\"\",\"output\":", 1),
            plain.replacen("\"inputs\":{", "\"inputs\":{\"x\":1,\"x\":2,", 1),
            plain.replacen("\"events\":", "\"events\":[],\"events\":", 1),
            plain.replacen("\"sequence\":", "\"sequence\":1,\"sequence\":", 1),
        ];
        fs::write(cli.path("lines"), lines.join("\n")).unwrap();
        let output = cli.output(&["import", "lines"]);
        let messages = stderr(&output);
        for (number, key) in [
            (1, "c"),
            (2, "output"),
            (3, "x"),
            (4, "events"),
            (5, "sequence"),
        ] {
            let expected = format!("line {number}: the key \"{key}\" is given twice");
            assert!(messages.contains(&expected), "{expected}: {messages}");
        }
        cli.store.get_run("r").await.unwrap_err();
    }

    async fn a_byte_order_mark_is_reported(database) {
        let cli = Cli::on(database).await;
        let text = format!(
            "\u{FEFF}{}\n{}\n",
            line("first", &|_| ()),
            line("second", &|_| ())
        );
        fs::write(cli.path("lines"), text).unwrap();
        let output = cli.output(&["import", "lines"]);
        assert!(
            stderr(&output).starts_with("line 1: begins with a byte order mark"),
            "{}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("imported 1 run"),
            "{}",
            stderr(&output)
        );
    }

    async fn input_that_is_not_text_is_refused_with_a_command_that_converts_it(database) {
        let cli = Cli::on(database).await;
        let text = line("r", &|_| ());
        let utf_16 =
            |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        for (bytes, what, how) in [
            (
                b"\x1F\x8B\x08\x00".to_vec(),
                "compressed by gzip",
                "gzip -dc",
            ),
            (
                b"\x28\xB5\x2F\xFD\x00".to_vec(),
                "compressed by zstd",
                "zstd -dc",
            ),
            (b"\xFD7zXZ\x00\x00".to_vec(), "compressed by xz", "xz -dc"),
            (
                [&[0xFF, 0xFE][..], &utf_16(u16::to_le_bytes)].concat(),
                "in UTF-16",
                "iconv -f UTF-16",
            ),
            (utf_16(u16::to_le_bytes), "in UTF-16", "iconv -f UTF-16LE"),
            (utf_16(u16::to_be_bytes), "in UTF-16", "iconv -f UTF-16BE"),
        ] {
            fs::write(cli.path("input"), bytes).unwrap();
            let message = cli.fails(1, &["import", "input"]);
            assert!(message.contains(what) && message.contains(how), "{message}");
        }
    }

    async fn many_bad_lines_are_counted_but_not_all_listed(database) {
        let cli = Cli::on(database).await;
        fs::write(cli.path("log"), "no JSON\n".repeat(5_000)).unwrap();
        let output = cli.output(&["import", "log"]);
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(
            message.contains("line 100: ") && !message.contains("line 101: "),
            "{message}"
        );
        assert!(
            message.contains("more lines can't be imported; they are only counted\n"),
            "{message}"
        );
        assert!(
            message.ends_with("error: 5,000 lines could not be imported\n"),
            "{message}"
        );
    }

    async fn an_import_keeps_no_refused_values_in_memory(database) {
        let cli = Cli::on(database).await;
        let mut file = fs::File::create(cli.path("lines")).unwrap();
        // Unknown members.
        let large = "x".repeat(40 << 20);
        write!(file, "{{\"id\":\"unknown\"").unwrap();
        for number in 0..4 {
            write!(file, ",\"unknown-{number}\":\"{large}\"").unwrap();
        }
        writeln!(file, "}}").unwrap();
        // Values that need far more memory than their text.
        let arrays = format!("[{}[]]", "[],".repeat(10 << 20));
        writeln!(file, "{}", with_payload("payload", &arrays)).unwrap();
        let inputs = line("inputs", &|run| run["inputs"] = json!({}));
        writeln!(
            file,
            "{}",
            inputs.replace("\"inputs\":{}", &format!("\"inputs\":{{\"a\":{arrays}}}"))
        )
        .unwrap();
        let output = line("output", &|_| ());
        writeln!(file, "{}", output.replace("\"because\"", &arrays)).unwrap();
        drop(file);
        let child = cli.command(&["import", "lines"]).spawn().unwrap();
        let (output, peak) = output_and_peak(child).await;
        let messages = stderr(&output);
        for (number, reason) in [
            (1, "unknown field \"unknown-0\" in a run"),
            (2, "payload has more than 16777216 bytes"),
            (3, "inputs has more than 16777216 bytes"),
            (4, "expected a string, a number or null"),
        ] {
            let message = messages
                .lines()
                .find(|line| line.starts_with(&format!("line {number}: ")));
            assert!(
                message.unwrap_or_default().contains(reason),
                "{reason}: {messages}"
            );
        }
        assert!(peak < 64 << 10, "{peak} KiB");
    }

    async fn a_temporary_file_that_cannot_be_created_is_reported_as_such(database) {
        let cli = Cli::on(database).await;
        let output = "x".repeat(9 << 20);
        fs::write(
            cli.path("lines"),
            line("r", &|run| run["output"] = json!(output)),
        )
        .unwrap();
        let nowhere = cli.path("nowhere");
        let output = cli
            .command(&["import", "lines"])
            .env("TMPDIR", &nowhere)
            .output()
            .unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(
            message.contains(&nowhere.display().to_string()) && message.contains("set TMPDIR"),
            "{message}"
        );
        assert!(!message.contains("lines can't be read"), "{message}");
        assert!(cli.output(&["import", "lines"]).status.success());
    }
}
