//! Identities, conversations, the sealed counter, ML-KEM-768 and prekeys.

use chatterbox::crypto::hash::sha256;
use chatterbox::crypto::kem::{Ciphertext, EncapsulationKey};
use chatterbox::crypto::secret::Secret;
use chatterbox::crypto::secretbox::BoxKey;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::counter::CounterRecord;
use chatterbox::wire::identity::{ConversationId, Fingerprint, participants_hash, safety_number};
use chatterbox::wire::prekey::{PrekeyKind, SignedPrekey};
use chatterbox::wire::profile::{Profile, SignedProfile};
use chatterbox::wire::state::{AccountKeys, PrekeySecret};

use super::file::Vectors;
use super::script::{Script, kem_pair, secret_key};

/// The long-term keys of one of the people in the file.
pub fn account(vectors: &Vectors, name: &str) -> AccountKeys {
    let person = vectors.part("identities").part(name);
    AccountKeys {
        signing: SigningKey::from_secret(&Secret::new(person.array("signing_seed"))),
        auth: secret_key(&person, "auth_secret"),
        transport: secret_key(&person, "transport_secret"),
    }
}

pub fn identities(vectors: &Vectors) {
    for person in vectors.part("identities").parts() {
        let keys = account(vectors, person.name());
        person.is("signing_key", keys.signing.verifying_key().0);
        person.is("auth_key", keys.auth.public().0);
        person.is("account", keys.account().as_bytes());
        person.is("identity", keys.identity().to_bytes());
        let fingerprint = keys.identity().fingerprint();
        person.is("fingerprint", fingerprint.0);
        let groups = person.part("fingerprint_groups");
        let groups: Vec<&str> = groups.parts().iter().map(|group| groups.text(group.name())).collect();
        assert_eq!(fingerprint.groups(), groups.join(" "));

        let server: ServerAddress = person.text("server_address").parse().unwrap();
        assert_eq!(server.to_string(), person.text("server_address"));
        let profile = Profile {
            name: person.name().to_owned(),
            server,
            account: keys.account(),
            identity: keys.identity(),
            version: 1,
        };
        let signed = SignedProfile::sign(profile.clone(), &keys.signing).unwrap();
        person.is("signed_profile", signed.as_bytes());
        assert_eq!(*SignedProfile::from_bytes(&person.bytes("signed_profile")).unwrap().profile(), profile);
        let label = b"chatterbox 1 profile\0";
        let message = [label, &person.bytes("profile")[..]].concat();
        keys.signing.verifying_key().verify(&message, &person.array("profile_signature")).unwrap();
        assert!(signed.as_bytes().windows(message.len() - label.len()).any(|part| part == &message[label.len()..]));
        assert_eq!(signed.to_string(), person.text("card"));
        assert_eq!(person.text("card").parse::<SignedProfile>().unwrap(), signed);
    }
}

pub fn safety_numbers(vectors: &Vectors) {
    for pair in vectors.part("safety_numbers").parts() {
        let people = pair.part("people");
        let [one, other] = ["0", "1"].map(|at| account(vectors, people.text(at)).identity().fingerprint());
        assert_eq!(safety_number(&one, &other), pair.text("number"));
        assert_eq!(safety_number(&other, &one), pair.text("number"));
    }
}

pub fn sealed_counter(vectors: &Vectors) {
    let counter = vectors.part("sealed_counter");
    let owner = account(vectors, counter.text("owner"));
    let record = CounterRecord { number: counter.number("number"), time: counter.number("time") };
    let mut randomness = Script::of(&[(&counter, "nonce")]);
    counter.is("record", record.seal(&owner, &mut randomness));
    randomness.end();
    assert_eq!(CounterRecord::open(&owner, &counter.bytes("record")).unwrap(), record);
    let key = BoxKey::new(Secret::new(counter.array("key")));
    let plaintext = key.open(&counter.array("nonce"), &counter.bytes("record")[24..]).unwrap();
    assert_eq!(plaintext[..16], [record.number.to_le_bytes(), record.time.to_le_bytes()].concat());
}

pub fn conversations(vectors: &Vectors) {
    for conversation in vectors.part("conversations").parts() {
        let names = conversation.part("participants");
        let participants: Vec<Fingerprint> =
            names.parts().iter().map(|at| account(vectors, names.text(at.name())).identity().fingerprint()).collect();
        let mut sorted = participants.clone();
        sorted.sort_unstable();
        for (at, fingerprint) in sorted.iter().enumerate() {
            conversation.part("sorted_fingerprints").is(&at.to_string(), fingerprint.0);
        }
        conversation.is("id", ConversationId::of_participants(&participants).0);
        conversation.is("salted_id", ConversationId::salted(&conversation.array("salt"), &participants).0);
        conversation.is("participants_hash", participants_hash(&participants));
    }
}

pub fn kem(vectors: &Vectors) {
    let kem = vectors.part("kem");
    let pair = kem_pair(&kem, "seed");
    kem.is("encapsulation_key", pair.public().as_bytes());
    let key = EncapsulationKey::from_slice(&kem.bytes("encapsulation_key")).unwrap();
    let mut randomness = Script::of(&[(&kem, "randomness")]);
    let (ciphertext, secret) = key.encapsulate(&mut randomness).unwrap();
    randomness.end();
    kem.is("ciphertext", ciphertext.as_bytes());
    kem.is("secret", secret.expose());
    kem.is("secret", pair.decapsulate(&ciphertext).expose());
    let damaged = Ciphertext::from_slice(&kem.bytes("damaged_ciphertext")).unwrap();
    kem.is("damaged_secret", pair.decapsulate(&damaged).expose());
}

/// The prekey of the file, with its secrets.
pub fn prekey_secret(vectors: &Vectors) -> PrekeySecret {
    let prekey = vectors.part("prekey");
    PrekeySecret {
        prekey: SignedPrekey::from_bytes(&prekey.bytes("signed_prekey")).unwrap(),
        ratchet: secret_key(&prekey, "ratchet_secret"),
        auth: secret_key(&prekey, "auth_secret"),
        kem: kem_pair(&prekey, "kem_seed"),
    }
}

pub fn prekey(vectors: &Vectors) {
    let prekey = vectors.part("prekey");
    let owner = account(vectors, prekey.text("owner"));
    let draws = ["ratchet_secret", "auth_secret", "kem_seed", "id"];
    let mut randomness = Script::of(&draws.map(|name| (&prekey, name)));
    assert_eq!(prekey.number("kind"), 1);
    let secrets = PrekeySecret::random(PrekeyKind::OneTime, prekey.number("expires"), &owner, &mut randomness);
    randomness.end();
    prekey.is("kem_seed", secrets.kem.seed().expose());
    let made = secrets.prekey;
    prekey.is("signed_prekey", made.to_bytes());
    prekey.is("id", made.id);
    prekey.is("ratchet_key", made.ratchet.0);
    prekey.is("auth_key", made.auth.0);
    prekey.is("kem_key", made.kem.as_bytes());
    prekey.is("hash", made.hash(&owner.identity()));
    prekey.is("hash", sha256(&[&prekey.bytes("signed_bytes")]));
    prekey.is("signature", owner.signing.sign(&prekey.bytes("signed_bytes")));
    prekey.is("tag", made.tag());
    let parsed = SignedPrekey::from_bytes(&prekey.bytes("signed_prekey")).unwrap();
    assert_eq!(parsed, made);
    parsed.verify(&owner.identity()).unwrap();
}
