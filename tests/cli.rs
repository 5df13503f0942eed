//! The command line as people and scripts meet it: the real binary, real directories, exit codes and messages.
// Here, as in any test, a panic is the report; clippy.toml knows only the test functions themselves.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use chatterbox::client::delivery::{Delivery, Recipient, State};
use chatterbox::client::status::Status;
use chatterbox::clock::Timestamp;
use chatterbox::disk::lock::RootLock;
use chatterbox::limits::CONTENT_BYTES_MAX;
use chatterbox::wire::identity::{ConversationId, Fingerprint, MessageId};
use chatterbox::wire::profile::SignedProfile;
use notify::event::{EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher as _};
use serde_json::Value;
use tempfile::TempDir;

const USAGE: i32 = 64;
const DATA: i32 = 65;
const NO_INPUT: i32 = 66;
const NO_USER: i32 = 67;
const CANNOT_CREATE: i32 = 73;
const IO: i32 = 74;
const TEMPORARY_FAILURE: i32 = 75;
const NO_PERMISSION: i32 = 77;
const CONFIG: i32 = 78;

const CARD_PREFIX: &str = "chatterbox:";

fn server() -> String {
    format!("chatterbox-server://127.0.0.1:1984/{}", "ab".repeat(32))
}

/// What a finished command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// It worked; its standard output without the last line's end.
    #[track_caller]
    fn good(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out.trim_end_matches('\n').to_owned()
    }

    /// It failed with this code, said these words, and printed no result.
    #[track_caller]
    fn bad(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "a failure prints no result");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {}", self.err);
        }
    }
}

fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatterbox"));
    command.args(arguments).env("CHATTERBOX_ROOT", root).stdin(Stdio::null());
    command
}

fn run_with(root: &Path, arguments: &[&str], input: &[u8]) -> Said {
    let mut command = command(root, arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments does not read what it is given.
    let _ = child.stdin.take().unwrap().write_all(input);
    Said::from(child.wait_with_output().unwrap())
}

fn run(root: &Path, arguments: &[&str]) -> Said {
    Said::from(command(root, arguments).output().unwrap())
}

/// A root with an account in it.
struct Account {
    directory: TempDir,
    card: String,
}

impl Account {
    fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let card = run(&root, &["init", name, "--server", &server(), "--dialer", "direct"]).good();
        Self { directory, card }
    }

    /// Alice, who has bob's card.
    fn alice_with_bob() -> (Self, Self) {
        let (alice, bob) = (Self::new("alice"), Self::new("bob"));
        alice.with(&["contact", "add"], &bob.card).good();
        (alice, bob)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn profile(&self) -> SignedProfile {
        self.card.parse().unwrap()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.profile().identity().fingerprint()
    }

    fn run(&self, arguments: &[&str]) -> Said {
        run(&self.root(), arguments)
    }

    fn with(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Said {
        run_with(&self.root(), arguments, input.as_ref())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).good()).unwrap()
    }

    /// Every file below a directory of the root, relative to it.
    fn files(&self, below: &str) -> Vec<String> {
        let mut files = Vec::new();
        let mut directories = vec![self.at(below)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => directories.push(entry.path()),
                    false => {
                        files.push(entry.path().strip_prefix(self.root()).unwrap().to_str().unwrap().to_owned());
                    }
                }
            }
        }
        files.sort();
        files
    }

    #[track_caller]
    fn nothing_is_queued(&self) {
        assert_eq!(self.files("outbox"), [""; 0]);
        assert_eq!(self.files("tmp"), [""; 0]);
    }

    /// A conversation as the daemon makes it.
    fn conversation(&self, name: &str, subject: &str, others: &[(&str, Fingerprint)]) -> ConversationId {
        let all = [&[("alice", self.fingerprint())], others].concat();
        let fingerprints: Vec<Fingerprint> = all.iter().map(|(_, who)| *who).collect();
        let id = match subject {
            "" => ConversationId::of_participants(&fingerprints),
            _ => ConversationId([7; 16]),
        };
        let names: Vec<String> = all.iter().map(|(name, _)| format!("{name:?}")).collect();
        let mut text = format!(
            "id = \"{id}\"\nsubject = {}\ncreated = \"2026-11-22T10:00:00.000000Z\"\nparticipants = [{}]\n[fingerprints]\n",
            toml::Value::from(subject),
            names.join(", ")
        );
        all.iter().for_each(|(name, who)| text.push_str(&format!("{name:?} = \"{who}\"\n")));
        let directory = self.at("conversations").join(name);
        fs::create_dir_all(directory.join(".delivery")).unwrap();
        fs::write(directory.join("metadata.toml"), text).unwrap();
        id
    }

    fn message(&self, conversation: &str, name: &str, from: (&str, Fingerprint), to: Vec<Recipient>, content: &[u8]) {
        let directory = self.at("conversations").join(conversation);
        fs::write(directory.join(name), content).unwrap();
        let delivery = Delivery {
            id: MessageId([1; 16]),
            from: from.1,
            from_name: from.0.to_owned(),
            counter: 1,
            file: name.to_owned(),
            outbox: None,
            conversation: None,
            recipients: to,
        };
        fs::write(directory.join(".delivery").join(name), delivery.to_string()).unwrap();
    }
}

fn recipient(name: &str, fingerprint: Fingerprint, state: State) -> Recipient {
    Recipient { fingerprint, name: name.to_owned(), state, since: Timestamp::from_micros(1), progress: None }
}

// ---- init, card, root ----

#[test]
fn init_makes_a_private_account_and_prints_its_card() {
    let alice = Account::new("alice");
    assert!(alice.card.starts_with(CARD_PREFIX) && !alice.card.contains('\n'));
    assert_eq!(alice.profile().profile().name, "alice");
    assert_eq!(alice.run(&["card"]).good(), alice.card);
    assert_eq!(alice.run(&["card", "--fingerprint"]).good(), alice.fingerprint().groups());
    let mode = |path: &str| fs::metadata(alice.at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("config.pb"), mode("outbox")), (0o700, 0o600, 0o700));
    assert!(fs::read_to_string(alice.at("chatterbox.toml")).unwrap().contains("\ndialer = \"direct\"\n"));
}

#[test]
fn init_warns_where_a_direct_connection_leaves_the_network() {
    let directory = tempfile::tempdir().unwrap();
    let init = |name: &str, server: &str| {
        run(&directory.path().join(name), &["init", name, "--server", server, "--dialer", "direct"])
    };
    for (name, host) in [("alice", "chat.example"), ("bob", "9.9.9.9")] {
        let said = init(name, &server().replace("127.0.0.1", host));
        assert_eq!((said.code, said.err.lines().count()), (0, 1));
        assert!(said.err.contains("not private") && said.err.contains("dialer = \"tor\""), "{}", said.err);
    }
    assert_eq!(init("carol", &server()).err, "");
}

#[test]
fn init_without_a_dialer_takes_tor() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let said = run(&root, &["init", "alice", "--server", &server()]);
    assert!(said.code == 0 && said.err.contains("private network, where Tor does not lead"), "{}", said.err);
    let public = run(
        &directory.path().join("public"),
        &["init", "alice", "--server", &server().replace("127.0.0.1", "chat.example")],
    );
    assert_eq!((public.code, public.err.as_str()), (0, ""));
    assert!(fs::read_to_string(root.join("chatterbox.toml")).unwrap().contains("\ndialer = \"tor\"\n"));
}

#[test]
fn init_refuses_a_dialer_that_cannot_do_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let init = |server: &str, dialer: &str| run(&root, &["init", "alice", "--server", server, "--dialer", dialer]);
    init(&server(), "Tor").bad(USAGE, &["no dialer called \"Tor\"", "tor, socks5://ADDRESS:PORT, direct"]);
    init(&server(), "socks5://localhost:9050").bad(USAGE, &["numeric address", "socks5://127.0.0.1:9050"]);
    let onion = server().replace("127.0.0.1", &format!("{}d.onion", "a".repeat(55)));
    init(&onion, "direct").bad(USAGE, &["direct cannot reach an onion service", "Leave --dialer out"]);
    assert!(!root.exists());
}

#[test]
fn init_refuses_a_bad_name_and_a_bad_address() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let init = |name: &str, server: &str| run(&root, &["init", name, "--server", server, "--dialer", "direct"]);
    init("Alice", &server()).bad(USAGE, &["making account Alice", "no account name", "a-z 0-9"]);
    init("a/../b", &server()).bad(USAGE, &["no account name"]);
    init("a\x1b[2Jb", &server()).bad(USAGE, &["a\\u{1b}[2Jb"]);
    init("alice", "localhost:1984").bad(DATA, &["chatterbox-server://", "chatterbox-server address"]);
    init("alice", &server().replace("ab", "xy")).bad(DATA, &["64 lowercase hex digits"]);
    init("alice", &server().replace(":1984", ":0")).bad(DATA, &["port 0"]);
    run(&root, &["init", "alice", "--dialer", "direct"]).bad(USAGE, &["--server"]);
    assert!(!root.exists());
}

#[test]
fn init_never_replaces_an_account() {
    let alice = Account::new("alice");
    let again = alice.run(&["init", "eve", "--server", &server(), "--dialer", "direct"]);
    again.bad(CANNOT_CREATE, &["config.pb is there already", "--root"]);
    assert_eq!(alice.run(&["card"]).good(), alice.card);
}

#[test]
fn a_root_without_an_account_is_named_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent");
    for arguments in [&["card"][..], &["list"], &["send", "bob"], &["contact", "list"], &["status"], &["show", "x"]] {
        run(&absent, arguments).bad(NO_INPUT, &["absent", "no such directory", "chatterbox init"]);
        run(directory.path(), arguments).bad(NO_INPUT, &["no account in it", "chatterbox init"]);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_profile_is_a_matter_of_configuration() {
    let alice = Account::new("alice");
    fs::write(alice.at("profile.pb"), "garbage").unwrap();
    alice.run(&["card"]).bad(CONFIG, &["profile.pb"]);
}

#[test]
fn the_root_is_an_option_before_and_after_the_command_or_a_variable_or_in_the_home() {
    let (alice, bob) = (Account::new("alice"), Account::new("bob"));
    let root = alice.root();
    let root = root.to_str().unwrap();
    assert_eq!(bob.run(&["--root", root, "card"]).good(), alice.card);
    assert_eq!(bob.run(&["card", "--root", root]).good(), alice.card);
    assert_eq!(bob.run(&["card"]).good(), bob.card);
    let home = tempfile::tempdir().unwrap();
    symlink(root, home.path().join(".chatterbox")).unwrap();
    let mut command = command(&bob.root(), &["card"]);
    let said = Said::from(command.env_remove("CHATTERBOX_ROOT").env("HOME", home.path()).output().unwrap());
    assert_eq!(said.good(), alice.card);
}

// ---- contacts ----

#[test]
fn cards_go_both_ways_between_two_roots() {
    let (alice, bob) = (Account::new("alice"), Account::new("bob"));
    let said = alice.with(&["contact", "add"], &bob.card).good();
    assert!(said.contains("added bob") && said.contains(&bob.fingerprint().groups()), "{said}");
    let wrapped = format!("  {}\r\n{}\n", &alice.card[..60], &alice.card[60..]);
    bob.with(&["contact", "add", "Alice, of work"], wrapped).good();
    assert_eq!(fs::read_to_string(alice.at("contacts/bob.card")).unwrap(), format!("{}\n", bob.card));
    assert_eq!(alice.files("tmp"), [""; 0]);

    let list = bob.json(&["contact", "list", "--json"]);
    let listed = &list["contacts"][0];
    assert_eq!(listed["name"], "Alice%2C of work");
    assert_eq!(listed["account_name"], "alice");
    assert_eq!(listed["fingerprint"], alice.fingerprint().to_string());
    assert_eq!(listed["server"], server());
    assert_eq!(listed["version"], 1);
    assert_eq!(listed["file"], bob.at("contacts/Alice, of work.card").to_str().unwrap());
    for name in ["Alice, of work", "Alice%2C of work"] {
        let shown = bob.run(&["contact", "show", name]).good();
        assert!(shown.contains(&alice.fingerprint().groups()) && shown.contains(&alice.card), "{shown}");
    }
    assert!(bob.run(&["contact", "list"]).good().contains("alice at 127.0.0.1:1984"));

    bob.run(&["contact", "remove", "Alice, of work"]).good();
    assert_eq!(bob.json(&["contact", "list", "--json"])["contacts"], Value::Array(Vec::new()));
    bob.run(&["contact", "remove", "Alice, of work"]).bad(NO_USER, &["no contact called Alice, of work"]);
}

#[test]
fn a_card_with_a_typo_is_refused_and_nothing_is_written() {
    let (alice, bob) = (Account::new("alice"), Account::new("bob"));
    let mut typo = bob.card.clone().into_bytes();
    typo[100] = if typo[100] == b'A' { b'B' } else { b'A' };
    let add = |input: &[u8]| alice.with(&["contact", "add", "bob"], input);
    add(&typo).bad(DATA, &["adding contact bob", "not a good card", "copy it whole"]);
    add(&bob.card.as_bytes()[..200]).bad(DATA, &["not a good card"]);
    add(b"hello").bad(DATA, &["does not start with chatterbox:"]);
    add(b"").bad(DATA, &["empty"]);
    add(b"\xff\xfe").bad(DATA, &["not text"]);
    add(&[b'x'; 5_000]).bad(DATA, &["longer than 4096 bytes"]);
    assert_eq!(alice.files("contacts"), [""; 0]);
    assert_eq!(alice.files("tmp"), [""; 0]);
}

#[test]
fn our_own_card_and_our_own_name_are_no_contacts() {
    let (alice, bob) = (Account::new("alice"), Account::new("bob"));
    alice.with(&["contact", "add", "me"], &alice.card).bad(DATA, &["your own card"]);
    alice.with(&["contact", "add", "alice"], &bob.card).bad(NO_USER, &["your own account is called alice"]);
    // The same without a name, where the card brings it.
    let other = Account::new("alice");
    alice.with(&["contact", "add"], &other.card).bad(NO_USER, &["Choose another name"]);
    assert_eq!(alice.files("contacts"), [""; 0]);
}

#[test]
fn a_taken_name_is_success_for_the_same_identity_only() {
    let (alice, bob) = Account::alice_with_bob();
    assert!(alice.with(&["contact", "add"], &bob.card).good().contains("bob is there already"));
    let eve = Account::new("eve");
    let refused = alice.with(&["contact", "add", "bob"], &eve.card);
    refused.bad(CANNOT_CREATE, &["another contact called bob", &eve.fingerprint().groups()]);
    assert_eq!(fs::read_to_string(alice.at("contacts/bob.card")).unwrap(), format!("{}\n", bob.card));
    let second = alice.with(&["contact", "add", "robert"], &bob.card);
    assert!(second.err.contains("same identity as your contact bob"), "{second:?}");
    second.good();
}

#[test]
fn a_contacts_name_that_could_be_no_file_is_refused() {
    let (alice, bob) = (Account::new("alice"), Account::new("bob"));
    for name in ["", "a/b", "../bob", ".bob", "a\nb", "x.error", &"x".repeat(251)] {
        alice.with(&["contact", "add", name], &bob.card).bad(USAGE, &["Choose another name"]);
    }
    assert_eq!(alice.files("contacts"), [""; 0]);
}

#[test]
fn a_damaged_card_bothers_no_other_and_can_be_removed() {
    let (alice, _bob) = Account::alice_with_bob();
    fs::write(alice.at("contacts/eve.card"), "chatterbox:typo").unwrap();
    let listed = alice.json(&["contact", "list", "--json"]);
    assert_eq!(listed["contacts"].as_array().unwrap().len(), 1);
    assert_eq!(listed["faults"][0]["file"], alice.at("contacts/eve.card").to_str().unwrap());
    assert!(alice.run(&["contact", "list"]).err.contains("eve.card"));
    alice.with(&["send", "eve"], "hi").bad(DATA, &["contacts/eve.card", "not a good card"]);
    alice.run(&["contact", "remove", "eve"]).good();
    assert!(!alice.at("contacts/eve.card").exists());
}

// ---- new, send ----

#[test]
fn send_queues_exactly_the_bytes_in_one_file() {
    let (alice, _bob) = Account::alice_with_bob();
    let content = b"no line's end, and a NUL: \0\xff";
    let said = alice.with(&["send", "bob"], content);
    assert!(said.err.contains("chatterboxd is not running"), "{}", said.err);
    let path = PathBuf::from(said.good());
    assert_eq!(path.parent().unwrap(), alice.at("outbox/bob"));
    assert_eq!(path.extension(), None);
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(alice.files("outbox").len(), 1);
    assert_eq!(alice.files("tmp"), [""; 0]);
    assert_ne!(PathBuf::from(alice.with(&["send", "bob"], content).good()), path);
}

#[test]
fn a_message_appears_in_the_outbox_by_a_rename_and_never_in_part() {
    let (alice, _bob) = Account::alice_with_bob();
    let directory = PathBuf::from(alice.run(&["new", "bob"]).good());
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).unwrap();
    watcher.watch(&directory, RecursiveMode::NonRecursive).unwrap();
    alice.with(&["send", "bob"], vec![b'x'; CONTENT_BYTES_MAX]).good();
    // The kernel keeps the order: whatever came before the rename is seen before it.
    let is_rename = |kind: &EventKind| matches!(kind, EventKind::Modify(ModifyKind::Name(RenameMode::To)));
    let kinds = events.iter().map(|event| event.unwrap().kind).filter(|kind| !kind.is_access());
    assert!(is_rename(&kinds.into_iter().next().unwrap()));
}

#[test]
fn send_says_nothing_more_while_a_daemon_runs() {
    let (alice, _bob) = Account::alice_with_bob();
    let _lock = RootLock::acquire(&alice.at("journal/lock")).unwrap();
    assert_eq!(alice.with(&["send", "bob"], "hi").err, "");
}

#[test]
fn a_file_keeps_its_name_and_replaces_none() {
    let (alice, _bob) = Account::alice_with_bob();
    let file = alice.directory.path().join("plan.pdf");
    fs::write(&file, "plan").unwrap();
    let send = |file: &Path| alice.run(&["send", "bob", "-f", file.to_str().unwrap()]).good();
    assert_eq!(send(&file), alice.at("outbox/bob/plan.pdf").to_str().unwrap());
    fs::write(&file, "another").unwrap();
    assert_eq!(send(&file), alice.at("outbox/bob/plan-2.pdf").to_str().unwrap());
    assert_eq!(fs::read(alice.at("outbox/bob/plan.pdf")).unwrap(), b"plan");
    // The daemon passes over a name like this, so it is not kept.
    let draft = alice.directory.path().join("draft.tmp");
    fs::write(&draft, "draft").unwrap();
    assert!(send(&draft).starts_with(alice.at("outbox/bob/message-").to_str().unwrap()));
    let link = alice.directory.path().join("link");
    symlink(&file, &link).unwrap();
    assert_eq!(fs::read(send(&link)).unwrap(), b"another");
}

#[test]
fn what_cannot_be_a_message_is_refused_before_anything_is_queued() {
    let (alice, _bob) = Account::alice_with_bob();
    let at = |name: &str| alice.directory.path().join(name).to_str().unwrap().to_owned();
    let file = |name: &str| alice.run(&["send", "bob", "-s", "x", "-f", &at(name)]);
    alice.run(&["send", "bob"]).bad(DATA, &["empty", "-f FILE"]);
    fs::write(alice.at("chatterbox.toml"), "send_limit = \"10 KiB\"\n").unwrap();
    alice
        .with(&["send", "bob"], vec![b'x'; CONTENT_BYTES_MAX + 5])
        .bad(DATA, &["10245 bytes", "10240 are allowed", "send_limit"]);
    fs::write(at("empty"), "").unwrap();
    file("empty").bad(DATA, &["empty"]);
    fs::write(at("large"), vec![b'x'; CONTENT_BYTES_MAX + 1]).unwrap();
    file("large").bad(DATA, &["large", "10241 bytes", "10240 are allowed"]);
    file("absent").bad(NO_INPUT, &["absent"]);
    fs::create_dir(at("directory")).unwrap();
    file("directory").bad(DATA, &["it is a directory"]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    file("fifo").bad(DATA, &["it is a FIFO"]);
    fs::write(at("secret"), "x").unwrap();
    fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything.
    if fs::read(at("secret")).is_err() {
        file("secret").bad(NO_PERMISSION, &["permission denied"]);
    }
    alice.nothing_is_queued();
    let made = fs::read_dir(alice.at("outbox")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(made.filter(|name| !name.as_encoded_bytes().starts_with(b".")).count(), 0);
}

#[test]
fn a_large_message_is_queued_whole_from_a_pipe_and_from_a_file() {
    let (alice, _bob) = Account::alice_with_bob();
    let content: Vec<u8> = (0..3_000_000_u32).map(|place| place.to_le_bytes()[1]).collect();
    let path = alice.with(&["send", "bob"], content.clone()).good();
    assert_eq!(fs::read(path).unwrap(), content);
    let file = alice.directory.path().join("plan.pdf");
    fs::write(&file, &content).unwrap();
    let path = alice.run(&["send", "bob", "-f", file.to_str().unwrap()]).good();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(fs::read_dir(alice.at("tmp/chatterbox")).unwrap().count(), 0);
}

#[test]
fn unknown_contacts_and_our_own_name_are_refused() {
    let (alice, _bob) = Account::alice_with_bob();
    for command in ["send", "new"] {
        alice.with(&[command, "bob", "eve"], "hi").bad(NO_USER, &["no contact called eve", "contact add eve"]);
        alice.with(&[command, "e v'e"], "hi").bad(NO_USER, &["contact add 'e v'\\''e' < CARD"]);
        alice.with(&[command, "alice"], "hi").bad(NO_USER, &["alice is your own account"]);
        alice.with(&[command, "../x"], "hi").bad(NO_USER, &["no contact called ../x"]);
        alice.with(&[command, "bob,bob"], "hi").bad(NO_USER, &["separated by spaces"]);
        alice.with(&[command, "-s", &"x".repeat(201), "bob"], "hi").bad(USAGE, &["201 bytes", "200 are allowed"]);
        alice.with(&[command, "-s", "a\nb", "bob"], "hi").bad(USAGE, &["control characters"]);
        alice.run(&[command]).bad(USAGE, &["<NAME>"]);
    }
    alice.nothing_is_queued();
}

#[test]
fn an_outbox_directory_is_named_after_its_contacts_sorted_and_once() {
    let (alice, bob) = Account::alice_with_bob();
    alice.with(&["contact", "add", "a, b"], &Account::new("carol").card).good();
    alice.with(&["contact", "add", "robert"], &bob.card).good();
    let path = alice.run(&["new", "bob", "a, b", "bob", "robert"]).good();
    assert_eq!(path, alice.at("outbox/a%2C b,bob").to_str().unwrap());
    assert_eq!(alice.run(&["new", "a%2C b", "bob"]).good(), path);
    assert!(Path::new(&path).is_dir());
}

#[test]
fn a_conversation_that_stands_is_written_to_by_its_name() {
    let (alice, bob) = Account::alice_with_bob();
    let (name, dave) = ("2026-11-22-bob-alice-dave~09090909", Fingerprint([9; 32]));
    alice.conversation(name, "", &[("bob", bob.fingerprint()), ("dave~09090909", dave)]);
    let gone = [name, "there is no directory for it in outbox/"];
    alice.with(&["send", name], "hi").bad(NO_USER, &gone);
    fs::create_dir(alice.at("outbox").join(name)).unwrap();
    alice.with(&["send", name], "hi").bad(NO_USER, &gone);
    // It means something else.
    let metadata = alice.at("outbox").join(name).join("metadata.toml");
    fs::write(&metadata, "participants = [\"bob\"]\nid = \"07070707070707070707070707070707\"\n").unwrap();
    alice.with(&["send", name], "hi").bad(NO_USER, &gone);
    fs::copy(alice.at("conversations").join(name).join("metadata.toml"), &metadata).unwrap();
    for wanted in [name.to_owned(), format!("{name}/")] {
        let path = alice.with(&["send", &wanted], "hi").good();
        assert!(Path::new(&path).starts_with(alice.at("outbox").join(name)) && Path::new(&path).is_file(), "{path}");
    }
    assert_eq!(alice.run(&["new", name]).good(), alice.at("outbox").join(name).to_str().unwrap());
    // Who is there without a card cannot be written to by name.
    let hint =
        format!("If the conversation is meant: `chatterbox send {name}`, or a file in its directory, outbox/{name}/.");
    for names in [&["bob", "dave~09090909"][..], &["dave~09090909", "bob"], &["-s", "x", name]] {
        let said = alice.with(&[&["send"], names].concat(), "hi");
        assert!(!said.err.contains("echo TEXT"), "{said:?}");
        said.bad(NO_USER, &[&hint]);
    }
    let said = alice.with(&["send", "dave~09090909"], "hi");
    assert!(!said.err.contains("If the conversation"), "{said:?}");
    said.bad(NO_USER, &[]);
    // With one of them, too, who has no card: only the conversation's own name is sent to.
    let two = "2026-11-23-dave~09090909-alice";
    alice.conversation(two, "", &[("dave~09090909", dave)]);
    fs::create_dir(alice.at("outbox").join(two)).unwrap();
    fs::copy(
        alice.at("conversations").join(two).join("metadata.toml"),
        alice.at("outbox").join(two).join("metadata.toml"),
    )
    .unwrap();
    alice.with(&["send", "dave~09090909"], "hi").bad(NO_USER, &[&format!("`chatterbox send {two}`")]);
    // Renamed here, and not there.
    fs::rename(alice.at("conversations").join(name), alice.at("conversations/standup")).unwrap();
    let path = alice.with(&["send", "standup"], "hi").good();
    assert!(Path::new(&path).starts_with(alice.at("outbox").join(name)), "{path}");
    alice.with(&["send", "bob", "bob", "dave~09090909"], "hi").bad(NO_USER, &["`chatterbox send standup`", name]);
    // A contact who is called like it, or like another conversation's directory in the outbox.
    alice.with(&["contact", "add", "standup"], &Account::new("carol").card).good();
    alice.with(&["send", "standup"], "hi").bad(USAGE, &["both called standup", "Rename"]);
    alice.with(&["contact", "add", name], &Account::new("dora").card).good();
    alice.with(&["send", name], "hi").bad(USAGE, &["means another conversation", "metadata.toml"]);
    fs::remove_file(alice.at("contacts/standup.card")).unwrap();
    fs::remove_dir_all(alice.at("outbox").join(name)).unwrap();
    symlink(alice.at("contacts"), alice.at("outbox").join(name)).unwrap();
    alice.with(&["send", "standup"], "hi").bad(NO_USER, &["there is no directory for it in outbox/"]);
}

#[test]
fn something_else_under_the_directorys_name_is_said() {
    let (alice, _bob) = Account::alice_with_bob();
    fs::write(alice.at("outbox/bob"), "x").unwrap();
    alice.with(&["send", "bob"], "hi").bad(CANNOT_CREATE, &["outbox/bob"]);
    fs::remove_file(alice.at("outbox/bob")).unwrap();
    symlink(alice.at("contacts"), alice.at("outbox/bob")).unwrap();
    alice.with(&["send", "bob"], "hi").bad(CANNOT_CREATE, &["outbox/bob is no directory"]);
}

#[test]
fn a_subject_finds_its_directory_again() {
    let (alice, _bob) = Account::alice_with_bob();
    alice.with(&["contact", "add"], &Account::new("carol").card).good();
    let standup = alice.run(&["new", "-s", "stand/up", "carol", "bob"]).good();
    assert_eq!(standup, alice.at("outbox/bob,carol_stand%2Fup").to_str().unwrap());
    let metadata: toml::Table = fs::read_to_string(Path::new(&standup).join("metadata.toml")).unwrap().parse().unwrap();
    assert_eq!(metadata["subject"].as_str(), Some("stand/up"));
    assert_eq!(metadata["participants"].to_string(), r#"["bob", "carol"]"#);
    assert_eq!(alice.files("tmp"), [""; 0]);

    let sent = alice.with(&["send", "bob", "carol", "--subject", "stand/up"], "hi").good();
    assert_eq!(Path::new(&sent).parent().unwrap(), Path::new(&standup));
    let renamed = alice.at("outbox/mine");
    fs::rename(&standup, &renamed).unwrap();
    assert_eq!(alice.run(&["new", "bob", "carol", "-s", "stand/up"]).good(), renamed.to_str().unwrap());
    // Neither another subject nor other participants.
    assert_ne!(alice.run(&["new", "bob", "carol", "-s", "other"]).good(), renamed.to_str().unwrap());
    assert_ne!(alice.run(&["new", "bob", "-s", "stand/up"]).good(), renamed.to_str().unwrap());
}

#[test]
fn a_subjects_directory_takes_a_free_name() {
    let (alice, _bob) = Account::alice_with_bob();
    fs::create_dir(alice.at("outbox/bob_x")).unwrap();
    assert_eq!(alice.run(&["new", "bob", "-s", "x"]).good(), alice.at("outbox/bob_x-2").to_str().unwrap());
    assert_eq!(fs::read_dir(alice.at("outbox/bob_x")).unwrap().count(), 0);
}

// ---- list, show ----

#[test]
fn an_empty_root_lists_nothing() {
    let alice = Account::new("alice");
    assert_eq!(alice.json(&["list", "--json"]).to_string(), r#"{"conversations":[],"requests":[]}"#);
    let said = alice.run(&["list"]);
    assert!(said.out.is_empty() && said.err.contains("chatterbox send"), "{said:?}");
}

#[test]
fn conversations_are_listed_with_what_programs_need() {
    let (alice, bob) = Account::alice_with_bob();
    let (name, bobs, dave) = ("2026-11-22-alice-bob-dave_x", ("bob", bob.fingerprint()), Fingerprint([9; 32]));
    let id = alice.conversation(name, "x\u{1b}[2J", &[bobs, ("dave~09090909", dave)]);
    for time in ["2026-11-22T101530.123456Z", "2026-11-22T101544.000120Z"] {
        alice.message(name, &format!("{time}-bob"), bobs, Vec::new(), b"hi");
    }
    fs::write(alice.at("conversations").join(name).join("settings.toml"), "").unwrap();
    fs::create_dir(alice.at("conversations/notes")).unwrap();
    let request = alice.at("requests/eve~0a0a0a0a");
    fs::create_dir(&request).unwrap();
    fs::write(request.join("2026-11-22T111530.123456Z-eve"), "hello").unwrap();
    fs::write(request.join("card"), "").unwrap();

    let list = alice.json(&["list", "--json"]);
    assert_eq!(list["conversations"].as_array().unwrap().len(), 1);
    let listed = &list["conversations"][0];
    assert_eq!(listed["name"], name);
    assert_eq!(listed["path"], alice.at("conversations").join(name).to_str().unwrap());
    assert_eq!(listed["id"], id.to_string());
    assert_eq!(listed["subject"], "x\u{1b}[2J");
    assert_eq!(listed["created"], "2026-11-22T10:00:00.000000Z");
    assert_eq!(listed["messages"], 2);
    assert_eq!(listed["last"], "2026-11-22T10:15:44.000120Z");
    assert_eq!(listed["participants"].as_array().unwrap().len(), 3);
    assert_eq!(listed["participants"][2]["name"], "dave~09090909");
    assert_eq!(listed["participants"][2]["fingerprint"], dave.to_string());
    let listed = &list["requests"][0];
    assert_eq!((listed["name"].as_str(), listed["messages"].as_u64()), (Some("eve~0a0a0a0a"), Some(1)));
    assert_eq!(listed["card"], request.join("card").to_str().unwrap());

    let table = alice.run(&["list"]).good();
    assert!(table.contains(name) && table.contains("bob, dave~09090909") && table.contains("eve~0a0a0a0a"), "{table}");
    assert!(table.contains("2026-11-22 10:15:44 UTC") && table.contains("x\\u{1b}[2J"), "{table}");
}

#[test]
fn a_damaged_conversation_bothers_no_other() {
    let (alice, bob) = Account::alice_with_bob();
    alice.conversation("2026-11-22-alice-bob", "", &[("bob", bob.fingerprint())]);
    alice.conversation("2026-11-23-alice-bob", "", &[("bob", bob.fingerprint())]);
    fs::write(alice.at("conversations/2026-11-23-alice-bob/metadata.toml"), "participants =").unwrap();
    let said = alice.run(&["list"]);
    assert!(said.err.contains("2026-11-23-alice-bob/metadata.toml"), "{said:?}");
    assert_eq!(said.good().lines().count(), 2);
}

#[test]
fn a_conversation_is_shown_with_its_headings_and_states() {
    let (alice, bob) = Account::alice_with_bob();
    let (name, bobs) = ("2026-11-22-alice-bob", ("bob", bob.fingerprint()));
    alice.conversation(name, "", &[bobs]);
    let failed = State::Failed("mailbox full".into());
    let ours = ("alice", alice.fingerprint());
    let to = |state| vec![recipient("bob", bob.fingerprint(), state)];
    alice.message(name, "2026-11-22T101530.123456Z-alice", ours, to(State::Delivered), b"one\ntwo");
    alice.message(name, "2026-11-22T101531.000000Z-alice-a.txt", ours, to(failed), b"--- forged heading\n");
    alice.message(name, "2026-11-22T101544.000120Z-bob-x.bin", bobs, Vec::new(), b"\xff\0");
    let expected = format!(
        "--- 2026-11-22 10:15:30 UTC  alice  2026-11-22T101530.123456Z-alice\n    bob: delivered\n  one\n  two\n\n\
         --- 2026-11-22 10:15:31 UTC  alice  2026-11-22T101531.000000Z-alice-a.txt\n    bob: failed (mailbox full)\n  \
         --- forged heading\n\n--- 2026-11-22 10:15:44 UTC  bob  2026-11-22T101544.000120Z-bob-x.bin\n  [2 bytes, {}]",
        alice.at("conversations").join(name).join("2026-11-22T101544.000120Z-bob-x.bin").display()
    );
    for wanted in ["bob", name, "2026-11", "2026-11-22-alice-bob/"] {
        assert_eq!(alice.run(&["show", wanted]).good(), expected, "{wanted}");
    }
    // What we took back has not failed.
    for (second, reason) in [(50, "cancelled"), (51, "cancelled; it is not known whether it had arrived by then")] {
        let name_of_it = format!("2026-11-22T1015{second}.000000Z-alice");
        alice.message(name, &name_of_it, ours, to(State::Failed(reason.into())), b"no");
    }
    assert_eq!(alice.json(&["list", "--json"])["conversations"][0]["failed"], 1);
    assert!(alice.run(&["list"]).good().contains("5 (1 failed)"));
}

#[test]
fn a_name_that_means_no_or_several_conversations_is_said() {
    let (alice, bob) = Account::alice_with_bob();
    alice.run(&["show", "bob"]).bad(NO_INPUT, &["no conversation with bob yet"]);
    alice.run(&["show", "eve"]).bad(NO_INPUT, &["no such conversation or contact", "chatterbox list"]);
    alice.conversation("2026-11-22-alice-bob_x", "x", &[("bob", bob.fingerprint())]);
    alice.run(&["show", "bob"]).good();
    alice.conversation("2026-11-23-alice-bob_y", "y", &[("bob", bob.fingerprint())]);
    let both = ["2026-11-22-alice-bob_x or 2026-11-23-alice-bob_y", "Write more"];
    alice.run(&["show", "bob"]).bad(USAGE, &both);
    alice.run(&["show", "2026"]).bad(USAGE, &both);
    alice.with(&["contact", "add"], &Account::new("carol").card).good();
    alice.run(&["show", "bob,carol"]).bad(NO_INPUT, &["no such conversation or contact"]);
    let carol = alice.json(&["contact", "list", "--json"])["contacts"][1]["fingerprint"].as_str().unwrap().to_owned();
    let carol = Fingerprint::from_hex(&carol).unwrap();
    alice.conversation("2026-11-25-bob-alice-carol", "z", &[("bob", bob.fingerprint()), ("carol", carol)]);
    ["bob,carol", "carol,bob"].iter().for_each(|names| drop(alice.run(&["show", names]).good()));
    // The one that outbox/bob opens is what the name means.
    alice.conversation("2026-11-24-alice-bob", "", &[("bob", bob.fingerprint())]);
    alice.run(&["show", "bob"]).good();
}

// ---- status ----

fn running(connected: bool) -> Status {
    let connection = if connected { "connected to 127.0.0.1:1984" } else { "connecting: refused" };
    Status {
        running: true,
        ended: None,
        pid: std::process::id(),
        account: "alice 00".into(),
        dialer: "tor".into(),
        tor: (!connected).then(|| "45%: connecting".into()),
        connected,
        connection: connection.into(),
        recovery: None,
        schedule: Some("poisson, one envelope each 30s on average".into()),
        queue: 2,
        troubled: vec![("bob".into(), "connecting: refused".into())],
        prekeys: Some(100),
        waiting: vec![("outbox/bob/x".into(), "open for writing".into())],
        refused: vec!["outbox/bob,carol/50%25".into()],
        ignored: 1,
        dropboxes: vec![("cron".into(), "3 files wait".into())],
        sending: vec!["conversations/x/y to bob: 45% of 64.0 MiB".into()],
        receiving: vec!["from bob: 12% of 64.0 MiB".into()],
        hooks: vec![("on-message".into(), "It is not executable. Make it so.".into())],
        paused: None,
    }
}

#[test]
fn without_a_daemon_status_says_so_whatever_an_old_file_says() {
    let alice = Account::new("alice");
    assert!(alice.run(&["status"]).good().contains("daemon: not running"));
    fs::write(alice.at("status"), running(true).to_string()).unwrap();
    assert!(alice.run(&["status"]).good().contains("daemon: not running"));
    let json = alice.json(&["status", "--json"]);
    assert_eq!((json["daemon"].as_str(), json["connected"].as_bool()), (Some("not running"), Some(false)));
    assert!(json["pid"].is_null() && json["queue"].is_null() && json["connection"].is_null());
    assert_eq!(json["account"]["name"], "alice");
    assert_eq!(json["account"]["fingerprint"], alice.fingerprint().to_string());
    let waiting = alice.run(&["status", "--wait", "connected", "--timeout", "0"]);
    waiting.bad(TEMPORARY_FAILURE, &["not running", "Start chatterboxd"]);
    assert!(json["ended"].is_null());
    let ended = Status { running: false, ended: Some("a file is damaged".into()), ..running(false) };
    fs::write(alice.at("status"), ended.to_string()).unwrap();
    assert_eq!(alice.json(&["status", "--json"])["ended"], "a file is damaged");
    let waiting = alice.run(&["status", "--wait", "connected", "--timeout", "0"]);
    waiting.bad(TEMPORARY_FAILURE, &["has ended: a file is damaged", "start chatterboxd"]);
}

#[test]
fn a_running_daemons_status_is_shown_and_a_dead_ones_is_not_taken_for_it() {
    let alice = Account::new("alice");
    let _lock = RootLock::acquire(&alice.at("journal/lock")).unwrap();
    assert!(alice.run(&["status"]).good().contains("daemon: starting"));
    fs::write(alice.at("status"), Status { pid: 1, ..running(true) }.to_string()).unwrap();
    assert_eq!(alice.json(&["status", "--json"])["daemon"], "starting");

    fs::write(alice.at("status"), running(false).to_string()).unwrap();
    assert!(alice.run(&["status"]).good().contains("connection: connecting: refused\n"));
    let json = alice.json(&["status", "--json"]);
    assert_eq!((json["daemon"].as_str(), json["connected"].as_bool()), (Some("running"), Some(false)));
    assert_eq!(
        (json["queue"].as_u64(), json["prekeys"].as_u64(), json["ignored"].as_u64()),
        (Some(2), Some(100), Some(1))
    );
    assert_eq!(json["dialer"], "tor");
    assert_eq!(json["tor"], "45%: connecting");
    assert_eq!(json["schedule"], "poisson, one envelope each 30s on average");
    assert_eq!(json["trouble"][0]["name"], "bob");
    assert_eq!(json["waiting"][0]["path"], "outbox/bob/x");
    assert_eq!(json["refused"][0], "outbox/bob,carol/50%");
    assert_eq!(
        (json["hooks"][0]["hook"].as_str(), json["hooks"].as_array().map(Vec::len)),
        (Some("on-message"), Some(1))
    );
    let waiting = alice.run(&["status", "--wait", "connected", "--timeout", "0"]);
    waiting.bad(TEMPORARY_FAILURE, &["connecting: refused", "tor: 45%: connecting"]);
}

#[test]
fn waiting_ends_when_a_daemon_runs_and_is_connected() {
    let alice = Account::new("alice");
    let mut waiting = command(&alice.root(), &["status", "--wait", "connected", "--json"]);
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _lock = RootLock::acquire(&alice.at("journal/lock")).unwrap();
    fs::write(alice.at("status"), running(false).to_string()).unwrap();
    fs::write(alice.at("status.new"), running(true).to_string()).unwrap();
    fs::rename(alice.at("status.new"), alice.at("status")).unwrap();
    let json: Value = serde_json::from_str(&Said::from(waiting.wait_with_output().unwrap()).good()).unwrap();
    assert_eq!(json["connected"], true);
}

#[test]
fn what_is_waited_for_must_be_known() {
    let alice = Account::new("alice");
    alice.run(&["status", "--wait", "godot"]).bad(USAGE, &["connected"]);
    alice.run(&["status", "--timeout", "1"]).bad(USAGE, &["--wait"]);
}

// ---- help, usage, standard output ----

const COMMANDS: &[&[&str]] = &[
    &[],
    &["init"],
    &["card"],
    &["profile"],
    &["profile", "set"],
    &["contact"],
    &["contact", "add"],
    &["contact", "list"],
    &["contact", "show"],
    &["contact", "remove"],
    &["verify"],
    &["new"],
    &["send"],
    &["list"],
    &["show"],
    &["status"],
];

#[test]
fn every_command_has_a_help_with_an_example_that_fits_a_terminal() {
    for command in COMMANDS {
        let help = run(Path::new("/nonexistent"), &[command, &["--help"][..]].concat()).good();
        assert!(help.contains("Usage: chatterbox"), "{help}");
        assert!(help.contains("Example") || [["contact"], ["profile"]].iter().any(|group| command == group), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
    assert!(run(Path::new("/nonexistent"), &["--version"]).good().starts_with("chatterbox "));
}

#[test]
fn a_wrong_command_line_is_usage() {
    let root = Path::new("/nonexistent");
    for arguments in
        [&[][..], &["contact"], &["profile"], &["nonsense"], &["card", "--nonsense"], &["card", "x"], &["show"]]
    {
        run(root, arguments).bad(USAGE, &["Usage: chatterbox"]);
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (alice, _bob) = Account::alice_with_bob();
    for arguments in [&["card"][..], &["contact", "list"], &["list", "--json"], &["new", "bob"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&alice.root(), arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = Said::from(output);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_said() {
    let alice = Account::new("alice");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&alice.root(), &["card"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    Said::from(output).bad(IO, &["writing to standard output"]);
}
