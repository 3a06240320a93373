use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{JSON_LEVELS, inside_json};

/// Members that hold base64 in parts of messages.
const DATA: &[&str] = &[
    "data",
    "content",
    "blob",
    "base64",
    "bytes",
    "file_data",
    "image",
];

/// Members that name the type of the data.
const MEDIA_TYPE: &[&str] = &["media_type", "mime_type", "mediaType", "mimeType", "format"];

/// Types of parts whose data is always base64.
const BASE64_TYPES: &[&str] = &["blob", "base64", "image-data", "file-data"];

/// Types of parts whose data may be base64.
const MEDIA_TYPES: &[&str] = &["image", "audio", "video", "file", "document", "media"];

/// A shorter text that could be base64 is a word.
const MIN_BASE64_BYTES: usize = 100;

/// Replaces base64 by its type, its length and its SHA-256.
pub(super) fn replace(value: &mut Value) {
    replace_in(value, JSON_LEVELS);
}

/// Returns whether anything has changed.
fn replace_in(value: &mut Value, levels: usize) -> bool {
    match value {
        Value::String(text) => {
            if let Some(summary) = data_url(text) {
                *value = Value::Object(summary);
                return true;
            }
            inside_json(text, levels, |json| replace_in(json, levels - 1))
        }
        Value::Array(items) => {
            let changed = items.iter_mut().map(|item| replace_in(item, levels));
            changed.fold(false, |changed, item| changed | item)
        }
        Value::Object(members) => {
            if let Some(summary) = part(members) {
                *value = Value::Object(summary);
                return true;
            }
            let changed = members
                .values_mut()
                .map(|member| replace_in(member, levels));
            changed.fold(false, |changed, member| changed | member)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn data_url(text: &str) -> Option<Map<String, Value>> {
    let (header, data) = text.strip_prefix("data:")?.split_once(',')?;
    let media_type = header.strip_suffix(";base64")?;
    let mut summary = Map::from_iter([("media_type".to_owned(), media_type.into())]);
    summarise(&mut summary, data);
    Some(summary)
}

/// Returns the summary of a part of a message that holds base64.
fn part(members: &Map<String, Value>) -> Option<Map<String, Value>> {
    let kind = members.get("type").and_then(Value::as_str);
    let media_type = MEDIA_TYPE
        .iter()
        .find_map(|name| members.get(*name)?.as_str());
    let min_bytes = match kind {
        Some(kind) if BASE64_TYPES.contains(&kind) => 0,
        Some(kind) if MEDIA_TYPES.contains(&kind) => MIN_BASE64_BYTES,
        None if media_type.is_some() => MIN_BASE64_BYTES,
        _ => return None,
    };
    let texts = DATA.iter().filter_map(|name| members.get(*name)?.as_str());
    let data = texts
        .into_iter()
        .find(|text| text.len() >= min_bytes && is_base64(text))?;
    let mut summary = Map::new();
    if let Some(kind) = kind {
        summary.insert("type".to_owned(), kind.into());
    }
    if let Some(media_type) = media_type {
        summary.insert("media_type".to_owned(), media_type.into());
    }
    summarise(&mut summary, data);
    Some(summary)
}

fn is_base64(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(&byte);
    text.bytes().all(is_digit)
}

fn summarise(summary: &mut Map<String, Value>, base64: &str) {
    let decoded = STANDARD
        .decode(base64)
        .or_else(|_| STANDARD_NO_PAD.decode(base64));
    let bytes = decoded.as_deref().unwrap_or(base64.as_bytes());
    summary.insert("bytes".to_owned(), bytes.len().into());
    summary.insert("sha256".to_owned(), sha256(bytes).into());
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn replaced(mut value: Value) -> Value {
        replace(&mut value);
        value
    }

    #[test]
    fn parts_of_each_provider_become_their_length() {
        let summary = json!({"media_type": "image/png", "bytes": 5, "sha256": HELLO});
        assert_eq!(
            replaced(json!({"image_url": {"url": "data:image/png;base64,aGVsbG8="}})),
            json!({"image_url": {"url": summary}})
        );
        let source = json!({"type": "base64", "media_type": "image/png", "data": "aGVsbG8="});
        assert_eq!(
            replaced(json!({"type": "image", "source": source}))["source"],
            json!({"type": "base64", "media_type": "image/png", "bytes": 5, "sha256": HELLO})
        );
        assert_eq!(
            replaced(json!({"type": "blob", "mime_type": "image/png", "content": "aGVsbG8"})),
            json!({"type": "blob", "media_type": "image/png", "bytes": 5, "sha256": HELLO})
        );
        let data = "aGVsbG8h".repeat(20);
        for part in [
            json!({"inline_data": {"mime_type": "image/png", "data": data}}),
            json!({"input_audio": {"format": "wav", "data": data}}),
            json!({"file": {"type": "file", "mediaType": "application/pdf", "data": data}}),
            json!({"image": {"type": "image", "image": data}}),
        ] {
            let part = replaced(part);
            let bytes = part
                .as_object()
                .and_then(|part| part.values().next()?.get("bytes"));
            assert_eq!(bytes, Some(&json!(120)), "{part}");
        }
    }

    #[test]
    fn json_in_a_text_is_searched() {
        let text = json!([{"type": "blob", "content": "aGVsbG8="}]).to_string();
        let text = replaced(Value::String(text));
        assert!(
            text.as_str().is_some_and(|text| text.contains(HELLO)),
            "{text}"
        );
    }

    #[test]
    fn texts_are_kept() {
        for value in [
            json!({"type": "text", "content": "aGVsbG8="}),
            json!({"type": "image", "content": "a picture of a cat"}),
            json!({"type": "file", "content": "README"}),
            json!({"format": "pdf", "content": "Report"}),
            json!("see data:image/png;base64,aGVsbG8="),
            json!("{ \"spaces\": 1 }"),
        ] {
            assert_eq!(replaced(value.clone()), value);
        }
    }
}
