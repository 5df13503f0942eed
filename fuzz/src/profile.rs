//! Signed profiles. An input is a byte that says which of three, and what follows:
//!
//! | byte modulo 3 | profile |
//! |---:|---|
//! | 0 | the bytes as they are |
//! | 1 | the bytes as somebody's Profile, signed by them |
//! | 2 | fields for a Profile, signed |
//!
//! What parses is written as it was, says only what may be said, and says it again when it is signed again.

use std::sync::OnceLock;

use chatterbox::limits::{HOST_BYTES_MAX, PROFILE_BYTES_MAX};
use chatterbox::name;
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::profile::{Profile, SignedProfile};
use chatterbox::wire::state::AccountKeys;

use super::input::Input;
use super::proto;
use super::receiver::account;

/// Checks one input; says whether it is a profile.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    let bytes = match input.byte() % 3 {
        0 => input.0.to_vec(),
        1 => signed(input.0),
        _ => signed(&proto::message(&mut input, 0, &mut |input| input.chunk().repeat(4))),
    };
    let Ok(profile) = SignedProfile::from_bytes(&bytes) else { return false };
    holds(&profile, &bytes);
    true
}

/// What holds for every profile that parsed.
pub fn holds(signed: &SignedProfile, bytes: &[u8]) {
    let profile = signed.profile();
    assert_eq!(signed.as_bytes(), bytes);
    assert!(bytes.len() <= PROFILE_BYTES_MAX);
    assert!(name::is_account_name(&profile.name));
    let server = &profile.server;
    assert!(server.port() > 0 && !server.host().is_empty() && server.host().len() <= HOST_BYTES_MAX);
    assert_eq!(server.to_string().parse::<ServerAddress>().as_ref(), Ok(server), "an address does not come back");
    assert_eq!(signed.to_string().parse::<SignedProfile>().as_ref(), Ok(signed), "a card does not come back");
    if profile.identity == keys().identity() {
        let again = SignedProfile::sign(profile.clone(), &keys().signing).expect("it was a profile before");
        assert_eq!(again.profile(), profile);
    }
}

/// Who signs.
pub fn keys() -> &'static AccountKeys {
    static KEYS: OnceLock<AccountKeys> = OnceLock::new();
    KEYS.get_or_init(|| account("profile"))
}

/// A SignedProfile of these bytes, with a good signature by [`keys`]: the signing key is theirs, whatever stands before.
pub fn signed(profile: &[u8]) -> Vec<u8> {
    let mut profile = profile.to_vec();
    proto::bytes(6, &keys().identity().signing.0, &mut profile);
    let signature = keys().signing.sign(&[b"chatterbox 1 profile\0", &profile[..]].concat());
    let mut signed = Vec::new();
    proto::bytes(1, &profile, &mut signed);
    proto::bytes(2, &signature, &mut signed);
    signed
}

/// A profile by the rules.
pub fn good() -> SignedProfile {
    let profile = Profile {
        name: "alice".into(),
        server: ServerAddress::new("server.example", 1984, keys().transport.public()).expect("a good address"),
        account: keys().account(),
        identity: keys().identity(),
        version: 7,
    };
    SignedProfile::sign(profile, &keys().signing).expect("a good profile")
}

/// The fields of a Profile.
pub fn fields(name: &str, host: &str, port: u64) -> Vec<u8> {
    let mut built = Vec::new();
    proto::bytes(1, name.as_bytes(), &mut built);
    proto::bytes(2, host.as_bytes(), &mut built);
    proto::number(3, port, &mut built);
    for key in [4, 5, 7] {
        proto::bytes(key, &[key; 32], &mut built);
    }
    proto::number(8, u64::MAX, &mut built);
    built
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let as_it_is = |bytes: &[u8]| [&[0], bytes].concat();
    let signed = |bytes: &[u8]| [&[1], bytes].concat();
    let good = good();
    let mut forged = good.as_bytes().to_vec();
    forged[3] ^= 1;
    let mut long = fields("bob", "host", 80);
    proto::bytes(15, &[7; PROFILE_BYTES_MAX], &mut long);
    vec![
        ("nothing", vec![]),
        ("good", as_it_is(good.as_bytes())),
        ("forged", as_it_is(&forged)),
        ("cut", as_it_is(&good.as_bytes()[..100])),
        ("signed", signed(&fields("bob", "127.0.0.1", 1))),
        ("signed-ipv6", signed(&fields("bob", "[fe80::A1]", 65_535))),
        ("signed-onion", signed(&fields("b.o_b-", &format!("{}.onion", "a".repeat(56)), 80))),
        ("signed-longest-host", signed(&fields(&"b".repeat(64), &"h".repeat(253), 80))),
        ("signed-host-too-long", signed(&fields("bob", &"h".repeat(254), 80))),
        ("signed-bad-name", signed(&fields("Bob/..", "host", 80))),
        ("signed-no-name", signed(&fields("", "host", 80))),
        ("signed-port-0", signed(&fields("bob", "host", 0))),
        ("signed-port-65536", signed(&fields("bob", "host", 65_536))),
        ("signed-bad-host", signed(&fields("bob", "ho st", 80))),
        ("signed-too-long", signed(&long)),
        ("signed-unknown-field", signed(&[&fields("bob", "host", 80)[..], &[0x7a, 1, 1]].concat())),
        (
            "fields",
            [&[2, 0x11, 3][..], b"bob", &[0x12, 1, b'h', 3, 9, 0x44], &[1; 32], &[0x45], &[2; 32], &[0x47]].concat(),
        ),
    ]
}
