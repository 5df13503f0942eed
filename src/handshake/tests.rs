use rand_core::OsRng;

use super::*;

fn key() -> SecretKey {
    SecretKey::random(&mut OsRng)
}

/// Both sides up to the client's proof.
fn through(client: SecretKey, server: SecretKey) -> (Vec<u8>, Sealer, Opener, AwaitingClientProof) {
    let (awaiting, a) = AwaitingEphemeral::start(server.public(), client, &mut OsRng);
    let (server, b, proof) = AwaitingClientProof::start(a, server, &mut OsRng).unwrap();
    assert_eq!(proof.len(), PROOF_FRAME_BYTES + BOX_OVERHEAD_BYTES);
    let (proof, sealer, opener) = awaiting.receive(b).unwrap().receive(&proof).unwrap();
    (proof, sealer, opener, server)
}

#[test]
fn both_sides_end_with_each_others_keys_and_open_each_others_frames() {
    let client = key();
    let (proof, mut client_sealer, mut client_opener, server) = through(client.clone(), key());
    let (shown, mut server_sealer, mut server_opener) = server.receive(&proof).unwrap();
    assert_eq!(shown, client.public());
    for round in 0..3u8 {
        assert_eq!(*server_opener.open(&client_sealer.seal(&[round])).unwrap(), [round]);
        assert_eq!(*client_opener.open(&server_sealer.seal(&[round, round])).unwrap(), [round, round]);
    }
}

#[test]
fn frames_that_are_dropped_repeated_or_turned_back_do_not_open() {
    let (proof, mut sealer, mut client_opener, server) = through(key(), key());
    let (_, _, mut opener) = server.receive(&proof).unwrap();
    let first = sealer.seal(b"first");
    assert!(client_opener.open(&first).is_err(), "our own frame came back");
    assert!(opener.open(&first).is_ok());
    assert!(opener.open(&first).is_err(), "repeated");
    let (proof, mut sealer, _, server) = through(key(), key());
    let (_, _, mut opener) = server.receive(&proof).unwrap();
    let _dropped = sealer.seal(b"first");
    assert!(opener.open(&sealer.seal(b"second")).is_err(), "after a gap");
}

#[test]
fn an_impostor_is_recognized_before_the_client_shows_its_key() {
    let (awaiting, a) = AwaitingEphemeral::start(key().public(), key(), &mut OsRng);
    let (_, b, proof) = AwaitingClientProof::start(a, key(), &mut OsRng).unwrap();
    assert_eq!(awaiting.receive(b).unwrap().receive(&proof).unwrap_err(), HandshakeError::WrongServer);
}

#[test]
fn a_key_that_is_shown_but_not_held_proves_nothing() {
    let (victim, liar) = (key(), key());
    let (awaiting, a) = AwaitingEphemeral::start(victim.public(), key(), &mut OsRng);
    let ephemeral = key();
    let (mut sealer, _) = channel::directions(&ephemeral, &a).unwrap();
    let ours = Ours { ephemeral: &ephemeral, long_term: &liar };
    let mut proof = write_proof(&ours, &a).unwrap();
    proof[..32].copy_from_slice(&victim.public().0);
    let refused = awaiting.receive(ephemeral.public()).unwrap().receive(&sealer.seal(&proof)).unwrap_err();
    assert_eq!(refused, HandshakeError::Forged);
}

#[test]
fn our_own_words_played_back_are_refused() {
    let server = key();
    let (awaiting, a) = AwaitingEphemeral::start(server.public(), key(), &mut OsRng);
    assert_eq!(awaiting.receive(a).unwrap_err(), HandshakeError::EqualEphemerals);
    let (awaiting, a) = AwaitingEphemeral::start(server.public(), server.clone(), &mut OsRng);
    let (_, b, proof) = AwaitingClientProof::start(a, server, &mut OsRng).unwrap();
    assert_eq!(awaiting.receive(b).unwrap().receive(&proof).unwrap_err(), HandshakeError::OwnKey);
}

#[test]
fn keys_of_small_order_are_refused() {
    let (awaiting, _) = AwaitingEphemeral::start(key().public(), key(), &mut OsRng);
    assert_eq!(awaiting.receive(PublicKey([0; 32])).unwrap_err(), HandshakeError::SmallOrder);
    let started = AwaitingClientProof::start(PublicKey([0; 32]), key(), &mut OsRng);
    assert_eq!(started.map(|_| ()).unwrap_err(), HandshakeError::SmallOrder);
}

#[test]
fn every_changed_byte_of_a_proof_ends_the_handshake() {
    for position in 0..PROOF_FRAME_BYTES + BOX_OVERHEAD_BYTES {
        let (mut proof, _, _, server) = through(key(), key());
        proof[position] ^= 0x40;
        assert_eq!(server.receive(&proof).map(|_| ()).unwrap_err(), HandshakeError::Forged);
    }
}

/// The nonces, checked against boxes made by hand as section 6 of the design describes them.
#[test]
fn nonces_count_by_two_from_the_side_with_the_lower_ephemeral() {
    let (one, other) = (key(), key());
    let (lower, higher) = if one.public() < other.public() { (one, other) } else { (other, one) };
    let shared = BoxKey::between(&lower, &higher.public()).unwrap();
    for (ours, theirs, first) in [(&lower, &higher, 1u64), (&higher, &lower, 0)] {
        let (mut sealer, _) = channel::directions(ours, &theirs.public()).unwrap();
        for counter in [first, first + 2, first + 4] {
            let mut nonce = [0; 24];
            nonce[..8].copy_from_slice(&counter.to_le_bytes());
            assert_eq!(sealer.seal(b"frame"), shared.seal(&nonce, b"frame"));
        }
    }
}
