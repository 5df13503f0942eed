//! Dropboxes, with the real programs. Where these tests run as root, the sender is another user; elsewhere it is ourselves,
//! and what needs a second user is left out, loudly.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use support::machine::{self, refusal};
use support::{User, World, as_user, entries, is_left_out, is_root};

const SENDER: u32 = machine::SOMEBODY;
const STRANGER: u32 = SENDER + 1;

/// Whether there can be a second user; says what is left out where not.
fn has_users(what: &str) -> bool {
    !is_left_out(machine::no_other_users(what))
}

fn sender() -> u32 {
    if is_root() { SENDER } else { machine::own_uid() }
}

/// A place for dropboxes that other users can come to.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o711)).unwrap();
    place
}

/// Runs a shell script as another user, on these paths: `$1` and so on, as there may be spaces in them.
fn run_as(uid: u32, script: &str, paths: &[&Path]) -> Output {
    as_user(uid).args(["sh", "-c", script, "sh"]).args(paths).current_dir("/").output().unwrap()
}

fn shell(uid: u32, script: &str, paths: &[&Path]) {
    let output = run_as(uid, script, paths);
    assert!(output.status.success(), "{script}: {output:?}");
}

/// Drops a file as the sender does who is sure: written aside, then moved.
fn drop_as(uid: u32, directory: &Path, name: &str, content: &str) {
    let script = format!("umask 022; cd \"$1\" && printf '%s' '{content}' > .{name} && mv .{name} {name}");
    shell(uid, &script, &[directory]);
}

fn add(user: &User, place: &TempDir, to: &str, rate: &str) -> PathBuf {
    let directory = place.path().canonicalize().unwrap().join("alerts");
    let text = directory.to_str().unwrap();
    let uid = sender().to_string();
    let added = user.cli(&["dropbox", "add", "alerts", "--to", to, "--uid", &uid, "--rate", rate, "--directory", text]);
    assert!(added.status.success(), "{added:?}");
    directory
}

/// Waits until the dropbox holds no file that is still to be sent.
fn wait_until_taken(user: &User, directory: &Path) {
    user.wait_for("the dropbox to get empty", || entries(directory).is_empty().then_some(()));
}

fn heard(user: &User) -> Vec<String> {
    let mut contents: Vec<String> =
        user.messages().into_iter().map(|(_, _, content)| String::from_utf8(content).unwrap()).collect();
    contents.sort();
    contents
}

#[test]
fn what_another_user_drops_goes_to_the_chosen_contacts_and_leaves() {
    let world = World::new();
    let [alice, bob, carol] = world.friends(["alice", "bob", "carol"]);
    let place = place();
    let directory = add(&alice, &place, "bob,carol", "10/min");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o1733);
    shell(sender(), "umask 022; echo 'disk full' > \"$1/x.txt\"", &[&directory]);
    bob.wait_for_message("disk full\n");
    let there = carol.wait_for_message("disk full\n");
    assert!(there.to_str().unwrap().ends_with("-alice-x.txt"), "{there:?}");
    wait_until_taken(&alice, &directory);
    drop_as(sender(), &directory, "again", "disk still full");
    bob.wait_for_message("disk still full");
    let listed = String::from_utf8(alice.cli(&["dropbox", "list"]).stdout).unwrap();
    assert!(listed.contains("bob, carol") && listed.contains("10/min"), "{listed}");
    let json: serde_json::Value = serde_json::from_slice(&alice.cli(&["dropbox", "list", "--json"]).stdout).unwrap();
    assert_eq!(json["dropboxes"][0]["uid"].as_u64(), Some(sender().into()));
    assert!(json["dropboxes"][0]["problem"].is_null());
    let found = alice.cli(&["doctor"]);
    assert!(found.status.success(), "{found:?}");
    if has_users("that a sender can list neither the dropbox nor the account") {
        assert!(!run_as(sender(), "ls \"$1\"", &[&directory]).status.success());
        assert!(!run_as(sender(), "ls \"$1\"", &[&alice.root]).status.success());
        // Nor take away what another has dropped, whose name they know.
        fs::write(directory.join("#kept#"), "by the owner").unwrap();
        assert!(!run_as(sender(), "rm -f \"$1/#kept#\"", &[&directory]).status.success());
    }
}

#[test]
fn a_dropbox_that_its_sender_cannot_come_to_is_made_and_its_owner_hears_of_it() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let parent = place.path().canonicalize().unwrap().join("closed");
    fs::create_dir(&parent).unwrap();
    let directory = parent.join("alerts");
    let add = |uid: u32, mode: u32| {
        fs::set_permissions(&parent, Permissions::from_mode(mode)).unwrap();
        let (uid, text) = (uid.to_string(), directory.to_str().unwrap());
        let added = alice.cli(&["dropbox", "add", "alerts", "--to", "bob", "--uid", &uid, "--directory", text]);
        assert!(added.status.success(), "{added:?}");
        String::from_utf8(added.stderr).unwrap()
    };
    let remove = || assert!(alice.cli(&["dropbox", "remove", "alerts"]).status.success());
    let ours = rustix::process::geteuid().as_raw();
    for (uid, mode) in [(SENDER, 0o711), (SENDER, 0o710), (ours, 0o700)] {
        let said = add(uid, mode);
        assert!(!said.contains("cannot come"), "{said}");
        remove();
    }
    let said = add(SENDER, 0o700);
    let problem = format!("{SENDER} cannot come to the dropbox: {} has the mode 0700", parent.display());
    assert!(said.contains(&format!("note: user {problem}")) && said.contains("chmod o+x"), "{said}");
    let found = || {
        let found = alice.cli(&["doctor", "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        findings.into_iter().filter(|finding| finding["kind"] == "dropbox").collect::<Vec<_>>()
    };
    let warned = found();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!(warned[0]["severity"], "warning");
    assert_eq!(warned[0]["path"], alice.at("dropboxes/alerts.toml").to_str().unwrap());
    assert!(warned[0]["problem"].as_str().unwrap().contains(&problem), "{warned:?}");
    assert!(warned[0]["remedy"].as_str().unwrap().contains("chmod o+x"), "{warned:?}");
    // What else there is to say of it is said, too.
    fs::rename(alice.at("contacts/bob.card"), alice.at("blocked/bob.card")).unwrap();
    alice.wait_for_status("dropbox: alerts: nothing is taken: bob is blocked");
    assert_eq!(found().iter().filter(|finding| finding["severity"] == "error").count(), 1);
    fs::rename(alice.at("blocked/bob.card"), alice.at("contacts/bob.card")).unwrap();
    alice.wait_until_gone("dropboxes/alerts.toml.error");
    if has_users("that a sender really cannot come there, and then can") {
        let script = "umask 022; echo 'at last' > \"$1/x\"";
        assert!(!run_as(SENDER, script, &[&directory]).status.success());
        fs::set_permissions(&parent, Permissions::from_mode(0o711)).unwrap();
        shell(SENDER, script, &[&directory]);
        bob.wait_for_message("at last\n");
        wait_until_taken(&alice, &directory);
        assert_eq!(found(), Vec::<serde_json::Value>::new());
    }
    // Nor where they may pass, and put nothing in.
    fs::set_permissions(&parent, Permissions::from_mode(0o711)).unwrap();
    remove();
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o1711)).unwrap();
    let said = add(SENDER, 0o711);
    assert!(
        said.contains(&format!("note: user {SENDER} can put nothing into ")) && said.contains("chmod 1733"),
        "{said}"
    );
}

#[test]
fn a_file_too_large_for_one_envelope_is_copied_whole_into_the_conversation() {
    let world = World::new();
    let [alice, _bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "10/min");
    let script = "umask 022; cd \"$1\"; seq -f 'line %.0f' 0 19999 > .large && mv .large large";
    shell(sender(), script, &[&directory]);
    let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let is_whole = || alice.messages().iter().any(|(_, _, content)| content == lines.as_bytes());
    alice.wait_for("our copy of all lines", || is_whole().then_some(()));
    wait_until_taken(&alice, &directory);
}

#[test]
fn the_example_for_cron_sends_what_it_is_given_or_what_it_reads() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "10/min");
    // Where the sender may read it; the source tree may be closed to others.
    let script = place.path().join("dropbox-alert");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/dropbox-alert"), &script).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let paths = [script.as_path(), &directory];
    shell(sender(), "HOME=/nonexistent \"$1\" \"$2\" backup failed", &paths);
    bob.wait_for_message("backup failed\n");
    shell(sender(), "echo 'exit code 1' | HOME=/nonexistent \"$1\" \"$2\"", &paths);
    bob.wait_for_message("exit code 1\n");
    shell(sender(), "true | HOME=/nonexistent \"$1\" \"$2\"", &paths);
    assert_eq!(heard(&bob).len(), 2, "nothing is no message");
    assert_eq!(run_as(sender(), "\"$1\"", &[&script]).status.code(), Some(64));
}

#[test]
fn what_is_no_plain_file_of_the_senders_own_is_never_sent() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "100/min");
    let secret = place.path().join("secret");
    fs::write(&secret, "a secret of somebody else").unwrap();
    let own =
        "umask 022; cd \"$1\" && echo own > own.tmp && ln own.tmp linked && ln -s /etc/passwd symlink && mkfifo fifo &&
        mkdir directory";
    shell(sender(), own, &[&directory]);
    shell(sender(), "umask 022; truncate -s 65M \"$1/large\"", &[&directory]);
    let mut refused = vec!["linked", "symlink", "fifo", "directory", "large"];
    if has_users("files of other users in a dropbox, and hard links to them") {
        // Where the kernel does not protect hard links, anybody can make this one.
        fs::hard_link(&secret, directory.join("borrowed")).unwrap();
        symlink(&secret, directory.join("roots-link")).unwrap();
        shell(STRANGER, "umask 022; echo 'from a stranger' > \"$1/strangers\"", &[&directory]);
        // Root of a user namespace may make none.
        let device = directory.join("device");
        let made = refusal(Command::new("mknod").arg(&device).args(["c", "1", "5"]));
        if !is_left_out(made.map(|reason| format!("a device: {reason}"))) {
            std::os::unix::fs::lchown(&device, Some(SENDER), Some(SENDER)).unwrap();
            refused.push("device");
        }
        alice.wait_for_status("dropbox: alerts: ");
        alice.wait_for("files of others, counted", || {
            let status = fs::read_to_string(alice.at("status")).unwrap_or_default();
            status.contains("3 of other users ignored").then_some(())
        });
    }
    for name in refused {
        let error = directory.join(format!("{name}.error"));
        let text =
            alice.wait_for(name, || fs::read_to_string(&error).ok().filter(|text| text.contains("removes this file")));
        assert!(!text.contains("bob") && !text.contains(alice.root.to_str().unwrap()), "{text}");
        // The sender may read it, and no more.
        let read = run_as(sender(), "cat \"$1\"", &[&error]);
        assert!(read.status.success(), "{read:?}");
        assert_eq!(fs::metadata(&error).unwrap().permissions().mode() & 0o777, 0o644);
    }
    drop_as(sender(), &directory, "good", "the only one");
    bob.wait_for_message("the only one");
    assert!(
        !heard(&bob)
            .iter()
            .any(|content| content.contains("secret") || content.contains("root:") || content.contains("stranger"))
    );
    // Its cause gone, an error goes.
    shell(sender(), "cd \"$1\" && rm symlink && rmdir directory", &[&directory]);
    alice.wait_for("two errors to go", || {
        let gone = |name: &str| fs::symlink_metadata(directory.join(name)).is_err();
        (gone("symlink.error") && gone("directory.error")).then_some(())
    });
    assert_eq!(fs::read_to_string(&secret).unwrap(), "a secret of somebody else");
}

#[test]
fn beyond_the_rate_files_wait_and_nothing_is_lost() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "2/day");
    for number in 0..5 {
        drop_as(sender(), &directory, &format!("f{number}"), &format!("number {number}"));
    }
    alice.wait_for_status("dropbox: alerts: 3 wait for the rate");
    bob.wait_for_message("number 0");
    bob.wait_for_message("number 1");
    assert_eq!(entries(&directory).len(), 3);
    // A person changes the file by hand.
    let settings = alice.at("dropboxes/alerts.toml");
    let text = fs::read_to_string(&settings).unwrap().replace("2/day", "100/min");
    fs::write(&settings, text).unwrap();
    for number in 2..5 {
        bob.wait_for_message(&format!("number {number}"));
    }
    wait_until_taken(&alice, &directory);
    alice.stop();
    assert_eq!(heard(&bob).len(), 5);
}

#[test]
fn a_hundred_thousand_files_hold_up_nobody_else() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "1/day");
    shell(sender(), "cd \"$1\" && seq 100000 | xargs -n 10000 touch", &[&directory]);
    drop_as(sender(), &directory, "one", "the one of today");
    // Empty files are no messages; among all these the one may not even be seen. What others do goes on.
    for number in 0..20 {
        alice.drop_file("bob", "x", format!("from alice, {number}"));
        bob.wait_for_message(&format!("from alice, {number}"));
        bob.drop_file("alice", "x", format!("from bob, {number}"));
        alice.wait_for_message(&format!("from bob, {number}"));
    }
    let errors = entries(&directory).into_iter().filter(|path| path.to_string_lossy().ends_with(".error")).count();
    assert!(errors <= chatterbox::limits::DROPBOX_ERRORS_MAX, "{errors}");
}

#[test]
fn under_random_kills_every_file_is_sent_once() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "10000/min");
    let count = 60;
    for number in 0..count {
        drop_as(sender(), &directory, &format!("f{number}"), &format!("number {number:02}"));
        if number % 5 == 4 {
            // Killed as soon as one more has left: somewhere between its record, its removal and the rest.
            let before = entries(&directory).len();
            alice.wait_for("one to leave", || (entries(&directory).len() < before).then_some(()));
            alice.kill();
            alice.start();
        }
    }
    wait_until_taken(&alice, &directory);
    for number in 0..count {
        bob.wait_for_message(&format!("number {number:02}"));
    }
    alice.wait_for("nothing in the outbox", || {
        let left = entries(&alice.at("outbox/bob")).into_iter().filter(|path| !path.ends_with(".id")).count();
        (left == 0).then_some(())
    });
    alice.wait_for_status("queue: 0");
    let expected: Vec<String> = (0..count).map(|number| format!("number {number:02}")).collect();
    assert_eq!(heard(&alice), expected);
    assert_eq!(heard(&bob), expected);
}

#[test]
fn a_directory_that_is_not_as_it_was_made_is_not_read_until_it_is_again() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "100/min");
    drop_as(sender(), &directory, "first", "first");
    bob.wait_for_message("first");
    fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
    assert!(alice.wait_for_file("dropboxes/alerts.toml.error").contains("mode 1777"));
    drop_as(sender(), &directory, "second", "second");
    alice.wait_for_status("dropbox: alerts: nothing is taken");
    assert!(!alice.cli(&["doctor"]).status.success());
    fs::set_permissions(&directory, Permissions::from_mode(0o1733)).unwrap();
    bob.wait_for_message("second");
    alice.wait_until_gone("dropboxes/alerts.toml.error");
    // Another directory in its place, behind a link.
    let moved = directory.with_file_name("moved");
    fs::rename(&directory, &moved).unwrap();
    symlink(&moved, &directory).unwrap();
    drop_as(sender(), &directory, "third", "third");
    assert!(alice.wait_for_file("dropboxes/alerts.toml.error").contains("no directory, or a link to one"));
    fs::remove_file(&directory).unwrap();
    fs::rename(&moved, &directory).unwrap();
    bob.wait_for_message("third");
    fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(alice.wait_for_file("dropboxes/alerts.toml.error").contains("Others could replace"));
    fs::set_permissions(place.path(), Permissions::from_mode(0o711)).unwrap();
    alice.wait_until_gone("dropboxes/alerts.toml.error");
    if has_users("a directory that another user has made") {
        std::os::unix::fs::chown(&directory, Some(SENDER), None).unwrap();
        assert!(alice.wait_for_file("dropboxes/alerts.toml.error").contains(&format!("belongs to user {SENDER}")));
    }
}

#[test]
fn what_waits_in_a_dropbox_that_is_removed_stays_there_and_is_not_sent() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "1/day");
    drop_as(sender(), &directory, "a", "sent");
    bob.wait_for_message("sent");
    drop_as(sender(), &directory, "b", "kept");
    alice.wait_for_status("dropbox: alerts: 1 wait for the rate");
    let removed = alice.cli(&["dropbox", "remove", "alerts"]);
    assert!(
        removed.status.success() && String::from_utf8_lossy(&removed.stderr).contains("is not empty"),
        "{removed:?}"
    );
    alice.wait_for("no word of it", || {
        (!fs::read_to_string(alice.at("status")).unwrap_or_default().contains("dropbox:")).then_some(())
    });
    assert_eq!(fs::read_to_string(directory.join("b")).unwrap(), "kept");
    // Made again, with what lies there.
    add(&alice, &place, "bob", "10/min");
    bob.wait_for_message("kept");
    wait_until_taken(&alice, &directory);
    assert!(alice.cli(&["dropbox", "remove", "alerts"]).status.success());
    assert!(!directory.exists());
    assert_eq!(alice.cli(&["dropbox", "remove", "alerts"]).status.code(), Some(66));
}

#[test]
fn a_dropbox_for_nobody_takes_nothing_and_says_so_to_its_owner_only() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let place = place();
    let directory = add(&alice, &place, "bob", "10/min");
    fs::rename(alice.at("contacts/bob.card"), alice.at("blocked/bob.card")).unwrap();
    assert!(alice.wait_for_file("dropboxes/alerts.toml.error").contains("bob is blocked"));
    drop_as(sender(), &directory, "x", "waits for bob");
    alice.wait_for_status("dropbox: alerts: nothing is taken: bob is blocked");
    assert_eq!(entries(&directory), [directory.join("x")], "nothing is said to the sender");
    fs::rename(alice.at("blocked/bob.card"), alice.at("contacts/bob.card")).unwrap();
    bob.wait_for_message("waits for bob");
    alice.wait_until_gone("dropboxes/alerts.toml.error");
    // By hand, and wrong.
    fs::write(alice.at("dropboxes/other.toml"), "to = [\"bob\"]\nuid = 1\ndirectory = \"x\"\n").unwrap();
    assert!(alice.wait_for_file("dropboxes/other.toml.error").contains("no absolute path"));
    let text = fs::read_to_string(alice.at("dropboxes/alerts.toml")).unwrap();
    fs::write(alice.at("dropboxes/other.toml"), text).unwrap();
    alice.wait_for("the same directory twice", || {
        let text = fs::read_to_string(alice.at("dropboxes/other.toml.error")).ok()?;
        text.contains("has the same directory").then_some(())
    });
    fs::remove_file(alice.at("dropboxes/other.toml")).unwrap();
    alice.wait_until_gone("dropboxes/other.toml.error");
    // Where something of another user stands, nothing is made.
    if has_users("that `dropbox add` refuses what another user has put in its place") {
        let trap = place.path().canonicalize().unwrap().join("trap");
        fs::create_dir(&trap).unwrap();
        std::os::unix::fs::chown(&trap, Some(SENDER), None).unwrap();
        let added =
            alice.cli(&["dropbox", "add", "t", "--to", "bob", "--uid", "1", "--directory", trap.to_str().unwrap()]);
        assert_eq!(added.status.code(), Some(73), "{added:?}");
        assert!(!alice.at("dropboxes/t.toml").exists());
    }
    let named = place.path().canonicalize().unwrap().join("named");
    let named = named.to_str().unwrap();
    let added = alice.cli(&["dropbox", "add", "named", "--to", "bob", "--uid", "root", "--directory", named]);
    assert!(added.status.success(), "{added:?}");
    assert!(fs::read_to_string(alice.at("dropboxes/named.toml")).unwrap().contains("uid = 0"));
    for arguments in [["--to", "nobody", "--uid", "1"], ["--to", "bob", "--uid", "no-such-user"]] {
        let added = alice.cli(&[&["dropbox", "add", "t"][..], &arguments].concat());
        assert!(matches!(added.status.code(), Some(64 | 67)), "{added:?}");
    }
}
