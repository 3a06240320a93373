use super::REDACTED;

/// A token that starts with a known prefix.
struct Form {
    prefix: &'static str,
    /// How many characters follow at least.
    min: usize,
}

const FORMS: &[Form] = &[
    // Anthropic, OpenAI and others.
    Form {
        prefix: "sk-",
        min: 16,
    },
    // Stripe.
    Form {
        prefix: "sk_live_",
        min: 16,
    },
    Form {
        prefix: "rk_live_",
        min: 16,
    },
    // GitHub.
    Form {
        prefix: "ghp_",
        min: 20,
    },
    Form {
        prefix: "gho_",
        min: 20,
    },
    Form {
        prefix: "ghu_",
        min: 20,
    },
    Form {
        prefix: "ghs_",
        min: 20,
    },
    Form {
        prefix: "ghr_",
        min: 20,
    },
    Form {
        prefix: "github_pat_",
        min: 20,
    },
    // GitLab.
    Form {
        prefix: "glpat-",
        min: 16,
    },
    // Slack.
    Form {
        prefix: "xoxa-",
        min: 10,
    },
    Form {
        prefix: "xoxb-",
        min: 10,
    },
    Form {
        prefix: "xoxp-",
        min: 10,
    },
    Form {
        prefix: "xoxs-",
        min: 10,
    },
    // AWS.
    Form {
        prefix: "AKIA",
        min: 16,
    },
    Form {
        prefix: "ASIA",
        min: 16,
    },
    // Google.
    Form {
        prefix: "AIza",
        min: 30,
    },
    // Hugging Face.
    Form {
        prefix: "hf_",
        min: 30,
    },
];

/// Returns the text without secrets of known forms; `None` if it has none. It reads the text once.
pub(super) fn redacted(text: &str) -> Option<String> {
    let mut redacted = String::new();
    let mut copied = 0;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        // All forms start with ASCII, so that `at` is between characters.
        match secret(text, at) {
            Some((start, end)) => {
                redacted.push_str(&text[copied..start]);
                redacted.push_str(REDACTED);
                copied = end;
                at = end;
            }
            None => at += 1,
        }
    }
    if copied == 0 {
        return None;
    }
    redacted.push_str(&text[copied..]);
    Some(redacted)
}

/// Returns where the secret that starts at `at`, or is announced there, begins and ends.
fn secret(text: &str, at: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    // Most characters are none of these.
    match bytes[at] {
        b'-' => private_key(text, at),
        b'B' | b'b' if starts_word(bytes, at) => bearer(text, at),
        b'e' if starts_word(bytes, at) => json_web_token(text, at),
        b's' | b'r' | b'g' | b'x' | b'A' | b'h' if starts_word(bytes, at) => token(text, at),
        _ => None,
    }
}

fn starts_word(bytes: &[u8], at: usize) -> bool {
    match bytes[..at] {
        // An escape in JSON, such as a line break.
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., before] => !is_token(before),
        [] => true,
    }
}

fn token(text: &str, at: usize) -> Option<(usize, usize)> {
    let word = &text[at..];
    let form = FORMS.iter().find(|form| word.starts_with(form.prefix))?;
    let end = at + form.prefix.len() + run(&word[form.prefix.len()..], is_token);
    // Real tokens have digits, unlike words that are joined by hyphens.
    let rest = &text[at + form.prefix.len()..end];
    let is_token = rest.len() >= form.min && rest.bytes().any(|byte| byte.is_ascii_digit());
    is_token.then_some((at, end))
}

fn bearer(text: &str, at: usize) -> Option<(usize, usize)> {
    const BEARER: &str = "bearer ";

    let word = text.get(at..at + BEARER.len())?;
    if !word.eq_ignore_ascii_case(BEARER) {
        return None;
    }
    let start = at + BEARER.len();
    let end = start + run(&text[start..], is_credential);
    let credential = &text[start..end];
    let has_digit = credential.bytes().any(|byte| byte.is_ascii_digit());
    let is_secret = credential.len() >= 20 || has_digit && credential.len() >= 8;
    is_secret.then_some((start, end))
}

/// A JSON web token: JSON objects in base64, joined by dots.
fn json_web_token(text: &str, at: usize) -> Option<(usize, usize)> {
    const MIN_BYTES: usize = 10;

    let word = &text[at..];
    if !word.starts_with("eyJ") {
        return None;
    }
    let header = run(word, is_token);
    let claims = word[header..].strip_prefix('.')?;
    if header < MIN_BYTES || run(claims, is_token) < MIN_BYTES {
        return None;
    }
    let length = run(word, |byte| is_token(byte) || byte == b'.');
    Some((at, at + length))
}

fn private_key(text: &str, at: usize) -> Option<(usize, usize)> {
    const BEGIN: &str = "-----BEGIN ";
    const KEY: &str = "PRIVATE KEY";
    const END: &str = "-----END ";
    const MAX_LABEL_BYTES: usize = 40;

    let label = text[at..].strip_prefix(BEGIN)?;
    let label = &label[..label.floor_char_boundary(MAX_LABEL_BYTES)];
    if !label.split("-----").next()?.contains(KEY) {
        return None;
    }
    let body = at + BEGIN.len();
    let Some(end) = text[body..].find(END) else {
        // The rest of the key has been cut off.
        return Some((at, text.len()));
    };
    let end = body + end + END.len();
    let line = text[end..]
        .find("-----")
        .map_or(text.len(), |line| end + line + 5);
    Some((at, line))
}

/// Returns how many bytes at the start match.
fn run(text: &str, matches: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| matches(*byte)).count()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn is_credential(byte: u8) -> bool {
    is_token(byte) || b".~+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_forms_are_redacted() {
        for secret in [
            "sk-ant-api03-abcdefghijklmnop1",
            "sk-proj-abcdefghijklmnop1234",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "github_pat_11ABCDEFG0abcdefghijkl_mnop",
            "xoxb-123456789012-abcdef",
            "xoxp-123456789012-abcdef",
            "AKIAIOSFODNN7EXAMPLE",
            "AIzaSyA0123456789abcdefghijklmnopqrstuv",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nMIIE, and cut off",
        ] {
            let text = format!("key=\"{secret}");
            assert_eq!(
                redacted(&text).as_deref(),
                Some("key=\"[redacted]"),
                "{secret}"
            );
        }
        assert_eq!(
            redacted("\u{e4} Bearer abc123def456, bearer abc123def456").as_deref(),
            Some("\u{e4} Bearer [redacted], bearer [redacted]")
        );
        // A line break in JSON in a text.
        assert_eq!(
            redacted(r"a\nsk-12345678901234567890").as_deref(),
            Some(r"a\n[redacted]")
        );
    }

    #[test]
    fn similar_texts_are_kept() {
        for text in [
            "",
            "task-sk-123456789012345678901234",
            "sk-learn",
            "sk-a-name-without-any-digit",
            "the bearer of this letter",
            "bearer authentication",
            "eyJ is how base64 of JSON starts",
            "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
            "Bearer",
            "ask-12345678901234567890",
        ] {
            assert_eq!(redacted(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_text_is_read_once() {
        // Quadratic, this would take minutes.
        for part in [
            "-----BEGIN PRIVATE KEY",
            "sk-",
            "eyJ.",
            "bearer ",
            "-----BEGIN ",
        ] {
            let text = part.repeat(200_000);
            assert!(redacted(&text).is_none_or(|redacted| redacted.len() < text.len()));
        }
    }
}
