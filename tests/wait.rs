//! `chatterbox wait` and `send --wait`: what became of a message, as an exit code for scripts.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use support::{User, World};

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The command line, which goes on while the test does something else.
fn begin(user: &User, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatterbox"));
    command.arg("--root").arg(&user.root).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn send_and_wait_end_well_when_it_is_delivered() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let sent = alice.cli_with_input(&["send", "bob", "--wait", "--timeout", "2m"], b"hello");
    let (code, printed, _) = said(&sent);
    let (path, states) = printed.split_once('\n').unwrap();
    assert_eq!((code, states), (Some(0), "bob: delivered\n"), "{printed}");
    bob.wait_for_message("hello");
    let message = alice.wait_for_message("hello");
    let name = message.file_name().unwrap().to_str().unwrap();
    for wanted in [path, message.to_str().unwrap(), name] {
        let (code, printed, errors) = said(&alice.cli(&["wait", wanted]));
        assert_eq!((code, printed.as_str(), errors.as_str()), (Some(0), "bob: delivered\n", ""), "{wanted}");
    }
}

#[test]
fn who_waits_for_acceptance_needs_no_recipient_that_runs() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "before");
    alice.wait_until_delivered(&alice.wait_for_message("before"));
    bob.stop();
    let sent = alice.cli_with_input(&["send", "bob", "--wait", "--for", "accepted"], b"hello");
    let (code, printed, _) = said(&sent);
    assert!(code == Some(0) && printed.ends_with("\nbob: accepted\n"), "{printed}");
    let path = printed.lines().next().unwrap();
    let (code, printed, errors) = said(&alice.cli(&["wait", path, "--timeout", "100ms"]));
    assert_eq!((code, printed.as_str()), (Some(75), ""));
    assert!(errors.contains("100ms are over: bob is accepted\n"), "{errors}");
}

#[test]
fn a_daemon_that_does_not_run_is_said_at_once_and_waited_for() {
    let world = World::new();
    let [mut alice, _bob] = world.friends(["alice", "bob"]);
    alice.wait_for_status("connection: connected");
    alice.stop();
    let path = PathBuf::from(said(&alice.cli_with_input(&["send", "bob"], b"hello")).1.trim_end());
    let (code, _, errors) = said(&alice.cli(&["wait", path.to_str().unwrap(), "--timeout", "100ms"]));
    assert!(code == Some(75) && errors.contains("chatterboxd is not running"), "{errors}");
    assert!(errors.contains("it is still in the outbox"), "{errors}");
    let waiting = begin(&alice, &["wait", path.to_str().unwrap()]);
    alice.start();
    let (code, printed, errors) = said(&waiting.wait_with_output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(0), "bob: delivered\n"), "{errors}");
}

#[test]
fn an_error_of_an_earlier_file_of_the_name_ends_no_wait() {
    let world = World::new();
    let [mut alice, _bob] = world.friends(["alice", "bob"]);
    let path = alice.at("outbox/bob/plan.txt");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    alice.wait_for_file("outbox/bob/plan.txt.error");
    alice.stop();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "the plan").unwrap();
    let (code, _, errors) = said(&alice.cli(&["wait", path.to_str().unwrap(), "--timeout", "100ms"]));
    assert!(code == Some(75) && errors.contains("it is still in the outbox"), "{errors}");
    assert!(errors.contains("Start chatterboxd"), "{errors}");
    let waiting = begin(&alice, &["wait", path.to_str().unwrap()]);
    alice.set("send_limit = \"10 KiB\"");
    alice.start();
    let (code, printed, errors) = said(&waiting.wait_with_output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(0), "bob: delivered\n"), "{errors}");
    // What a daemon refuses that runs is said, though its words are older than the wait.
    let path = alice.at("outbox/bob/other.txt");
    fs::write(&path, [b'x'; 11 * 1024]).unwrap();
    alice.wait_for_file("outbox/bob/other.txt.error");
    let (code, _, errors) = said(&alice.cli(&["wait", path.to_str().unwrap()]));
    assert!(code == Some(65) && errors.contains("it is not sent"), "{errors}");
}

#[test]
fn what_has_failed_or_was_refused_or_is_gone_has_codes_of_its_own() {
    let mut world = World::new();
    let [mut alice, bob] = ["alice", "bob"].map(|name| world.user(name));
    alice.add(&bob);
    alice.set("retry_period = \"2s\"");
    alice.start();
    // Bob has never been at the server.
    let (code, printed, errors) = said(&alice.cli_with_input(&["send", "bob", "--wait"], b"hello"));
    assert_eq!(code, Some(69), "{errors}");
    assert!(printed.contains("\nbob: failed: their server did not confirm it within 2s: "), "{printed}");
    assert!(errors.contains("it failed for bob\n"), "{errors}");
    let listed = said(&alice.cli(&["list"])).1;
    assert!(listed.contains(" 1 (1 failed) "), "{listed}");
    let json: serde_json::Value = serde_json::from_slice(&alice.cli(&["list", "--json"]).stdout).unwrap();
    assert_eq!(json["conversations"][0]["failed"], 1);
    let shown = said(&alice.cli(&["show", "bob"])).1;
    assert!(shown.contains("    bob: failed (their server did not confirm it within 2s: "), "{shown}");

    alice.drop_file("eve", "x", "nobody");
    let (code, _, errors) = said(&alice.cli(&["wait", "outbox/eve/x"]));
    assert!(code == Some(65) && errors.contains("it is not sent: There is no contact called eve."), "{errors}");

    alice.stop();
    alice.drop_file("bob", "y", "moved away");
    let waiting = begin(&alice, &["wait", "outbox/bob/y"]);
    fs::remove_file(alice.at("outbox/bob/y")).unwrap();
    let (code, _, errors) = said(&waiting.wait_with_output().unwrap());
    assert!(code == Some(66), "{errors}");

    for (arguments, expected) in [
        (&["wait", "nothing"][..], 66),
        (&["wait", "outbox/bob/x", "--timeout", "soon"], 64),
        (&["send", "bob", "--timeout", "1s"], 64),
    ] {
        assert_eq!(alice.cli(arguments).status.code(), Some(expected), "{arguments:?}");
    }
    world.server.kill();
}

#[test]
fn a_conversation_that_is_renamed_meanwhile_is_followed_and_one_that_is_deleted_ends_the_wait() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "before");
    alice.wait_until_delivered(&alice.wait_for_message("before"));
    bob.stop();
    alice.drop_file("bob", "x", "hello");
    let message = alice.wait_for_message("hello");
    let name = message.file_name().unwrap().to_str().unwrap();
    let waiting = begin(&alice, &["wait", name]);
    fs::rename(message.parent().unwrap(), alice.at("conversations/with bob")).unwrap();
    bob.start();
    let (code, printed, errors) = said(&waiting.wait_with_output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(0), "bob: delivered\n"), "{errors}");
    bob.stop();
    alice.drop_file("bob", "x", "again");
    let again = alice.wait_for_message("again");
    // Nothing more is written there then.
    alice.wait_until_accepted(&again);
    let waiting = begin(&alice, &["wait", again.to_str().unwrap()]);
    // Of both ways to end it the exit code is the same.
    fs::remove_dir_all(alice.at("conversations/with bob")).unwrap();
    let (code, _, errors) = said(&waiting.wait_with_output().unwrap());
    assert_eq!(code, Some(66), "{errors}");
}
