use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// Turns text into one line that can't move the cursor, change colours or reverse the direction of
/// writing.
pub(crate) fn printable(text: &str) -> String {
    let text = console::strip_ansi_codes(text);
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => printable.push('⏎'),
            '\t' => printable.push_str("    "),
            '\r' => {}
            _ if character.is_control() || turns_text_around(character) => {
                printable.push(char::REPLACEMENT_CHARACTER);
            }
            _ => printable.push(character),
        }
    }
    printable
}

/// Whether a character can make a terminal show text in another order.
fn turns_text_around(character: char) -> bool {
    matches!(
        character,
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// Formats the payload of an event: the text that a program printed, or else the JSON.
pub(crate) fn payload(payload: &Value) -> String {
    let member = |name| payload.get(name).and_then(Value::as_str);
    let bytes = member("base64").and_then(|text| BASE64.decode(text).ok());
    if let Some(text) = member("text").or(payload.as_str()) {
        printable(text)
    } else if let Some(bytes) = bytes {
        printable(&String::from_utf8_lossy(&bytes))
    } else {
        printable(&payload.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_controls_the_terminal() {
        for (text, expected) in [
            ("plain é 漢", "plain é 漢"),
            ("a\nb\tc\r", "a⏎b    c"),
            ("\u{1B}[31mred\u{1B}[0m", "red"),
            ("\u{7}bell\u{0}", "\u{FFFD}bell\u{FFFD}"),
            ("\u{202E}txt.exe", "\u{FFFD}txt.exe"),
        ] {
            assert_eq!(printable(text), expected, "{text:?}");
        }
    }
}
