//! What cannot be sent, read or reached gets its own clear error where the design says, and nothing is lost or sent.

#![cfg(all(feature = "daemon", feature = "server"))]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use chatterbox::limits::SEND_LIMIT_BYTES;
use support::{World, entries, machine};

/// Both sentences of an error file: what is wrong, and what to do.
fn assert_two_sentences(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() >= 2 && lines.iter().all(|line| line.ends_with(['.', ')', '"'])), "{text:?}");
}

#[test]
fn an_unknown_contact_gets_an_error_beside_the_directory_until_the_card_is_there() {
    let world = World::new();
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.start();
    bob.add(&alice);
    bob.start();
    alice.drop_file("bob", "x", "held back");
    let error = alice.wait_for_file("outbox/bob.error");
    assert!(error.contains("no contact called bob") && error.contains("contact add bob"), "{error}");
    assert_two_sentences(&error);
    assert_eq!(fs::read_to_string(alice.at("outbox/bob/x")).unwrap(), "held back");
    alice.wait_for_status("refused: outbox/bob");
    alice.add(&bob);
    bob.wait_for_message("held back");
    alice.wait_until_gone("outbox/bob.error");
}

#[test]
fn our_own_name_is_no_recipient() {
    let world = World::new();
    let [alice, _bob] = world.friends(["alice", "bob"]);
    alice.drop_file("alice", "x", "to myself");
    assert!(alice.wait_for_file("outbox/alice.error").contains("alice is your own account"));
    alice.drop_file("alice,bob", "x", "to both");
    assert!(alice.wait_for_file("outbox/alice,bob.error").contains("alice is your own account"));
    assert!(alice.messages().is_empty());
}

#[test]
fn files_that_are_no_messages_get_an_error_each_and_hold_up_no_other() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let outbox = alice.at("outbox/bob");
    fs::create_dir_all(&outbox).unwrap();
    symlink("/etc/passwd", outbox.join("link")).unwrap();
    assert!(Command::new("mkfifo").arg(outbox.join("pipe")).status().unwrap().success());
    fs::create_dir(outbox.join("directory")).unwrap();
    // Of nothing but holes: it must be refused before it is read.
    fs::File::create(outbox.join("large")).unwrap().set_len(SEND_LIMIT_BYTES + 1).unwrap();
    let empty = fs::File::create(outbox.join("empty")).unwrap();
    empty.set_modified(SystemTime::now() - Duration::from_secs(61)).unwrap();
    drop(empty);
    fs::write(alice.at("outbox/stray"), "in no directory").unwrap();
    symlink("bob", alice.at("outbox/alias")).unwrap();
    fs::write(outbox.join("good"), "good").unwrap();
    bob.wait_for_message("good");
    for (name, says) in [
        ("bob/link", "symbolic link"),
        ("bob/pipe", "no regular file"),
        ("bob/directory", "directory"),
        ("bob/large", "67108865 bytes, and a message at most 67108864"),
        ("bob/empty", "empty"),
        ("stray", "in no conversation"),
        ("alias", "symbolic link"),
    ] {
        let error = alice.wait_for_file(format!("outbox/{name}.error"));
        assert!(error.contains(says), "{name}: {error}");
        assert_two_sentences(&error);
        assert!(fs::symlink_metadata(alice.at("outbox").join(name)).is_ok(), "{name} stays");
    }
    alice.wait_for_message("good");
    assert_eq!(alice.heard_from("alice"), ["good"]);
    // The error goes with its cause.
    fs::write(outbox.join("empty"), "no more").unwrap();
    bob.wait_for_message("no more");
    alice.wait_until_gone("outbox/bob/empty.error");
    fs::write(outbox.join("large"), "smaller").unwrap();
    bob.wait_for_message("smaller");
    alice.wait_until_gone("outbox/bob/large.error");
    fs::remove_file(outbox.join("link")).unwrap();
    alice.wait_until_gone("outbox/bob/link.error");
}

/// The daemon under another user, who may not read everything as root may.
#[test]
fn a_file_that_the_daemon_may_not_read_gets_an_error_and_another_users_file_is_sent_when_quiet() {
    let world = World::new();
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    bob.add(&alice);
    bob.start();
    alice.start_ordinarily();
    alice.drop_file("bob", "mine", "readable");
    fs::set_permissions(alice.at("outbox/bob"), fs::Permissions::from_mode(0o777)).unwrap();
    let secret = alice.at("tmp/secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    machine::give_to(machine::SOMEBODY, [alice.at("outbox/bob").as_path()]);
    fs::rename(&secret, alice.at("outbox/bob/secret")).unwrap();
    let error = alice.wait_for_file("outbox/bob/secret.error");
    assert!(error.contains("may not read") && error.contains("chmod"), "{error}");
    // As root the file that we wrote is another user's: no lease can be had, and a quiet while decides.
    bob.wait_for_message("readable");
    fs::set_permissions(alice.at("outbox/bob/secret"), fs::Permissions::from_mode(0o644)).unwrap();
    bob.wait_for_message("secret");
    alice.wait_until_gone("outbox/bob/secret.error");
    alice.stop();
}

#[test]
fn hidden_and_linked_directories_are_left_alone() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let elsewhere = alice.root.with_extension("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("diary"), "private").unwrap();
    fs::create_dir(alice.at("outbox/.draft")).unwrap();
    fs::write(alice.at("outbox/.draft/metadata.toml"), "participants = [\"bob\"]\n").unwrap();
    fs::write(alice.at("outbox/.draft/x"), "not yet").unwrap();
    symlink(&elsewhere, alice.at("outbox/bob")).unwrap();
    let error = alice.wait_for_file("outbox/bob.error");
    assert!(error.contains("symbolic link"), "{error}");
    // Whatever is done behind the link, and in the hidden directory, stays there.
    fs::write(elsewhere.join("diary"), "still private").unwrap();
    fs::rename(alice.at("outbox/.draft"), alice.at("outbox/.other")).unwrap();
    fs::remove_file(alice.at("outbox/bob")).unwrap();
    alice.drop_file("bob", "x", "public");
    bob.wait_for_message("public");
    alice.wait_until_gone("outbox/bob.error");
    alice.wait_for_message("public");
    assert_eq!(alice.heard_from("alice"), ["public"]);
    assert_eq!(entries(&elsewhere), [elsewhere.join("diary")]);
    fs::rename(alice.at("outbox/.other"), alice.at("outbox/ready")).unwrap();
    bob.wait_for_message("not yet");
}

#[test]
fn a_persons_own_error_file_is_no_message_and_is_not_touched() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "build.error", "a log");
    symlink("/etc/passwd", alice.at("outbox/bob/build")).unwrap();
    alice.drop_file("bob", "x", "after it");
    bob.wait_for_message("after it");
    alice.stop();
    fs::remove_file(alice.at("outbox/bob/build")).unwrap();
    alice.start();
    alice.drop_file("bob", "x", "after a restart");
    bob.wait_for_message("after a restart");
    assert_eq!(fs::read_to_string(alice.at("outbox/bob/build.error")).unwrap(), "a log");
}

#[test]
fn an_error_of_a_former_run_goes_when_its_file_does() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    fs::create_dir_all(alice.at("outbox/bob")).unwrap();
    symlink("/etc/passwd", alice.at("outbox/bob/link")).unwrap();
    symlink("/etc/passwd", alice.at("outbox/bob/link2")).unwrap();
    alice.wait_for_file("outbox/bob/link.error");
    alice.wait_for_file("outbox/bob/link2.error");
    alice.stop();
    fs::remove_file(alice.at("outbox/bob/link")).unwrap();
    fs::remove_file(alice.at("outbox/bob/link2")).unwrap();
    fs::write(alice.at("outbox/bob/link2"), "a file now").unwrap();
    alice.start();
    alice.wait_until_gone("outbox/bob/link.error");
    bob.wait_for_message("a file now");
    alice.wait_until_gone("outbox/bob/link2.error");
}

#[test]
fn a_file_that_is_open_for_writing_waits_and_says_so() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    fs::create_dir_all(alice.at("outbox/bob")).unwrap();
    let mut slow = fs::File::create(alice.at("outbox/bob/slow")).unwrap();
    slow.write_all(b"first half, ").unwrap();
    alice.drop_file("bob", "quick", "quick");
    bob.wait_for_message("quick");
    alice.wait_for_status("waiting: outbox/bob/slow: another program has it open");
    slow.write_all(b"second half").unwrap();
    drop(slow);
    bob.wait_for_message("first half, second half");
    alice.wait_for("no more waiting", || {
        (!fs::read_to_string(alice.at("status")).ok()?.contains("waiting:")).then_some(())
    });
}

#[test]
fn drafts_are_left_alone_and_counted() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    for name in [".hidden", "x~", "#x#", "x.tmp", "x.part", "x.swp", "build.error"] {
        alice.drop_file("bob", name, "draft");
    }
    alice.drop_file("bob", "x", "real");
    bob.wait_for_message("real");
    // A directory event makes the daemon count.
    fs::create_dir(alice.at("outbox/other")).unwrap();
    alice.wait_for_status("ignored: 7");
    alice.wait_for_message("real");
    assert_eq!(alice.heard_from("alice"), ["real"]);
    assert!(alice.at("outbox/bob/x.tmp").exists());
}

#[test]
fn malformed_metadata_holds_the_directory_back_until_it_is_corrected() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    for (directory, metadata, says) in [
        ("toml", "participants = [", "cannot be understood"),
        ("missing", "subject = \"x\"\n", "participants"),
        ("who", "participants = [\"zoe\"]\n", "no contact called zoe"),
        ("alone", "participants = [\"alice\"]\n", "nobody but you"),
        ("id", "id = \"xyz\"\nparticipants = [\"bob\"]\n", "32 hex digits"),
        ("unknown", "id = \"ffffffffffffffffffffffffffffffff\"\nparticipants = [\"bob\"]\n", "no conversation with"),
    ] {
        let draft = alice.at("tmp").join(directory);
        fs::create_dir_all(&draft).unwrap();
        fs::write(draft.join("metadata.toml"), metadata).unwrap();
        fs::write(draft.join("x"), format!("in {directory}")).unwrap();
        fs::rename(&draft, alice.at("outbox").join(directory)).unwrap();
        let error = alice.wait_for_file(format!("outbox/{directory}.error"));
        assert!(error.contains(says), "{directory}: {error}");
        fs::write(alice.at("outbox").join(directory).join("metadata.toml"), "participants = [\"bob\"]\n").unwrap();
        bob.wait_for_message(&format!("in {directory}"));
        alice.wait_until_gone(format!("outbox/{directory}.error"));
    }
}

#[test]
fn a_directory_renamed_to_other_contacts_does_not_send_to_the_wrong_people() {
    let world = World::new();
    let [alice, bob, carol] = world.friends(["alice", "bob", "carol"]);
    alice.drop_file("bob", "1", "for bob");
    bob.wait_for_message("for bob");
    fs::rename(alice.at("outbox/bob"), alice.at("outbox/carol")).unwrap();
    alice.drop_file("carol", "2", "for whom?");
    let error = alice.wait_for_file("outbox/carol.error");
    assert!(error.contains("belongs to another conversation"), "{error}");
    fs::rename(alice.at("outbox/carol"), alice.at("outbox/old-bob")).unwrap();
    bob.wait_for_message("for whom?");
    assert!(carol.messages().is_empty());
}

#[test]
fn bad_cards_get_an_error_beside_them_and_bother_no_other() {
    let world = World::new();
    let (mut alice, bob) = (world.user("alice"), world.user("bob"));
    alice.start();
    let card = bob.card();
    let typo = card.replacen('A', "B", 1);
    fs::write(alice.at("contacts/typo.card"), &typo).unwrap();
    fs::write(alice.at("contacts/noise.card"), [0xff, 0xfe, 0]).unwrap();
    fs::write(alice.at("contacts/empty.card"), "").unwrap();
    fs::write(alice.at("contacts/me.card"), alice.card()).unwrap();
    fs::write(alice.at("contacts/alice.card"), &card).unwrap();
    symlink(alice.at("contacts/bob.card"), alice.at("contacts/link.card")).unwrap();
    fs::write(alice.at("contacts/card"), &card).unwrap();
    for (name, says) in [
        ("typo", "not a good card"),
        ("noise", "not text"),
        ("empty", "not a good card"),
        ("me", "your own card"),
        ("alice", "Your own account is called alice"),
        ("link", "cannot be read"),
    ] {
        let error = alice.wait_for_file(format!("contacts/{name}.card.error"));
        assert!(error.contains(says), "{name}: {error}");
    }
    assert!(alice.wait_for_file("contacts/card.error").contains("called NAME.card"));
    fs::remove_file(alice.at("contacts/card")).unwrap();
    alice.wait_until_gone("contacts/card.error");
    fs::write(alice.at("contacts/bob.card"), &card).unwrap();
    alice.drop_file("bob", "x", "to a good one");
    alice.wait_until_gone("outbox/bob/x");
    fs::write(alice.at("contacts/typo.card"), &card).unwrap();
    alice.wait_until_gone("contacts/typo.card.error");
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused_and_the_first_goes_on() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    alice.wait_for_status("connection: connected");
    let second = alice.daemon_output();
    assert_eq!(second.status.code(), Some(75));
    let says = String::from_utf8(second.stderr).unwrap();
    assert!(says.contains("chatterboxd: running on ") && says.contains("chatterbox status"), "{says}");
    assert!(alice.daemon.as_mut().unwrap().is_running());
    let status = fs::read_to_string(alice.at("status")).unwrap();
    assert!(status.contains("daemon: running\n") && !status.contains("ended: "), "{status}");
    alice.drop_file("bob", "x", "still there");
    bob.wait_for_message("still there");
}

#[test]
fn a_daemon_that_starts_while_somebody_looks_at_its_lock_waits_for_them_and_hears_a_stop() {
    let world = World::new();
    let mut alice = world.user("alice");
    alice.start();
    alice.wait_for_status("connection: connected");
    alice.stop();
    let looking = fs::File::open(alice.at("journal/lock")).unwrap();
    rustix::fs::flock(&looking, rustix::fs::FlockOperation::LockShared).unwrap();
    let waits = |alice: &support::User, times: usize| {
        let says = "the start waits for them";
        alice.wait_for(says, || (alice.log().matches(says).count() == times).then_some(()));
    };
    alice.start();
    waits(&alice, 1);
    alice.stop();
    alice.start();
    waits(&alice, 2);
    drop(looking);
    alice.wait_for_status("connection: connected");
}

#[test]
fn a_root_that_does_not_exist_or_holds_no_account_is_refused() {
    let world = World::new();
    let mut nobody = world.user("nobody");
    nobody.root = world.scratch.path().join("nowhere");
    let output = nobody.daemon_output();
    assert_eq!(output.status.code(), Some(66));
    assert!(String::from_utf8(output.stderr).unwrap().contains("chatterbox init"));
    assert!(!nobody.root.exists(), "nothing is made by asking");
    fs::create_dir(&nobody.root).unwrap();
    assert_eq!(nobody.daemon_output().status.code(), Some(66));
    assert!(entries(&nobody.root).is_empty());
}

#[test]
fn damaged_state_stops_the_daemon_with_the_files_name() {
    let world = World::new();
    let mut alice = world.user("alice");
    alice.start();
    alice.wait_for_status("prekeys: 100");
    alice.stop();
    for (file, content) in [
        ("keys/prekeys", &b"\xff\xff"[..]),
        ("config.pb", b""),
        ("profile.pb", b"x"),
        ("chatterbox.toml", b"dialer = 1"),
    ] {
        let good = fs::read(alice.at(file)).unwrap();
        fs::write(alice.at(file), content).unwrap();
        let output = alice.daemon_output();
        let says = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(65 | 78)), "{file}: {says}");
        assert!(says.contains(file), "{says}");
        assert!(!says.contains("panicked"), "{says}");
        let status = fs::read_to_string(alice.at("status")).unwrap();
        let ended = status.lines().find(|line| line.starts_with("ended: ")).unwrap_or_else(|| panic!("{status}"));
        assert!(ended.contains(file) && status.starts_with("daemon: stopped\n"), "{status}");
        assert!(status.contains("\nprekeys: 100\n"), "what was known before is left: {status}");
        fs::write(alice.at(file), good).unwrap();
        let said = String::from_utf8(alice.cli(&["status"]).stdout).unwrap();
        assert!(said.starts_with(&format!("daemon: not running\n{ended}\n")), "{said}");
        let found = String::from_utf8(alice.cli(&["doctor"]).stdout).unwrap();
        assert!(found.contains("chatterboxd has ended: ") && found.contains(file), "{found}");
    }
    alice.start();
    alice.wait_for_status("connection: connected");
    let status = fs::read_to_string(alice.at("status")).unwrap();
    assert!(!status.contains("ended: "), "{status}");
}

#[test]
fn an_emptied_or_cut_state_file_stops_the_daemon_and_is_found_by_doctor() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "question");
    bob.wait_for_message("question");
    bob.drop_file("alice", "x", "answer");
    alice.wait_for_message("answer");
    alice.wait_for_status("prekeys: ");
    alice.stop();
    let keys = entries(&alice.at("keys")).into_iter();
    let files: Vec<_> = keys.flat_map(|path| if path.is_dir() { entries(&path) } else { vec![path] }).collect();
    // Prekeys, a session, a conversation, two transcripts, names, hashes, the counter, what was sent; what is to be acknowledged.
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        let good = fs::read(&file).unwrap();
        let is_hashes = file.to_str().unwrap().contains("/received-");
        for kept in [0, 20].into_iter().filter(|kept| *kept == 0 || is_hashes) {
            fs::write(&file, &good[..kept]).unwrap();
            let output = alice.daemon_output();
            let says = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(65), "{says}");
            assert!(says.contains(file.to_str().unwrap()), "{says}");
            let doctor = alice.cli(&["doctor"]);
            let finds = String::from_utf8(doctor.stdout).unwrap();
            assert_eq!(doctor.status.code(), Some(65), "{finds}");
            assert!(finds.contains(file.file_name().unwrap().to_str().unwrap()), "{finds}");
        }
        fs::write(&file, good).unwrap();
    }
    alice.start();
    alice.wait_for_status("connection: connected");
}

#[test]
fn an_unreachable_server_is_said_in_status_and_the_message_waits() {
    let world = World::new();
    let (mut alice, bob) = (world.user_at("alice", &nobody_listens(&world)), world.user("bob"));
    alice.add(&bob);
    alice.start();
    let connection = alice.wait_for_status("connection: not connected to ");
    assert!(connection.contains("refused"), "{connection}");
    let shown = alice.cli(&["status"]);
    assert!(shown.status.success());
    alice.drop_file("bob", "x", "patience");
    alice.wait_until_gone("outbox/bob/x");
    alice.wait_for_message("patience");
}

/// An address at which nobody listens, with a key that somebody might have.
fn nobody_listens(world: &World) -> String {
    world.server.address.replacen(":19840/", ":19841/", 1)
}

#[test]
fn an_impostor_server_learns_nothing_and_is_said_in_status() {
    let mut world = World::new();
    let mut alice = world.user("alice");
    // Another server, with a key of its own, takes the place of ours.
    world.server.kill();
    fs::rename(&world.server.directory, world.scratch.path().join("away")).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_chatterbox-server"))
        .arg("init")
        .arg(&world.server.directory)
        .args(["--address", world.server.listen_address()])
        .status();
    assert!(made.unwrap().success());
    world.server.start();
    alice.start();
    let connection = alice.wait_for_status("connection: not connected to ");
    let connection = match connection.contains("another key") {
        true => connection,
        // The very first try may have come before the impostor listened.
        false => alice.wait_for("the impostor", || {
            let text = fs::read_to_string(alice.at("status")).ok()?;
            text.lines().find(|line| line.contains("another key")).map(str::to_owned)
        }),
    };
    assert!(connection.contains("not the server it claims to be"), "{connection}");
    world.server.kill();
    fs::remove_dir_all(&world.server.directory).unwrap();
    fs::rename(world.scratch.path().join("away"), &world.server.directory).unwrap();
    world.server.start();
    alice.wait_for_status("connection: connected");
}

/// Failure 21 of the predecessor, and 19: names that lie become harmless ones, and nothing of a message is watched.
#[test]
fn hostile_file_names_are_escaped_and_come_back() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let names: [&[u8]; 4] = [b"a\nb.txt", b"-rf.sh", b"\xff\xfe.bin", b"100%.txt"];
    for (number, name) in names.iter().enumerate() {
        use std::os::unix::ffi::OsStrExt as _;
        let draft = alice.at("tmp/draft");
        fs::write(&draft, format!("{number}")).unwrap();
        fs::create_dir_all(alice.at("outbox/bob")).unwrap();
        fs::rename(&draft, alice.at("outbox/bob").join(std::ffi::OsStr::from_bytes(name))).unwrap();
        bob.wait_for_message(&number.to_string());
    }
    let shown: Vec<String> =
        bob.messages().into_iter().map(|(_, name, _)| name.split_once("Z-").unwrap().1.into()).collect();
    assert_eq!(shown, ["alice-a%0Ab.txt", "alice-%2Drf.sh", "alice-%FF%FE.bin", "alice-100%25.txt"]);
}

/// Failure 16: a server that is gone without a word is noticed, and said.
#[test]
fn a_server_that_restarts_is_found_again_without_a_hand() {
    let mut world = World::new();
    let mut alice = world.user("alice");
    alice.start();
    for _ in 0..3 {
        alice.wait_for_status("connection: connected");
        world.server.kill();
        alice.wait_for_status("connection: not connected");
        world.server.start();
    }
    alice.wait_for_status("connection: connected");
}

#[test]
fn status_of_a_killed_daemon_is_not_believed() {
    let world = World::new();
    let mut alice = world.user("alice");
    alice.start();
    alice.wait_for_status("connection: connected");
    assert!(alice.cli(&["status", "--wait", "connected", "--timeout", "60"]).status.success());
    alice.kill();
    let shown = String::from_utf8(alice.cli(&["status"]).stdout).unwrap();
    assert!(shown.contains("not running"), "{shown}");
    let json = alice.cli(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["connected"], false);
    assert!(fs::read_to_string(alice.at("status")).unwrap().contains("daemon: running"), "the file is stale");
}
