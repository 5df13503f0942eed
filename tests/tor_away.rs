//! The dialer `tor` where there is no Tor network: files are worked, nothing is lost, and what is in the way is said where
//! a person looks. With a network: `tests/tor.rs`.

#![cfg(all(feature = "daemon", feature = "server", feature = "tor"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use support::{User, World, wait_for};

/// A Tor network that has ceased to be: its addresses are on this machine, and nobody listens there.
fn network(world: &World) -> String {
    let path = world.scratch.path().join("network.toml");
    // A port that was free a moment ago. Whoever else takes it is no Tor relay either.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let relay = |number: u8| {
        let [rsa, ed] = [format!("{number:02x}").repeat(20), "A".repeat(43)];
        format!("{{ rsa_identity = \"{rsa}\", ed_identity = \"{ed}\", orports = [\"127.0.0.1:{port}\"] }}")
    };
    let identities = [1, 2, 3].map(|number: u8| format!("\"{}\"", format!("{number:02X}").repeat(20))).join(", ");
    let text = format!(
        "[address_filter]\nallow_local_addrs = true\n\
         [tor_network]\nfallback_caches = [{}]\n\
         [tor_network.authorities]\nv3idents = [{identities}]\n\
         uploads = [[\"127.0.0.1:{port}\"]]\ndownloads = [[\"127.0.0.1:{port}\"]]\nvotes = [[\"127.0.0.1:{port}\"]]\n",
        [relay(1), relay(2), relay(3)].join(", ")
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn settings(user: &User, dialer: &str, network: &str) {
    let text = format!("dialer = \"{dialer}\"\ndangerous_private_tor_network = \"{network}\"\n");
    fs::write(user.at("chatterbox.toml"), text).unwrap();
}

/// Alice, who has bob's card and a Tor that cannot connect.
fn alone() -> (World, User, User) {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    alice.wait_for_status("connection: connected");
    alice.stop();
    settings(&alice, "tor", &network(&world));
    (world, alice, bob)
}

#[test]
fn without_tor_files_are_taken_and_wait_and_go_when_there_is_a_way() {
    let (world, mut alice, bob) = alone();
    alice.start();
    alice.wait_for_status("connection: not connected to 127.");
    alice.drop_file("bob", "x", "written without Tor");
    alice.wait_until_gone("outbox/bob/x");
    alice.wait_for_status("queue: 1");
    let status = fs::read_to_string(alice.at("status")).unwrap();
    assert!(status.contains("tor: 0%: ") && status.contains("a private Tor network"), "{status}");
    assert!(status.contains("waiting for Tor"), "{status}");
    let message = alice.wait_for("our copy", || {
        let mut messages = alice.messages();
        messages.pop().map(|(conversation, name, _)| alice.at("conversations").join(conversation).join(name))
    });
    assert!(alice.delivery(&message).contains(" queued ") || alice.delivery(&message).contains(" sealed "));

    // The server heard nothing of her: the way without Tor is not taken by itself.
    assert!(bob.heard_from("alice").is_empty());
    alice.stop();
    settings(&alice, "direct", &network(&world));
    alice.start();
    bob.wait_for_message("written without Tor");
    alice.wait_for_status("queue: 0");
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_until_it_is_mended() {
    let (_world, mut alice, _bob) = alone();
    fs::create_dir(alice.at("tor")).unwrap();
    fs::set_permissions(alice.at("tor"), fs::Permissions::from_mode(0o777)).unwrap();
    alice.start();
    let status = alice.wait_for("what is wrong", || {
        let status = fs::read_to_string(alice.at("status")).unwrap_or_default();
        status.contains("Incorrect permissions").then_some(status)
    });
    assert!(status.contains("chmod go-w") && status.contains("alice/tor"), "{status}");
    fs::set_permissions(alice.at("tor"), fs::Permissions::from_mode(0o700)).unwrap();
    alice.wait_for_status("tor: 0%: connecting");
    // What arti has made there is for nobody else to read.
    let open = wait_for(&alice.root, "arti's files", || {
        let files = walk(&alice.at("tor"));
        (files.len() > 2).then(|| files.into_iter().filter(|(_, mode)| mode & 0o077 != 0).collect::<Vec<_>>())
    });
    assert_eq!(open, []);
}

/// Files and directories below, with their permission bits.
fn walk(directory: &std::path::Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for path in support::entries(directory) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        found.push((path.display().to_string(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            found.extend(walk(&path));
        }
    }
    found
}

#[test]
fn a_program_that_is_no_proxy_is_called_so_though_it_says_nothing() {
    let (world, mut alice, _bob) = alone();
    // Connections stand in its queue, and nobody answers them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    settings(&alice, &format!("socks5://{}", silent.local_addr().unwrap()), &network(&world));
    alice.start();
    let status = alice.wait_for("what is wrong", || {
        let status = fs::read_to_string(alice.at("status")).unwrap_or_default();
        status.contains("is no SOCKS5 proxy").then_some(status)
    });
    assert!(status.contains(&format!("dialer: socks5://{}", silent.local_addr().unwrap())), "{status}");
    assert!(!status.contains("\ntor: "), "{status}");
}

#[test]
fn a_network_file_that_is_none_is_named() {
    let (world, mut alice, _bob) = alone();
    settings(&alice, "tor", world.scratch.path().join("nothing.toml").to_str().unwrap());
    alice.start();
    let status = alice.wait_for("what is wrong", || {
        let status = fs::read_to_string(alice.at("status")).unwrap_or_default();
        status.contains("nothing.toml").then_some(status)
    });
    assert!(status.contains("No such file"), "{status}");
}

#[test]
fn what_tor_wrote_and_is_damaged_is_named_and_made_anew_once_it_was_moved_away() {
    let (_world, mut alice, _bob) = alone();
    alice.start();
    alice.wait_for_status("tor: 0%: connecting");
    alice.stop();
    for (part, file) in [("state/state", "guards.json"), ("cache", "dir.sqlite3")] {
        let path = alice.at("tor").join(part);
        assert!(!fs::read(path.join(file)).unwrap().is_empty());
        fs::write(path.join(file), "neither JSON nor a database ".repeat(100)).unwrap();
        alice.start();
        alice.wait_for("what to do", || {
            let status = fs::read_to_string(alice.at("status")).unwrap_or_default();
            status.contains(&format!("move {} away", path.display())).then_some(())
        });
        alice.stop();
        fs::rename(&path, path.with_extension("damaged")).unwrap();
        alice.start();
        alice.wait_for_status("tor: 0%: connecting");
        alice.stop();
        assert!(path.join(file).exists());
    }
}
