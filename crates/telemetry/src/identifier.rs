use runtrail_audit::rules::MAX_IDENTIFIER_BYTES;

/// Returns the beginning of a name, in a form that can be stored.
pub(crate) fn identifier(name: &str) -> String {
    // Cut first: names may be long.
    let name = &name[..name.floor_char_boundary(MAX_IDENTIFIER_BYTES)];
    if !name.contains('\0') {
        return name.to_owned();
    }
    // The replacement is longer.
    let name = name.replace('\0', "\u{FFFD}");
    name[..name.floor_char_boundary(MAX_IDENTIFIER_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_with_nul_is_cut() {
        let name = identifier(&format!("\0{}", "\u{e4}".repeat(300)));
        assert!(name.starts_with("\u{FFFD}\u{e4}"), "{name}");
        assert!((253..=255).contains(&name.len()), "{}", name.len());
        assert_eq!(identifier(&"\0".repeat(255)).len(), 255);
    }
}
