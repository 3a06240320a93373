use serde_json::{Map, Value};

use super::media::sha256;

/// The store allows 64 levels. The others are left for what is put around a value.
pub(super) const MAX_LEVELS: usize = 60;

/// Cuts long texts, and turns what the store rejects into texts: values nested deeper than
/// `levels`, and numbers out of range.
pub(super) fn limit(value: &mut Value, levels: usize, max_text_bytes: usize) {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => {
            *value = Value::String(value.to_string());
            limit(value, levels, max_text_bytes);
        }
        Value::Array(items) => {
            for item in items {
                limit(item, levels - 1, max_text_bytes);
            }
        }
        Value::Object(members) => {
            for member in members.values_mut() {
                limit(member, levels - 1, max_text_bytes);
            }
        }
        Value::String(text) => cut(text, max_text_bytes),
        Value::Number(number) => {
            if number.as_f64().is_none_or(|number| !number.is_finite()) {
                *value = Value::String(number.to_string());
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn cut(text: &mut String, max_bytes: usize) {
    let bytes = text.len();
    if bytes <= max_bytes {
        return;
    }
    let digest = sha256(text.as_bytes());
    text.truncate(text.floor_char_boundary(max_bytes));
    text.push_str(&format!("… ({bytes} bytes, sha256 {digest})"));
    text.shrink_to_fit();
}

/// Replaces a value that is too large by its role, its size and its SHA-256.
pub(super) fn replace(value: &mut Value, max_bytes: usize) {
    let text = value.to_string();
    if text.len() <= max_bytes {
        return;
    }
    let mut summary = Map::new();
    if let Some(role @ Value::String(_)) = value.get("role") {
        summary.insert("role".to_owned(), role.clone());
    }
    summary.insert("bytes".to_owned(), text.len().into());
    summary.insert("sha256".to_owned(), sha256(text.as_bytes()).into());
    *value = Value::Object(summary);
}

/// Removes the largest attributes, and then the largest other members, until an object is small
/// enough. It lists them as `omitted`.
pub(super) fn omit(object: &mut Map<String, Value>, max_bytes: usize) {
    let mut bytes = size(object);
    if bytes <= max_bytes {
        return;
    }
    // The list, which is added afterwards, takes up to a quarter.
    let max_list_bytes = max_bytes / 4;
    let max_bytes = max_bytes - max_list_bytes;
    let mut omitted = Vec::new();
    if let Some(Value::Object(attributes)) = object.get_mut("attributes") {
        remove_largest(attributes, &mut bytes, max_bytes, &mut omitted);
    }
    remove_largest(object, &mut bytes, max_bytes, &mut omitted);

    let mut list_bytes = r#","omitted":[]"#.len();
    omitted.retain(|name| {
        list_bytes += Value::from(name.as_str()).to_string().len() + 1;
        list_bytes <= max_list_bytes
    });
    object.insert("omitted".to_owned(), omitted.into());
}

fn remove_largest(
    object: &mut Map<String, Value>,
    bytes: &mut usize,
    max_bytes: usize,
    removed: &mut Vec<String>,
) {
    if *bytes <= max_bytes {
        return;
    }
    let sizes = object.iter().map(|(name, value)| {
        // With the quotes, the colon and the comma.
        (name.len() + value.to_string().len() + 4, name.clone())
    });
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable_by(|left, right| right.cmp(left));
    for (size, name) in sizes {
        if *bytes <= max_bytes {
            return;
        }
        object.remove(&name);
        *bytes = bytes.saturating_sub(size);
        removed.push(name);
    }
}

fn size(object: &Map<String, Value>) -> usize {
    let sizes = object.iter().map(|(name, value)| {
        Value::from(name.as_str()).to_string().len() + value.to_string().len()
    });
    sizes.sum::<usize>() + 2 * object.len() + 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut value = json!(["\u{e4}".repeat(10)]);
        limit(&mut value, 60, 5);
        let text = value[0].as_str().unwrap();
        assert!(
            text.starts_with("\u{e4}\u{e4}… (20 bytes, sha256 "),
            "{text}"
        );
        let mut value = json!("short");
        limit(&mut value, 60, 5);
        assert_eq!(value, "short");
    }

    #[test]
    fn deep_values_become_texts() {
        let mut value = json!({"a": {"b": {"c": [1]}}});
        limit(&mut value, 2, 100);
        assert_eq!(value, json!({"a": {"b": "{\"c\":[1]}"}}));
    }

    #[test]
    fn the_largest_attributes_are_omitted_first() {
        let mut object = json!({
            "result": "r".repeat(300),
            "attributes": {"a": "a".repeat(200), "b": "b".repeat(900), "c": 1},
        });
        let object = object.as_object_mut().unwrap();
        omit(object, 1_000);
        assert_eq!(object["omitted"], json!(["b"]));
        assert_eq!(object["attributes"]["c"], 1);
        assert!(object.contains_key("result"));
        omit(object, 100);
        assert!(
            Value::Object(object.clone()).to_string().len() <= 100,
            "{object:?}"
        );
    }

    #[test]
    fn a_large_message_keeps_its_role() {
        let mut message = json!({"role": "user", "content": "c".repeat(100)});
        replace(&mut message, 200);
        assert_eq!(message["content"].as_str().unwrap().len(), 100);
        replace(&mut message, 100);
        assert_eq!(
            (&message["role"], &message["bytes"]),
            (&json!("user"), &json!(128))
        );
    }
}
