//! HMAC-SHA-256 (RFC 2104) and HKDF (RFC 5869) with labels.

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::secret::Secret;

/// `HMAC-SHA-256(key, parts[0] || parts[1] || …)`, 32 bytes. Parts after a label have fixed lengths.
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret<32> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    Secret::new(mac.finalize().into_bytes().into())
}

/// `HKDF-SHA-256(salt, input, info)` expanded to `N` bytes, with `info = info[0] || info[1] || …`.
///
/// # Panics
/// Never for `N` up to 8,160, which every caller's constant is.
pub fn hkdf<const N: usize>(salt: &[u8], input: &[u8], info: &[&[u8]]) -> Secret<N> {
    let mut output = [0; N];
    Hkdf::<Sha256>::new(Some(salt), input)
        .expand_multi_info(info, &mut output)
        .expect("N is at most 255 blocks of SHA-256");
    let secret = Secret::new(output);
    zeroize::Zeroize::zeroize(&mut output);
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn rfc_4231_case_2() {
        assert_eq!(
            HEXLOWER.encode(hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]).expose()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn rfc_4231_case_6_key_longer_than_a_block() {
        assert_eq!(
            HEXLOWER.encode(hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]).expose()),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn rfc_5869_case_1() {
        let salt = HEXLOWER.decode(b"000102030405060708090a0b0c").unwrap();
        let info = HEXLOWER.decode(b"f0f1f2f3f4f5f6f7f8f9").unwrap();
        assert_eq!(
            HEXLOWER.encode(hkdf::<42>(&salt, &[0x0b; 22], &[&info[..4], &info[4..]]).expose()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }
}
