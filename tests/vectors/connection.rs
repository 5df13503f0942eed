//! Both ends of a connection, each against the bytes that the other implementation sends.

use chatterbox::crypto::hash::sha256;
use chatterbox::crypto::secretbox::{BoxKey, ZERO_NONCE};
use chatterbox::net::connection::{accept, connect};
use chatterbox::wire::frame::unpad;
use chatterbox::wire::reply::{Reply, ServerMessage};
use chatterbox::wire::request::{Command, Request};

use super::file::{Part, Vectors};
use super::script::{Script, public_key, secret_key};

pub async fn both_sides(vectors: &Vectors) {
    for connection in vectors.part("connections").parts() {
        let from_client = sent(&connection, ["client_ephemeral", "client_proof_frame", "request_frame_base64"]);
        let from_server = sent(&connection, ["server_ephemeral", "server_proof_frame", "reply_frame_base64"]);
        client(&connection, &from_client, &from_server).await;
        server(&connection, &from_client, &from_server).await;
        keys(&connection, "client", "server", "request");
        keys(&connection, "server", "client", "reply");
    }
}

fn sent(connection: &Part<'_>, parts: [&str; 3]) -> Vec<u8> {
    parts.map(|name| connection.bytes(name)).concat()
}

async fn client(connection: &Part<'_>, from_client: &[u8], mut from_server: &[u8]) {
    let mut randomness = Script::of(&[(connection, "client_ephemeral_secret")]);
    let mut wire = Vec::new();
    let long_term = secret_key(connection, "client_secret");
    let server = public_key(connection, "server");
    let halves = (&mut from_server, &mut wire);
    let (mut reader, mut writer) = connect(halves, server, long_term, &mut randomness).await.unwrap();
    randomness.end();
    let request = Request { id: 1, version: 1, command: Command::Ping };
    connection.is("request", request.to_bytes());
    writer.write(&request.to_bytes()).await.unwrap();
    connection.is("reply", reader.read().await.unwrap());
    assert!(wire == from_client, "the client sent other bytes");
}

async fn server(connection: &Part<'_>, mut from_client: &[u8], from_server: &[u8]) {
    let mut randomness = Script::of(&[(connection, "server_ephemeral_secret")]);
    let mut wire = Vec::new();
    let long_term = secret_key(connection, "server_secret");
    let halves = (&mut from_client, &mut wire);
    let (shown, mut reader, mut writer) = accept(halves, long_term, &mut randomness).await.unwrap();
    randomness.end();
    assert_eq!(shown, public_key(connection, "client"));
    connection.is("request", reader.read().await.unwrap());
    let reply = ServerMessage::Reply { id: 1, outcome: Ok(Reply::Done) };
    connection.is("reply", reply.to_bytes());
    writer.write(&reply.to_bytes()).await.unwrap();
    assert!(wire == from_server, "the server sent other bytes");
}

/// What stands in the frames of one side: its proof, then a request or a reply.
fn keys(connection: &Part<'_>, ours: &str, theirs: &str, frame: &str) {
    let secret = |what: &str| secret_key(connection, what);
    let (ephemeral, long_term) = (secret(&format!("{ours}_ephemeral_secret")), secret(&format!("{ours}_secret")));
    connection.is(&format!("{ours}_ephemeral"), ephemeral.public().0);
    connection.is(ours, long_term.public().0);
    let their_ephemeral = public_key(connection, &format!("{theirs}_ephemeral"));
    let key = BoxKey::between(&ephemeral, &their_ephemeral).unwrap();
    connection.is("key", key.expose());
    let proof_key = BoxKey::between(&long_term, &their_ephemeral).unwrap();
    connection.is(&format!("{ours}_proof_key"), proof_key.expose());
    let both = [ephemeral.public().0, their_ephemeral.0].concat();
    let proof_box = proof_key.seal(&ZERO_NONCE, &both);
    connection.is(&format!("{ours}_proof_box"), &proof_box);
    let nonces = connection.part(&format!("{ours}_nonces"));
    let proof = key.open(&nonces.array("0"), &connection.bytes(&format!("{ours}_proof_frame"))[2..]).unwrap();
    assert_eq!(*proof, [&long_term.public().0[..], &proof_box].concat());
    let bytes = connection.bytes(&format!("{frame}_frame_base64"));
    connection.is(&format!("{frame}_frame_sha256"), sha256(&[&bytes]));
    let plaintext = key.open(&nonces.array("1"), &bytes[3..]).unwrap();
    connection.is(frame, unpad(&plaintext).unwrap());
}
