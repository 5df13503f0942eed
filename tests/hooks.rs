//! Hooks (docs/filesystem.md, "Hooks"): programs of the user's that the daemon runs.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic as tests do")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{User, World, entries};

/// Where the hooks of these tests write.
fn seen(user: &User) -> PathBuf {
    let directory = user.at("ui_info/seen");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Puts a shell script in the place of a hook. `$seen` is the directory where it may write. The file is written by another
/// process: a program that anybody has open for writing cannot be run, and whatever another test starts in this moment
/// inherits for a moment what we have open.
fn hook(user: &User, name: &str, script: &str) {
    let text = format!("#!/bin/sh\nset -eu\nseen='{}'\n{script}\n", seen(user).display());
    let new = user.at("tmp/new-hook");
    let written = Command::new("sh")
        .args(["-c", "printf '%s' \"$1\" >\"$2\" && chmod 700 \"$2\" && mv \"$2\" \"$3\"", "sh", &text])
        .args([&new, &user.at("hooks").join(name)])
        .status();
    assert!(written.unwrap().success());
}

/// Writes its environment and its arguments to a file of its own, which appears whole.
const RECORD: &str = "new=$(mktemp \"$seen/.new-XXXXXXXX\")\n\
    { printf 'ARGUMENTS=%s\\0' \"$#\"; printf 'ARGUMENT=%s\\0' \"$1\"; printf 'DIRECTORY=%s\\0' \"$(pwd)\";\n\
      printf 'UMASK=%s\\0' \"$(umask)\"; cat /proc/self/environ; } >\"$new\"\n\
    mv \"$new\" \"$seen/$CHATTERBOX_EVENT-$$\"";

/// What such a hook was told, by name.
fn told(user: &User, event: &str) -> Vec<(String, String)> {
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{event}-"));
    let file = user.wait_for(&format!("a hook to run for {event}"), || entries(&seen(user)).into_iter().find(is_it));
    let text = fs::read(file).unwrap();
    let text = String::from_utf8(text).unwrap();
    let pairs = text.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn value<'a>(told: &'a [(String, String)], name: &str) -> &'a str {
    let found: Vec<&str> = told.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
    assert_eq!(found.len(), 1, "{name} in {told:?}");
    found[0]
}

fn alerts(user: &User, ending: &str) -> Vec<PathBuf> {
    entries(&user.at("alerts")).into_iter().filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_message_runs_its_hook_once_with_its_path_and_an_environment_of_its_own() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    bob.wait_for_status("connection: connected");
    bob.stop();
    hook(&bob, "on-message", RECORD);
    let mut environment = Command::new("env");
    environment.args(["-i", "HOME=/home/bob", "PATH=/usr/bin:/bin", "TZ=UTC", "SECRET=x", "LANGUAGE=de", "IFS=x"]);
    bob.start_under(environment);
    alice.drop_file("bob", "x", "hello");
    let message = bob.wait_for_message("hello");
    let told = told(&bob, "message");
    let alices = alice.delivery(&alice.wait_for_message("hello"));
    let id = alices.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let fingerprint = alices.lines().find_map(|line| line.strip_prefix("from: ")?.split(' ').next()).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut expected = vec![
        ("ARGUMENTS", "1".to_owned()),
        ("ARGUMENT", text(&message)),
        ("DIRECTORY", text(&bob.root)),
        ("UMASK", "0077".to_owned()),
        ("HOME", "/home/bob".to_owned()),
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("TZ", "UTC".to_owned()),
        ("CHATTERBOX_ROOT", text(&bob.root)),
        ("CHATTERBOX_EVENT", "message".to_owned()),
        ("CHATTERBOX_FILE", text(&message)),
        ("CHATTERBOX_CONVERSATION", text(message.parent().unwrap())),
        ("CHATTERBOX_ID", id.to_owned()),
        ("CHATTERBOX_FROM", "alice".to_owned()),
        ("CHATTERBOX_FROM_FINGERPRINT", fingerprint.to_owned()),
    ];
    // A shell adds these by itself: which, depends on the one that is `sh`.
    let mut found: Vec<(&str, String)> = told
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .filter(|(name, _)| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"))
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);

    // What comes next shows that it did not run twice for the first, nor for what we send ourselves.
    bob.drop_file("alice", "x", "hello back");
    alice.wait_for_message("hello back");
    alice.drop_file("bob", "x", "again");
    bob.wait_for("a second run", || (entries(&seen(&bob)).len() >= 2).then_some(()));
    bob.stop();
    assert_eq!(entries(&seen(&bob)).len(), 2);
}

#[test]
fn hostile_names_reach_a_hook_escaped_and_as_one_word() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    fs::rename(bob.at("contacts/alice.card"), bob.at("contacts/-rf\n$(touch pwned) '\".card")).unwrap();
    hook(&bob, "on-message", RECORD);
    let name = "a b\nCHATTERBOX_FROM=root;$(touch pwned)`touch pwned`\u{1b}[1m.txt";
    alice.drop_file("bob", name, "hello");
    let message = bob.wait_for_message("hello");
    let told = told(&bob, "message");
    assert_eq!(value(&told, "ARGUMENTS"), "1");
    assert_eq!(value(&told, "ARGUMENT"), message.to_str().unwrap());
    assert_eq!(value(&told, "CHATTERBOX_FILE"), message.to_str().unwrap());
    assert_eq!(value(&told, "CHATTERBOX_FROM"), "%2Drf%0A$(touch pwned) '\"");
    for (name, value) in &told {
        assert!(!value.chars().any(char::is_control), "{name}={value:?}");
    }
    let file = message.file_name().unwrap().to_str().unwrap();
    assert!(file.ends_with("-a b%0ACHATTERBOX_FROM=root;$(touch pwned)`touch pwned`%1B[1m.txt"), "{file}");
    assert!(!bob.at("pwned").exists() && !bob.at("hooks/pwned").exists());
}

#[test]
fn a_hook_inherits_nothing_that_the_daemon_has_open() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    hook(
        &bob,
        "on-message",
        "for fd in /proc/self/fd/*; do readlink \"$fd\" || :; done >\"$seen/.new\"; mv \"$seen/.new\" \"$seen/open\"",
    );
    alice.drop_file("bob", "x", "hello");
    let open = bob.wait_for_file("ui_info/seen/open");
    assert!(open.lines().filter(|target| *target == "/dev/null").count() >= 2, "{open}");
    let foreign =
        |target: &&str| target.contains("socket:") || target.contains("anon_inode") || target.contains("journal");
    assert_eq!(open.lines().find(foreign), None, "{open}");
}

#[test]
fn a_hook_that_hangs_holds_up_no_message_and_ends_with_the_daemon() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    hook(&bob, "on-message", "echo $$ >\"$seen/.new\"; mv \"$seen/.new\" \"$seen/pid\"; exec sleep 1000");
    alice.drop_file("bob", "0", "0");
    let pid = bob.wait_for_file("ui_info/seen/pid");
    for number in 1..20 {
        alice.drop_file("bob", &number.to_string(), number.to_string());
    }
    bob.wait_for_message("19");
    assert!(Path::new("/proc").join(pid.trim()).exists());
    bob.stop();
    // The daemon waits for none that it has ended: its status is there until the system has taken it.
    let is_there = |text: String| text.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'));
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    bob.wait_for("the hook to be ended", || (!fs::read_to_string(&stat).is_ok_and(is_there)).then_some(()));
}

#[test]
fn a_hook_that_fails_is_said_in_the_status_until_it_ends_well() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    hook(&bob, "on-message", "exit 3");
    let send = |content: &str| {
        alice.drop_file("bob", "x", content);
        bob.wait_for_message(content);
    };
    send("one");
    bob.wait_for_status("hook: on-message: it ended with exit status: 3, once since it last ended well");
    send("two");
    bob.wait_for_status("hook: on-message: it ended with exit status: 3, 2 times since it last ended well");
    hook(&bob, "on-message", "exit 0");
    send("three");
    bob.wait_for("the line to go", || (!fs::read_to_string(bob.at("status")).ok()?.contains("hook:")).then_some(()));
    assert!(entries(&bob.at("alerts")).is_empty());
}

#[test]
fn what_a_person_has_cancelled_runs_no_hook_and_what_fails_behind_it_does() {
    let mut world = World::new();
    let mut alice = world.user("alice");
    let bob = world.user("bob");
    alice.add(&bob);
    alice.set("retry_period = \"20s\"");
    hook(&alice, "on-failed", RECORD);
    alice.start();
    alice.wait_for_status("connection: connected");
    world.server.kill();
    alice.drop_file("bob", "x", "regret");
    let regret = alice.wait_for_message("regret");
    assert!(alice.cli(&["cancel", regret.to_str().unwrap()]).status.success());
    alice.wait_for_states(&regret, &["failed"]);
    alice.drop_file("bob", "x", "in vain");
    let told = told(&alice, "failed");
    assert_eq!(value(&told, "ARGUMENT"), alice.wait_for_message("in vain").to_str().unwrap());
    let runs = entries(&seen(&alice)).into_iter().filter(|path| path.to_string_lossy().contains("/failed-"));
    assert_eq!(runs.count(), 1);
}

#[test]
fn never_more_than_four_run_at_a_time() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    // Each says how many run while it does, itself included, and ends when it is let.
    let script = "mkdir -p \"$seen/running\"; : >\"$seen/running/$$\"; ls \"$seen/running\" | wc -l >\"$seen/.$$\"\n\
                  while [ ! -e \"$seen/go\" ]; do sleep 0.02; done\n\
                  rm \"$seen/running/$$\"; mv \"$seen/.$$\" \"$seen/done-$$\"";
    hook(&bob, "on-message", script);
    for number in 0..24 {
        alice.drop_file("bob", &number.to_string(), number.to_string());
    }
    bob.wait_for("24 messages", || (bob.messages().len() >= 24).then_some(()));
    bob.wait_for("four hooks", || (entries(&seen(&bob).join("running")).len() >= 4).then_some(()));
    fs::write(seen(&bob).join("go"), "").unwrap();
    let done = bob.wait_for("all hooks", || {
        let done = entries(&seen(&bob)).into_iter().filter(|path| path.to_string_lossy().contains("/done-"));
        let done: Vec<PathBuf> = done.collect();
        (done.len() >= 24).then_some(done)
    });
    let counts = done.iter().map(|path| fs::read_to_string(path).unwrap().trim().parse::<usize>().unwrap());
    assert_eq!(counts.max(), Some(4));
}

#[test]
fn an_alert_runs_its_hook_and_a_hook_that_others_may_change_is_an_alert_and_not_run() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    hook(&bob, "on-alert", RECORD);
    hook(&bob, "on-message", RECORD);
    chmod(&bob.at("hooks/on-message"), 0o722);
    alice.drop_file("bob", "x", "hello");
    bob.wait_for_message("hello");
    let told = told(&bob, "alert");
    let [alert] = alerts(&bob, "-hook-on-message").try_into().unwrap();
    assert_eq!(value(&told, "ARGUMENT"), alert.to_str().unwrap());
    assert_eq!(value(&told, "CHATTERBOX_FILE"), alert.to_str().unwrap());
    assert!(!told.iter().any(|(name, _)| name == "CHATTERBOX_FROM" || name == "CHATTERBOX_CONVERSATION"));
    let text = fs::read_to_string(&alert).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "The hook hooks/on-message is not run. Others may write to it: its mode is 0722.",
            "Take that from them: chmod go-w."
        ]
    );
    bob.wait_for_status("hook: on-message: Others may write to it");
    let doctor = String::from_utf8(bob.cli(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("hooks/on-message") && doctor.contains("chmod go-w"), "{doctor}");

    // Mended, it is run from then on, and nothing more is said.
    chmod(&bob.at("hooks/on-message"), 0o700);
    bob.wait_for("the line to go", || (!fs::read_to_string(bob.at("status")).ok()?.contains("hook:")).then_some(()));
    alice.drop_file("bob", "x", "again");
    let told = self::told(&bob, "message");
    assert_eq!(value(&told, "ARGUMENT"), bob.wait_for_message("again").to_str().unwrap());
    assert_eq!(alerts(&bob, "-hook-on-message").len(), 1);
}

#[test]
fn a_hook_for_alerts_that_is_not_run_is_one_alert_and_not_one_for_each() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    hook(&bob, "on-alert", RECORD);
    chmod(&bob.at("hooks/on-alert"), 0o600);
    // What no system runs, as nothing in it says how.
    fs::write(bob.at("hooks/on-message"), "echo").unwrap();
    chmod(&bob.at("hooks/on-message"), 0o700);
    for number in 0..3 {
        alice.drop_file("bob", &number.to_string(), number.to_string());
        bob.wait_for_message(&number.to_string());
    }
    bob.wait_for_status("hook: on-message: It cannot be run");
    bob.wait_for_status("hook: on-alert: It is not executable");
    assert_eq!(alerts(&bob, "-hook-on-alert").len(), 1);
    assert_eq!(alerts(&bob, "-hook-on-message").len(), 1);
    assert_eq!(entries(&seen(&bob)), Vec::<PathBuf>::new());
}

#[test]
fn a_link_to_a_program_is_a_hook_and_one_to_anything_else_is_refused() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    hook(&bob, "mine", RECORD);
    symlink(bob.at("hooks/mine"), bob.at("hooks/on-message")).unwrap();
    symlink("/nowhere", bob.at("hooks/on-delivered")).unwrap();
    symlink("/dev/null", bob.at("hooks/on-failed")).unwrap();
    alice.drop_file("bob", "x", "hello");
    told(&bob, "message");
    let doctor = String::from_utf8(bob.cli(&["doctor"]).stdout).unwrap();
    for name in ["on-delivered", "on-failed"] {
        assert!(doctor.contains(&format!("hooks/{name}")), "{doctor}");
    }
    assert!(!doctor.contains("hooks/on-message"), "{doctor}");
}

#[test]
fn a_stranger_runs_no_hook_before_a_person_has_accepted_them() {
    let world = World::new();
    let [mut alice, mut bob] = [world.user("alice"), world.user("bob")];
    alice.add(&bob);
    hook(&bob, "on-message", RECORD);
    alice.start();
    bob.start();
    alice.drop_file("bob", "x", "hello");
    let request = bob.wait_for("a request", || {
        let request = entries(&bob.at("requests")).into_iter().next()?;
        entries(&request)
            .into_iter()
            .find(|path| path.to_string_lossy().ends_with("alice") || path.to_string_lossy().contains("Z-alice"))
    });
    assert_eq!(entries(&seen(&bob)), Vec::<PathBuf>::new());
    fs::rename(request.parent().unwrap().join("card"), bob.at("contacts/alice.card")).unwrap();
    let told = told(&bob, "message");
    assert_eq!(value(&told, "ARGUMENT"), bob.wait_for_message("hello").to_str().unwrap());
    assert_eq!(entries(&seen(&bob)).len(), 1);
}
