//! Bytes as text.

/// `bytes` in lower-case hex digits, two for each (RFC 4648 section 8, in lower case), as `sha256sum(1)` prints digests.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_two_digits_in_lower_case() {
        assert_eq!(hex(&[0x00, 0x0a, 0xa0, 0xff]), "000aa0ff");
        assert_eq!(hex(&[]), "");
    }
}
