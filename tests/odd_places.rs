//! What people make of the daemon's directories, by `chmod`, `rm`, `touch` and `ln`: what a hostile contact or stranger can make
//! it write there stops nothing, messages go both ways, and behind a restart too.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::strace::{self, Tracer};
use support::{Signal, User, World, as_user, entries, is_left_out, wait_for};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Drops a file as the user of that daemon.
fn drop_as(user: &User, to: &str, name: &str, content: &str) {
    let script = r#"mkdir -p "$1" && printf %s "$3" >"$1/$2""#;
    let owner = fs::metadata(user.at("outbox")).unwrap().uid();
    let mut command = as_user(owner);
    command.args(["sh", "-c", script, "sh"]).arg(user.at("outbox").join(to)).args([name, content]);
    assert!(command.status().unwrap().success());
}

/// Bob, whose daemon has no privileges, Alice, whom he knows, and Carol, whom he does not. None of them runs.
fn people(world: &World) -> [User; 3] {
    set_mode(world.scratch.path(), 0o755);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.user(name));
    alice.add(&bob);
    bob.add(&alice);
    carol.add(&bob);
    [alice, bob, carol]
}

/// Something goes both ways, in this order: what was sent before has been looked at.
fn talk(alice: &User, bob: &User, about: &str) {
    let [question, answer] = ["asked", "told"].map(|word| format!("{word} {about}"));
    alice.drop_file("bob", "x", &question);
    bob.wait_for_message(&question);
    drop_as(bob, "alice", "x", &answer);
    alice.wait_for_message(&answer);
    assert!(!bob.log().contains("work pauses"), "{}", bob.log());
}

/// The same, and behind a restart.
fn talk_twice(alice: &User, bob: &mut User, about: &str) {
    talk(alice, bob, about);
    bob.stop();
    bob.start_ordinarily();
    talk(alice, bob, &format!("{about}, behind a restart"));
}

/// The directory of a request that holds a message with this content.
fn request_with(bob: &User, content: &str) -> PathBuf {
    bob.wait_for(&format!("a request with {content:?}"), || {
        let holds = |request: &PathBuf| {
            let mut told = entries(&request.join(".delivery")).into_iter();
            let is_it = |path: PathBuf| {
                fs::read_to_string(request.join(path.file_name().unwrap())).is_ok_and(|text| text == content)
            };
            request.join("card").exists() && told.any(is_it)
        };
        entries(&bob.at("requests")).into_iter().find(holds)
    })
}

/// The same three, who run, and what Carol has written to Bob, in a request. `begin` starts him.
fn with_request(world: &World, content: &str, begin: fn(&mut User)) -> ([User; 3], PathBuf) {
    let [mut alice, mut bob, mut carol] = people(world);
    alice.start();
    carol.start();
    begin(&mut bob);
    carol.drop_file("bob", "x", content);
    let request = request_with(&bob, content);
    ([alice, bob, carol], request)
}

/// As `cp` does.
fn accept(bob: &User, request: &Path) {
    fs::write(bob.at("contacts/carol.card"), fs::read(request.join("card")).unwrap()).unwrap();
}

fn second(place: &Path) -> PathBuf {
    PathBuf::from(format!("{}-2", place.display()))
}

/// What a person makes of a stranger's request, behind which the next message goes into another directory.
fn request_made_odd(make_odd: impl Fn(&Path), is_as_left: impl Fn(&Path) -> bool) {
    let world = World::new();
    let ([alice, mut bob, carol], request) = with_request(&world, "first", User::start_ordinarily);
    make_odd(&request);
    carol.drop_file("bob", "x", "second");
    assert_eq!(request_with(&bob, "second"), second(&request));
    carol.drop_file("bob", "x", "third");
    assert_eq!(request_with(&bob, "third"), second(&request));
    talk_twice(&alice, &mut bob, "of it");
    carol.drop_file("bob", "x", "fourth");
    assert_eq!(request_with(&bob, "fourth"), second(&request));
    assert!(is_as_left(&request));
    accept(&bob, &second(&request));
    for content in ["second", "third", "fourth"] {
        bob.wait_for_message(content);
    }
    bob.wait_until_gone(second(&request));
    talk(&alice, &bob, "of the end");
    assert_eq!(bob.heard_from("carol").iter().filter(|content| *content != "first").count(), 3, "each once");
}

#[test]
fn a_file_in_the_place_of_a_request_stays_and_the_stranger_gets_another_directory() {
    let make_odd = |request: &Path| {
        support::remove_tree(request);
        fs::write(request, "mine").unwrap();
    };
    request_made_odd(make_odd, |request| fs::read(request).unwrap() == b"mine");
}

#[test]
fn a_link_in_the_place_of_a_request_is_not_followed_and_the_stranger_gets_another_directory() {
    let elsewhere = tempfile::tempdir().unwrap();
    set_mode(elsewhere.path(), 0o777);
    let make_odd = |request: &Path| {
        support::remove_tree(request);
        symlink(elsewhere.path(), request).unwrap();
    };
    request_made_odd(make_odd, |request| request.is_symlink() && entries(elsewhere.path()).is_empty());
}

#[test]
fn a_request_made_read_only_stays_as_it_is_and_the_stranger_gets_another_directory() {
    let count = |request: &Path| entries(request).iter().filter(|path| path.to_string_lossy().contains("Z-")).count();
    request_made_odd(|request| set_mode(request, 0o500), |request| count(request) == 1);
}

#[test]
fn a_file_in_the_place_of_what_tells_of_a_strangers_messages_stays_and_they_get_another_directory() {
    let make_odd = |request: &Path| {
        support::remove_tree(request.join(".delivery"));
        fs::write(request.join(".delivery"), "mine").unwrap();
    };
    request_made_odd(make_odd, |request| fs::read(request.join(".delivery")).unwrap() == b"mine");
}

/// Her conversation was rejected, and then her card was added: it is no stranger's, and still waits for a decision.
#[test]
fn what_a_contact_writes_where_requests_take_nothing_waits_at_the_server() {
    let world = World::new();
    let ([alice, mut bob, carol], request) = with_request(&world, "first", User::start_ordinarily);
    let card = fs::read(request.join("card")).unwrap();
    support::remove_tree(&request);
    talk(&alice, &bob, "what was rejected");
    fs::write(bob.at("contacts/carol.card"), card).unwrap();
    put_a_file_there(&bob.at("requests"));
    talk(&alice, &bob, "whose card was added");
    carol.drop_file("bob", "x", "second");
    carol.wait_until_accepted(&carol.wait_for_message("second"));
    talk_twice(&alice, &mut bob, "what cannot appear");
    mend_a_file(&bob.at("requests"));
    bob.stop();
    bob.start_ordinarily();
    bob.wait_for("what waited", || bob.heard_from("carol").contains(&"second".to_owned()).then_some(()));
}

#[test]
fn what_waits_in_a_request_made_read_only_is_accepted_once_when_it_can_be_moved() {
    let world = World::new();
    let ([alice, mut bob, _carol], request) = with_request(&world, "let me in", User::start_ordinarily);
    set_mode(&request, 0o500);
    accept(&bob, &request);
    let paused = bob.wait_for_status("paused: ");
    assert!(paused.contains("cannot be moved out of requests/carol~") && paused.contains("chmod u+rwx"), "{paused}");
    talk_twice(&alice, &mut bob, "of it");
    assert!(bob.heard_from("carol").is_empty());
    bob.wait_for_status("paused: messages cannot be moved out of");
    set_mode(&request, 0o700);
    bob.wait_for_message("let me in");
    bob.wait_until_gone(&request);
    talk(&alice, &bob, "of the end");
    assert_eq!(bob.heard_from("carol"), ["let me in"]);
}

#[test]
fn what_cannot_be_removed_from_a_request_is_moved_once() {
    if is_left_out(strace::missing()) {
        return;
    }
    let world = World::new();
    let ([alice, bob, _carol], request) = with_request(&world, "let me in", User::start);
    let told = entries(&request.join(".delivery")).pop().unwrap();
    let message = request.join(told.file_name().unwrap());
    let log = strace::log_in(world.scratch.path(), "refused");
    let tracer =
        Tracer::refuse(bob.daemon.as_ref().unwrap(), &log, "unlink,unlinkat", "EPERM", &[told.clone(), message]);
    accept(&bob, &request);
    bob.wait_for_message("let me in");
    // Each new contact is a look at the requests.
    for look in ["dave", "erin", "frank"] {
        bob.add(&world.user(look));
        alice.drop_file("bob", "x", format!("a look for {look}"));
        bob.wait_for_message(&format!("a look for {look}"));
    }
    assert!(told.exists() && request.exists());
    tracer.detach();
    bob.add(&world.user("grace"));
    bob.wait_until_gone(&request);
    assert_eq!(bob.heard_from("carol"), ["let me in"]);
    assert!(!bob.log().contains("work pauses"), "{}", bob.log());
}

/// `requests/` or `alerts/` itself.
fn root_directory_made_odd(name: &str, says: &str, make_odd: impl Fn(&Path), mend: impl Fn(&Path)) {
    let world = World::new();
    let [mut alice, mut bob, carol] = people(&world);
    // She calls herself as Alice does, and that causes an alert.
    let mut other = User { name: "alice".into(), root: world.scratch.path().join("other"), daemon: None };
    let made = other.cli(&["init", "alice", "--server", &world.server.address, "--dialer", "direct"]);
    assert!(made.status.success(), "{made:?}");
    drop(carol);
    other.add(&bob);
    alice.start();
    other.start();
    bob.start_ordinarily();
    talk(&alice, &bob, "before it");
    make_odd(&bob.at(name));
    other.drop_file("bob", "x", "I am Alice");
    if name == "alerts" {
        request_with(&bob, "I am Alice");
    }
    bob.wait_for_status(says);
    if name == "alerts" {
        // What has waited stands there as soon as it can.
        mend(&bob.at(name));
        bob.wait_for("the alert", || entries(&bob.at(name)).pop());
        make_odd(&bob.at(name));
        bob.wait_for_status(says);
    }
    talk_twice(&alice, &mut bob, "of it");
    bob.wait_for_status(says);
    mend(&bob.at(name));
    if name == "requests" {
        // What was left at the server is pushed again on the next connection.
        bob.stop();
        bob.start_ordinarily();
        request_with(&bob, "I am Alice");
        bob.wait_for("the alert", || entries(&bob.at("alerts")).pop());
    }
    bob.wait_for("all to be well", || {
        let status = fs::read_to_string(bob.at("status")).ok()?;
        (!status.contains("\npaused: ")).then_some(())
    });
    talk(&alice, &bob, "of the end");
}

fn put_a_file_there(path: &Path) {
    fs::remove_dir_all(path).unwrap();
    fs::write(path, "mine").unwrap();
}

fn mend_a_file(path: &Path) {
    assert_eq!(fs::read(path).unwrap(), b"mine");
    fs::remove_file(path).unwrap();
}

const NO_ALERTS: &str = "paused: alerts/ takes no files, so that alerts are not written";
const NO_REQUESTS: &str = "paused: requests/ takes no files, so that strangers' messages are not written";

#[test]
fn a_file_in_the_place_of_the_alerts_holds_nothing_up() {
    root_directory_made_odd("alerts", NO_ALERTS, put_a_file_there, mend_a_file);
}

#[test]
fn alerts_made_read_only_hold_nothing_up() {
    root_directory_made_odd("alerts", NO_ALERTS, |path| set_mode(path, 0o500), |path| set_mode(path, 0o700));
}

#[test]
fn a_file_in_the_place_of_the_requests_holds_nothing_up() {
    root_directory_made_odd("requests", NO_REQUESTS, put_a_file_there, mend_a_file);
}

#[test]
fn requests_made_read_only_hold_nothing_up() {
    root_directory_made_odd("requests", NO_REQUESTS, |path| set_mode(path, 0o500), |path| set_mode(path, 0o700));
}

/// Large enough that it is seen while it is copied.
const LARGE_BYTES: usize = 24 << 20;

#[test]
fn an_outbox_directory_made_read_only_while_a_large_file_in_it_is_copied_keeps_it_until_it_is_writable() {
    let world = World::new();
    let [mut alice, mut bob, _] = people(&world);
    alice.start();
    bob.start_ordinarily();
    talk(&alice, &bob, "before it");
    let (directory, file) = (bob.at("outbox/alice"), bob.at("outbox/alice/large"));
    let mut tries = 0..10;
    loop {
        assert!(tries.next().is_some(), "it was never seen while it was copied");
        drop_as(&bob, "alice", "new.tmp", "");
        fs::OpenOptions::new()
            .write(true)
            .open(directory.join("new.tmp"))
            .unwrap()
            .set_len(LARGE_BYTES as u64)
            .unwrap();
        fs::rename(directory.join("new.tmp"), &file).unwrap();
        bob.wait_for("a copy", || (!entries(&bob.at("journal/large")).is_empty()).then_some(()));
        bob.daemon.as_ref().unwrap().signal(Signal::STOP);
        set_mode(&directory, 0o500);
        bob.daemon.as_ref().unwrap().signal(Signal::CONT);
        let is_refused = bob.wait_for("what became of it", || {
            let is_refused = bob.at("outbox/alice.error").exists();
            (is_refused || !file.exists()).then_some(is_refused)
        });
        if is_refused {
            break;
        }
        set_mode(&directory, 0o700);
    }
    let is_large = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.len() == LARGE_BYTES as u64);
    let sent = |user: &User| {
        let all = entries(&user.at("conversations"));
        all.iter().flat_map(|directory| entries(directory)).filter(is_large).count()
    };
    let before = sent(&bob);
    alice.drop_file("bob", "x", "while it is read-only");
    bob.wait_for_message("while it is read-only");
    assert!(file.exists());
    assert_eq!(sent(&bob), before, "what cannot leave is not sent");
    bob.stop();
    bob.start_ordinarily();
    alice.drop_file("bob", "x", "behind a restart");
    bob.wait_for_message("behind a restart");
    assert!(file.exists());
    set_mode(&directory, 0o700);
    bob.wait_until_gone(&file);
    bob.wait_until_gone("outbox/alice.error");
    talk(&alice, &bob, "of the end");
    assert_eq!(sent(&bob), before + 1, "it went once");
}

/// A directory that becomes read-only behind the last look at it, in front of the move.
#[test]
fn a_sent_file_that_cannot_leave_is_sent_once_and_holds_nothing_up() {
    if is_left_out(strace::missing()) {
        return;
    }
    let world = World::new();
    let [mut alice, mut bob, _] = people(&world);
    alice.start();
    bob.start();
    talk(&alice, &bob, "before it");
    let file = bob.at("outbox/alice/stays");
    let log = strace::log_in(world.scratch.path(), "refused");
    let tracer = Tracer::refuse(bob.daemon.as_ref().unwrap(), &log, "renameat2", "EACCES", std::slice::from_ref(&file));
    fs::write(&file, "sent once").unwrap();
    alice.wait_for_message("sent once");
    let said = bob.wait_for_file("outbox/alice.error");
    assert!(said.contains("may not take files out of this directory"), "{said}");
    alice.drop_file("bob", "x", "meanwhile");
    bob.wait_for_message("meanwhile");
    assert!(file.exists());
    // Killed, and in the next run refused as well, at the replay and behind it.
    tracer.detach();
    bob.kill();
    let refuse = strace::log_in(world.scratch.path(), "refused");
    let mut wrapper = Command::new("strace");
    wrapper.args(["-D", "-f", "-qq", "-o"]).arg(&refuse).args(["-e", "trace=renameat2"]);
    wrapper.args(["-e", "inject=renameat2:error=EACCES", "-P"]).arg(&file);
    bob.start_under(wrapper);
    alice.drop_file("bob", "x", "in the next run");
    bob.wait_for_message("in the next run");
    bob.wait_for_file("outbox/alice.error");
    assert!(file.exists());
    bob.kill();
    bob.start();
    bob.wait_until_gone(&file);
    talk(&alice, &bob, "of the end");
    bob.wait_until_gone("outbox/alice.error");
    assert_eq!(alice.heard_from("bob").iter().filter(|content| *content == "sent once").count(), 1);
}

/// What is recorded and cannot be written: the start waits for a person, and says what to do.
#[test]
fn a_start_waits_for_the_place_of_what_is_recorded_and_says_which() {
    if is_left_out(strace::missing()) {
        return;
    }
    let world = World::new();
    let [mut alice, mut bob, _] = people(&world);
    alice.start();
    bob.start_ordinarily();
    talk(&alice, &bob, "before it");
    let place = entries(&bob.at("conversations")).pop().unwrap();
    let log = strace::log_in(world.scratch.path(), "refused");
    let tracer = Tracer::refuse(bob.daemon.as_ref().unwrap(), &log, "renameat2", "EACCES", &[]);
    alice.drop_file("bob", "x", "it comes");
    let paused = bob.wait_for_status("paused: applying a recorded transaction: ");
    assert!(paused.contains(place.to_str().unwrap()) && paused.contains("is yours and writable"), "{paused}");
    set_mode(&place, 0o500);
    tracer.detach();
    bob.kill();
    fs::remove_file(bob.at("status")).unwrap();
    bob.start_ordinarily();
    let paused = bob.wait_for_status("paused: applying a recorded transaction: ");
    assert!(paused.contains(place.to_str().unwrap()) && paused.contains("is yours and writable"), "{paused}");
    set_mode(&place, 0o700);
    bob.wait_for_message("it comes");
    wait_for(&bob.root, "no pause", || {
        (!fs::read_to_string(bob.at("status")).unwrap_or_default().contains("\npaused: ")).then_some(())
    });
}
