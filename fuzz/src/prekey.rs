//! Prekeys, as a server hands them out. An input is a byte that says which of three, and what follows:
//!
//! | byte modulo 3 | prekey | what must hold |
//! |---:|---|---|
//! | 0 | the bytes as they are | what parses is written and read again; signed anew, it is its owner's |
//! | 1 | a good one, changed behind its signature | its owner is not known by it any more |
//! | 2 | signed by an owner who chooses traps | and it opens a session or is refused |

use std::sync::OnceLock;

use chatterbox::crypto::kem::EncapsulationKey;
use chatterbox::envelope::{self, PAYLOAD_BYTES_MAX};
use chatterbox::limits::PREKEY_BYTES_MAX;
use chatterbox::ratchet;
use chatterbox::wire::identity::Identity;
use chatterbox::wire::prekey::{PrekeyKind, SignedPrekey};
use chatterbox::wire::state::{AccountKeys, PrekeySecret};

use super::hostile;
use super::input::Input;
use super::proto;
use super::receiver::{NOW, account};
use super::rng::Rng;

const EDITS_MAX: u8 = 4;

/// Checks one input; says whether a session was opened.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    match input.byte() % 3 {
        0 => as_it_is(input.0),
        1 => changed(input),
        _ => opens(&chosen(&mut input)),
    }
}

struct Owner {
    keys: AccountKeys,
    good: SignedPrekey,
}

fn owner() -> &'static Owner {
    static OWNER: OnceLock<Owner> = OnceLock::new();
    OWNER.get_or_init(|| {
        let keys = account("bob");
        let good = PrekeySecret::random(PrekeyKind::OneTime, NOW, &keys, &mut Rng::new(b"prekey")).prekey;
        Owner { keys, good }
    })
}

/// Parses, and checks what must hold for everything that parses.
fn read(bytes: &[u8]) -> Option<SignedPrekey> {
    let prekey = SignedPrekey::from_bytes(bytes).ok()?;
    assert!(bytes.len() <= PREKEY_BYTES_MAX);
    assert_eq!(SignedPrekey::from_bytes(&prekey.to_bytes()).as_ref(), Ok(&prekey));
    Some(prekey)
}

fn as_it_is(bytes: &[u8]) -> bool {
    let Some(prekey) = read(bytes) else { return false };
    let Owner { keys, good } = owner();
    let is_theirs = prekey.verify(&keys.identity()).is_ok();
    assert!(!is_theirs || prekey.hash(&keys.identity()) == good.hash(&keys.identity()), "a prekey that nobody signed");
    let publics = (prekey.ratchet, prekey.auth, prekey.kem);
    opens(&SignedPrekey::sign(prekey.id, prekey.kind, prekey.expires, publics, &keys.identity(), &keys.signing))
}

/// Bytes that say the same in another way are no change.
fn changed(mut input: Input<'_>) -> bool {
    let Owner { keys, good } = owner();
    let mut bytes = good.to_bytes();
    for _ in 0..input.byte() % EDITS_MAX {
        let kind = input.byte();
        let end = bytes.len();
        // The first fields and the signature; the KEM key between them is long.
        match kind % 3 {
            0 => input.edit(&mut bytes[..128]),
            1 => input.edit(&mut bytes[end - 80..]),
            _ => input.edit(&mut bytes),
        }
    }
    let Some(prekey) = read(&bytes) else { return false };
    let is_theirs = prekey.verify(&keys.identity()).is_ok();
    assert_eq!(is_theirs, prekey == *good, "a signature holds for something else, or not for what it was made for");
    is_theirs && opens(&prekey)
}

fn chosen(input: &mut Input<'_>) -> SignedPrekey {
    let Owner { keys, good } = owner();
    let traps = input.byte();
    let kind = if traps & 1 == 0 { PrekeyKind::OneTime } else { PrekeyKind::LastResort };
    let ratchet = if traps & 2 == 0 { good.ratchet } else { hostile::public_key(input) };
    let auth = if traps & 4 == 0 { good.auth } else { hostile::public_key(input) };
    let mut kem = good.kem.clone();
    if traps & 8 != 0 {
        kem = hostile::encapsulation_key(&kem, input);
    }
    if traps & 16 != 0 {
        kem = EncapsulationKey::from_slice(&[input.byte(); 1_184]).expect("of its length");
    }
    let publics = (ratchet, auth, kem);
    SignedPrekey::sign(input.array(), kind, input.number(), publics, &keys.identity(), &keys.signing)
}

/// Whether a session opens with a prekey that its owner signed.
fn opens(prekey: &SignedPrekey) -> bool {
    let bob = owner().keys.identity();
    assert_eq!(prekey.verify(&bob), Ok(()));
    assert_eq!(read(&prekey.to_bytes()).as_ref(), Some(prekey));
    let alice = owner_of_another();
    let stranger = Identity { signing: bob.signing, auth: alice.identity().auth };
    for other in [alice.identity(), stranger] {
        assert!(prekey.verify(&other).is_err(), "a prekey that is good for two");
        assert_ne!(prekey.hash(&other), prekey.hash(&bob));
    }
    let mut rng = Rng::new(&prekey.id);
    let opened = ratchet::open(alice, bob, prekey, NOW, NOW, &mut rng);
    let is_trap = [prekey.ratchet, prekey.auth].iter().any(hostile::has_small_order);
    assert_eq!(
        opened.is_err(),
        is_trap || !hostile::is_encapsulation_key(&prekey.kem),
        "a trap, or what is taken for one"
    );
    let Ok((mut session, first)) = opened else { return false };
    let second = session.send(&alice.identity(), &mut rng);
    assert_eq!((first.tag, first.header.opens, second.header.opens), (prekey.tag(), true, false));
    let longest = [7; PAYLOAD_BYTES_MAX];
    for sealing in [first, second] {
        assert!(sealing.auth.recipient == bob && sealing.auth.recipient_auth == prekey.auth);
        envelope::seal(sealing, &longest, &mut rng).expect("it fits");
    }
    true
}

fn owner_of_another() -> &'static AccountKeys {
    static KEYS: OnceLock<AccountKeys> = OnceLock::new();
    KEYS.get_or_init(|| account("alice"))
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let good = owner().good.to_bytes();
    let as_it_is = |bytes: &[u8]| [&[0], bytes].concat();
    // Of its fields the suite and the kind are numbers; a second one wins.
    let with = |field, value| {
        let mut bytes = good.clone();
        proto::number(field, value, &mut bytes);
        as_it_is(&bytes)
    };
    vec![
        ("nothing", vec![]),
        ("good", as_it_is(&good)),
        ("cut", as_it_is(&good[..700])),
        ("another-suite", with(1, 1)),
        ("a-large-suite", with(1, 1 << 32 | 2)),
        ("last-resort", with(3, 2)),
        ("no-kind", with(3, 0)),
        ("another-kind", with(3, u64::MAX)),
        ("never-expires", with(4, u64::MAX)),
        ("unknown-field", with(15, 1)),
        ("unchanged", vec![1]),
        ("changed-id", vec![1, 1, 0, 0, 0, 6, 1]),
        ("changed-kind", vec![1, 1, 0, 0, 0, 21, 3]),
        ("changed-expiry", vec![1, 1, 0, 0, 0, 23, 1]),
        ("changed-ratchet-key", vec![1, 1, 0, 0, 0, 40, 1]),
        ("changed-auth-key", vec![1, 1, 0, 0, 0, 70, 1]),
        ("changed-kem-key", vec![1, 1, 2, 0, 0, 200, 1]),
        ("changed-signature", vec![1, 1, 1, 0, 0, 70, 1]),
        ("chosen", vec![2, 0, 1, 2, 3]),
        ("chosen-last-resort", vec![2, 1]),
        ("ratchet-key-of-small-order", vec![2, 2, 4]),
        ("ratchet-key-of-order-8", vec![2, 2, 2]),
        ("ratchet-key-in-other-words", vec![2, 2, 12]),
        ("auth-key-of-small-order", vec![2, 4, 1]),
        ("kem-key-changed", vec![2, 8, 0, 0, 1, 1]),
        ("kem-key-out-of-range", vec![2, 16, 255]),
        ("kem-key-of-zeros", vec![2, 16, 0]),
    ]
}
