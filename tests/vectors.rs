//! The client and the server against `tests/vectors/protocol.json`, which `scripts/vectors` made, another
//! implementation of `docs/protocol.md` in another language.
//!
//! Both directions: with the vectors' randomness this code makes the same bytes, and with the vectors' secrets it opens
//! the bytes that the other implementation made. What the library does not show (a seed, an agreement) is derived here
//! from its public primitives, and compared too, so that every value of the file is checked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic as tests do")]

mod vectors {
    pub mod connection;
    pub mod file;
    pub mod identity;
    pub mod payload;
    pub mod script;
    pub mod session;
}

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vectors::file::Vectors;
use vectors::{connection, identity, payload, session};

#[test]
fn identities_profiles_cards_and_addresses_are_those_of_the_vectors() {
    identity::identities(&Vectors::load());
}

#[test]
fn safety_numbers_are_those_of_the_vectors() {
    identity::safety_numbers(&Vectors::load());
}

#[test]
fn the_sealed_counter_is_that_of_the_vectors() {
    identity::sealed_counter(&Vectors::load());
}

#[test]
fn ids_of_conversations_are_those_of_the_vectors() {
    identity::conversations(&Vectors::load());
}

#[test]
fn ml_kem_768_makes_the_keys_ciphertexts_and_secrets_of_the_vectors() {
    identity::kem(&Vectors::load());
}

#[test]
fn prekeys_are_those_of_the_vectors() {
    identity::prekey(&Vectors::load());
}

#[test]
fn a_session_makes_the_envelopes_of_the_vectors_and_opens_them() {
    session::talk(&Vectors::load());
}

#[test]
fn payloads_and_notes_are_those_of_the_vectors() {
    payload::payloads(&Vectors::load());
}

#[tokio::test]
async fn connections_carry_the_bytes_of_the_vectors_in_both_directions() {
    connection::both_sides(&Vectors::load()).await;
}

#[tokio::test]
async fn every_value_of_the_vectors_is_checked() {
    let vectors = Vectors::load();
    identity::identities(&vectors);
    identity::safety_numbers(&vectors);
    identity::sealed_counter(&vectors);
    identity::conversations(&vectors);
    identity::kem(&vectors);
    identity::prekey(&vectors);
    session::talk(&vectors);
    payload::payloads(&vectors);
    connection::both_sides(&vectors).await;
    assert_eq!(vectors.unread(), ["/about"]);
}

/// The labels in a text, each between `before` and `after`.
fn labels<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split_once(after)).map(|(label, _)| label).collect()
}

fn labels_of_sources(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            labels_of_sources(&path, found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let whole =
                labels(&text, "b\"chatterbox 1 ", "\"").into_iter().filter_map(|label| label.strip_suffix("\\0"));
            found.extend(whole.map(str::to_owned));
        }
    }
}

#[test]
fn the_table_of_labels_has_every_label_of_the_code_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/protocol.md")).unwrap();
    let table = text.split("\n## ").find(|section| section.starts_with("All labels\n")).unwrap();
    let described: BTreeSet<String> = labels(table, "\n| `", "` |").into_iter().map(str::to_owned).collect();
    let mut used = BTreeSet::new();
    labels_of_sources(&root.join("src"), &mut used);
    assert_eq!(described, used);
    assert!(used.len() >= 15, "{used:?}");
}
