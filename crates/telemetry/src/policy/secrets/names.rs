/// Last words of names of secret values.
const WORDS: &[&str] = &[
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "secrets",
    "token",
];

/// Words that precede a last word `key` in names of secret values.
const KEYS: &[&str] = &[
    "access",
    "api",
    "encryption",
    "private",
    "secret",
    "signing",
];

/// Whether the name of a value says that it is secret: `apiKey`, `X-Api-Key` or `db.password`, but
/// not `input_tokens` or `password_length`.
pub(super) fn is_secret(name: &str) -> bool {
    let mut words = last_words(name);
    match words.next().as_deref() {
        Some("key") => words
            .next()
            .is_some_and(|word| KEYS.contains(&word.as_str())),
        Some(word) => WORDS.contains(&word),
        None => false,
    }
}

/// Returns the words of a name in lower case, last one first.
fn last_words(name: &str) -> impl Iterator<Item = String> {
    let parts = name.rsplit(|char: char| !char.is_ascii_alphanumeric());
    parts
        .filter(|part| !part.is_empty())
        .flat_map(camel_case_words)
}

/// Returns the words of `parsedApiKey`, last one first.
fn camel_case_words(part: &str) -> impl Iterator<Item = String> {
    let mut rest = part;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let starts_word = |index: &usize| {
            bytes[*index].is_ascii_uppercase() && bytes[*index - 1].is_ascii_lowercase()
        };
        let start = (1..bytes.len()).rev().find(starts_word).unwrap_or(0);
        let (before, word) = rest.split_at(start);
        rest = before;
        (!word.is_empty()).then(|| word.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_decide() {
        for name in [
            "password",
            "db.password",
            "api_key",
            "apiKey",
            "APIKEY",
            "OPENAI_API_KEY",
            "x-api-key",
            "Authorization",
            "clientSecret",
            "token",
            "accessToken",
            "private_key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "",
            "key",
            "primary_key",
            "tokens",
            "input_tokens",
            "gen_ai.usage.input_tokens",
            "token_count",
            "tokenizer",
            "password_length",
            "secretary",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
