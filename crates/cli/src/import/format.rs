/// Returns the format of a file that can't be imported directly, and the command that converts it;
/// `None` if the file may be lines of JSON.
pub(super) fn other_format(beginning: &[u8]) -> Option<(&'static str, &'static str)> {
    const MAGIC: [(&[u8], &str, &str); 8] = [
        (b"\x1F\x8B", "compressed by gzip", "gzip -dc"),
        (b"\x28\xB5\x2F\xFD", "compressed by zstd", "zstd -dc"),
        (b"\xFD7zXZ\0", "compressed by xz", "xz -dc"),
        (b"BZh", "compressed by bzip2", "bzip2 -dc"),
        (b"\x04\x22\x4D\x18", "compressed by lz4", "lz4 -dc"),
        (b"PK\x03\x04", "a zip archive", "unzip -p"),
        (b"\xFF\xFE", "in UTF-16", UTF_16),
        (b"\xFE\xFF", "in UTF-16", UTF_16),
    ];
    const UTF_16: &str = "iconv -f UTF-16 -t UTF-8";

    let known = MAGIC
        .iter()
        .find(|(magic, ..)| beginning.starts_with(magic));
    if let Some((_, what, unpack)) = known {
        return Some((what, unpack));
    }
    // UTF-16 without a byte order mark: the first character of a JSON line is ASCII.
    match beginning {
        [0, b'{', ..] => Some(("in UTF-16", "iconv -f UTF-16BE -t UTF-8")),
        [b'{', 0, ..] => Some(("in UTF-16", "iconv -f UTF-16LE -t UTF-8")),
        _ => None,
    }
}

/// The byte order mark of UTF-8, which some editors put at the beginning of a file.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
