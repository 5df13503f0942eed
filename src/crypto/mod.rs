//! Typed keys that wipe themselves, and the primitives under everything else.
//!
//! Every 32-byte value has a type of its own, so that a public key cannot stand where a message key belongs. Secrets
//! overwrite themselves when dropped, compare in constant time, and show as `_` in `Debug`. Randomness is passed in.
//!
//! | module | primitive | source |
//! |---|---|---|
//! | [`secret`] | bytes that wipe themselves | |
//! | [`dh`] | X25519 | RFC 7748 |
//! | [`kem`] | ML-KEM-768 | FIPS 203 |
//! | [`sign`] | Ed25519, strict verification | RFC 8032 |
//! | [`secretbox`] | XSalsa20-Poly1305 and the NaCl box | "Cryptography in NaCl", Bernstein 2009 |
//! | [`sealing`] | XChaCha20-Poly1305 in NaCl's form, Poly1305 | draft-irtf-cfrg-xchacha, RFC 8439 |
//! | [`kdf`] | HMAC-SHA-256, HKDF | RFC 2104, RFC 5869 |
//! | [`hash`] | SHA-256 | FIPS 180-4 |

pub mod dh;
pub mod hash;
pub mod kdf;
pub mod kem;
pub mod sealing;
pub mod secret;
pub mod secretbox;
pub mod sign;
