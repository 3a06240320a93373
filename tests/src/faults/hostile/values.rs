use fastrand::Rng;
use runtrail_audit::{BulkStorage, Page, RunFilter, RunStats, RunStatus, SkillRunLog, Storage};
use serde_json::{Map, Value, json};

use super::{ConnectionKinds, on_each_connection_kind};
use crate::faults::counts;
use crate::faults::sql_client::run_sql;
use crate::fixture::*;

const MIB: usize = 1 << 20;

/// Texts that are known to cause bugs.
fn texts() -> Vec<String> {
    let single = (0..0x300).chain(0x2000..0x2070).filter_map(char::from_u32);
    let mut texts: Vec<String> = single.map(String::from).collect();
    texts.extend(
        [
            "",
            "\0",
            "a\0b",
            "\0\0\0",
            "\\u0000",
            "\\ud800",
            "\\udfff\\ud800",
            "\\",
            "\\\\",
            "\"",
            "\\\"",
            "'",
            "''",
            "'; DROP TABLE skill_runs; --",
            "%",
            "_",
            "$1",
            "$$",
            "?",
            ":a",
            "@a",
            "{}",
            "[]",
            "null",
            "\"null\"",
            "E'\\x41'",
            "\u{feff}",
            "\u{fffd}",
            "\u{fffe}",
            "\u{ffff}",
            "\u{1fffe}",
            "\u{10ffff}",
            "\u{e000}",
            "\u{d7ff}",
            "\u{202e}abc\u{202c}",
            "\u{2066}\u{2069}",
            "\u{200b}\u{200d}",
            "e\u{301}",
            "é",
            "İıſß",
            "ﷺ",
            "👩‍👩‍👧‍👦",
            "🏳️‍🌈",
            "z\u{334}\u{335}\u{336}\u{337}",
            "\r\n",
            "\n",
            "\t",
            "\u{1b}[31m",
            "\u{7f}",
            "\u{85}",
            "\u{2028}\u{2029}",
            "0x10",
            "1e400",
            "NaN",
            "Infinity",
            "-0",
            "true",
            " leading and trailing ",
        ]
        .map(String::from),
    );
    texts
}

fn numbers() -> Vec<Value> {
    let powers = (0..64).map(|power| 1_u64 << power);
    let unsigned = powers
        .flat_map(|power| [power - 1, power, power + 1])
        .chain([u64::MAX, u64::MAX - 1])
        .map(Value::from);
    let signed = (0..63)
        .map(|power| -(1_i64 << power))
        .chain([i64::MIN, i64::MIN + 1])
        .map(Value::from);
    let floats = (-324..=308)
        .map(|power| format!("1e{power}").parse::<f64>().unwrap())
        .flat_map(|float| [float, -float])
        .chain([
            0.1,
            -0.0,
            0.1 + 0.2,
            1.0 / 3.0,
            5e-324,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            f64::EPSILON,
            9_007_199_254_740_993.0,
            1e15 + 0.5,
        ])
        .map(Value::from);
    unsigned.chain(signed).chain(floats).collect()
}

fn nested(levels: usize, kinds: [bool; 2]) -> Value {
    (1..levels).fold(json!([]), |inner, level| {
        if kinds[level % 2] {
            json!([inner])
        } else {
            json!({ "k": inner })
        }
    })
}

/// Returns a string whose JSON has this many bytes.
fn string_of_size(bytes: usize) -> Value {
    json!("x".repeat(bytes - 2))
}

/// Values of which some are stored and some refused.
fn collection() -> Vec<Value> {
    let mut values = vec![json!(null), json!(true), json!(false), json!([]), json!({})];
    for text in texts() {
        values.push(json!({ &text: [text, { "in": text }] }));
        values.push(json!(text));
    }
    values.extend(numbers());
    for levels in (1..=70).chain([100, 127, 128, 129, 1_000]) {
        values.extend(
            [[true, true], [false, false], [true, false]].map(|kinds| nested(levels, kinds)),
        );
    }
    let many: Map<String, Value> = (0..10_000)
        .map(|key| (format!("key {key}"), json!(key)))
        .collect();
    values.push(many.into());
    values.push((0..10_000).collect());
    values.push(json!({ "k".repeat(100_000): 1 }));
    // Just below and above the limit: NULs, each of which JSON escapes with six bytes; characters
    // of four bytes; and plain text.
    values.push(json!("\0".repeat(MIB / 6)));
    values.push(json!("\0".repeat(MIB / 6 + 1)));
    values.push(json!("😀".repeat(MIB / 4 - 1)));
    values.push(json!("😀".repeat(MIB / 4)));
    values.extend([MIB - 1, MIB, MIB + 1].map(string_of_size));
    values
}

fn random_value(rng: &mut Rng, depth: usize) -> Value {
    let text = |rng: &mut Rng| -> String {
        let length = rng.usize(..12);
        (0..length)
            .map(|_| {
                if rng.bool() {
                    rng.char(..)
                } else {
                    rng.char('\0'..'\u{80}')
                }
            })
            .collect()
    };
    match rng.u32(..if depth == 0 { 6 } else { 8 }) {
        0 => json!(null),
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        // NaN and infinities become null in JSON.
        3 => json!(f64::from_bits(rng.u64(..))),
        4 | 5 => json!(text(rng)),
        6 => (0..rng.usize(..5))
            .map(|_| random_value(rng, depth - 1))
            .collect(),
        _ => (0..rng.usize(..5))
            .map(|_| (text(rng), random_value(rng, depth - 1)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Returns the bytes of a column in each database, as hexadecimal digits.
fn stored_bytes(each: &ConnectionKinds, column: &str, rest: &str) -> [Vec<String>; 3] {
    let [sqlite, postgres, unprepared] = &each.urls;
    let on_postgres = format!("SELECT encode(convert_to({column}, 'UTF8'), 'hex') FROM {rest}");
    [
        run_sql(sqlite, &format!("SELECT lower(hex({column})) FROM {rest}")),
        run_sql(postgres, &on_postgres),
        run_sql(unprepared, &on_postgres),
    ]
}

#[track_caller]
fn assert_stored(each: &ConnectionKinds, column: &str, rest: &str, values: &[Value]) {
    let expected: Vec<String> = values.iter().map(|value| hex(&value.to_string())).collect();
    for stored in stored_bytes(each, column, rest) {
        assert!(stored == expected, "{column} differs from the given bytes");
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn collected_values_are_stored_to_the_byte_or_refused_on_both_backends() {
    on_each_connection_kind(async |each| {
        let values = collection();
        assert!(values.len() >= 2_000, "{}", values.len());
        each.call(async |store| store.start_run(&running("payloads")).await)
            .await
            .unwrap();
        let (mut payloads, mut inputs) = (Vec::new(), Vec::new());
        for value in &values {
            let event = with(event("payloads", payloads.len() as u64), |event| {
                event.payload = value.clone();
                event.created_at = Some(at(0));
            });
            if each
                .call(async |store| store.append_log(&event).await)
                .await
                .is_ok()
            {
                payloads.push(value.clone());
            }
            let run = running(&format!("run {:05}", inputs.len()))
                .inputs(object(json!({ "value": value })));
            if each
                .call(async |store| store.start_run(&run).await)
                .await
                .is_ok()
            {
                inputs.push(Value::Object(run.inputs));
            }
        }
        let refused = values.len() - payloads.len();
        // Three kinds of nesting, each with 65 to 70 levels and five larger depths; and three texts
        // of just over 1 MiB.
        assert_eq!(refused, 3 * (6 + 5) + 3, "{refused}");

        let read = each
            .call(async |store| store.list_logs_by_run("payloads").await)
            .await
            .unwrap();
        let read: Vec<Value> = read.into_iter().map(|event| event.payload).collect();
        assert!(read == payloads);
        assert_stored(
            each,
            "payload",
            "skill_run_logs ORDER BY sequence",
            &payloads,
        );

        let listed = each
            .call(async |store| store.list_runs_filtered(&RunFilter::new(), Page::ALL).await)
            .await
            .unwrap();
        assert_eq!(listed.len(), inputs.len() + 1);
        assert_stored(
            each,
            "inputs",
            "skill_runs WHERE id LIKE 'run%' ORDER BY id",
            &inputs,
        );
        eprintln!(
            "{} collected values: {} stored, {refused} refused on all",
            values.len(),
            payloads.len()
        );
    });
}

#[test]
fn collected_texts_are_stored_to_the_byte_or_refused_on_both_backends() {
    on_each_connection_kind(async |each| {
        let mut texts = texts();
        texts.extend([MIB - 1, MIB, MIB + 1].map(|size| "x".repeat(size)));
        texts.extend([MIB / 4, MIB / 4 + 1].map(|size| "😀".repeat(size)));
        texts.extend([254, 255, 256].map(|size| "x".repeat(size)));
        for (number, text) in texts.iter().enumerate() {
            // As free text and, if it is short enough, as every identifier.
            let id = format!("{number:05}");
            each.call(async |store| store.start_run(&running(&id)).await)
                .await
                .unwrap();
            let stats = RunStats::new(RunStatus::OK)
                .output(text.clone())
                .error(text.clone());
            let finished = each
                .call(async |store| store.finish_run(&id, &stats).await)
                .await;
            assert_eq!(finished.is_ok(), text.len() <= MIB);
            let named = with(running(&format!("named {text}")), |run| {
                run.skill_id = text.clone();
                run.caller_id = text.clone();
                run.channel_id = text.clone();
                run.parent_run_id = Some(text.clone());
                run.status = RunStatus::from(text.as_str());
                run.finished_at = Some(at(1));
            });
            let started = each.call(async |store| store.start_run(&named).await).await;
            assert_eq!(
                started.is_ok(),
                text.len() <= 255 - "named ".len() && !text.contains('\0'),
                "{text:?}"
            );
            if started.is_ok() {
                let read = each
                    .call(async |store| store.get_run(&named.id).await)
                    .await;
                assert_eq!(read, Ok(named));
            }
        }
        for column in [
            "id",
            "skill_id",
            "output",
            "error",
            "status",
            "parent_run_id",
        ] {
            let [sqlite, postgres, unprepared] =
                stored_bytes(each, column, "skill_runs ORDER BY id");
            assert!(sqlite == postgres && postgres == unprepared, "{column}");
        }
    });
}

#[test]
fn random_values_are_stored_to_the_byte_on_both_backends() {
    const BATCH: u64 = 500;

    let seed = fastrand::u64(..);
    eprintln!("values from seed {seed}");
    on_each_connection_kind(async |each| {
        let mut rng = Rng::with_seed(seed);
        let count = counts::values();
        for first in (0..count).step_by(BATCH as usize) {
            let id = first.to_string();
            let values: Vec<Value> = (0..BATCH.min(count - first))
                .map(|_| random_value(&mut rng, 5))
                .collect();
            let events: Vec<SkillRunLog> = values
                .iter()
                .zip(0..)
                .map(|(value, sequence)| {
                    with(event(&id, sequence), |event| {
                        event.payload = value.clone();
                        event.created_at = Some(at(0));
                    })
                })
                .collect();
            each.call(async |store| store.start_run(&running(&id)).await)
                .await
                .unwrap();
            each.call(async |store| store.append_logs(&events).await)
                .await
                .unwrap();
            let read = each
                .call(async |store| store.list_logs_by_run(&id).await)
                .await
                .unwrap();
            assert!(
                read == events,
                "the stored values differ from the given ones"
            );
            let rest = format!("skill_run_logs WHERE run_id = '{id}' ORDER BY sequence");
            assert_stored(each, "payload", &rest, &values);
        }
        eprintln!("{count} random values: all stored to the byte");
    });
}
