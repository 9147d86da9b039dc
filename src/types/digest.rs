//! Short, stable digest of a policy's meaning.

/// Returns the FNV-1a hash of 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>), folded to 48
/// bits, as 12 hex digits. It serves to detect a changed policy, not for security.
pub(crate) fn of(text: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{:012x}", (hash ^ (hash >> 48)) & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable() {
        // The published test vector of "a" is af63dc4c8601ec8c; its upper 16 bits are folded into
        // the lower 48.
        assert_eq!(
            of("a"),
            format!("{:012x}", (0xaf63_dc4c_8601_ec8c_u64 ^ 0xaf63) & 0xffff_ffff_ffff)
        );
        assert_ne!(of("a"), of("b"));
    }
}
