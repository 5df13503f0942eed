//! Somebody who has a shell and nothing else: whatever they do and see goes through `sh`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::document::{self, Document};
use crate::support::machine::{SOMEBODY, give_to, installed};
use crate::support::{User, World, as_user};

/// What every script of theirs begins with.
const PRELUDE: &str = r#"
    message() { grep -lxF -e "$1" conversations/*/2*Z-* | sed -n 1p; }
    # state TEXT STATE: whether the message of this text has come so far with somebody.
    state() { m=$(message "$1"); grep -q "^to: [0-9a-f]* $2 " "${m%/*}/.delivery/${m##*/}"; }
    # cancel TEXT
    cancel() {
        m=$(message "$1"); mkdir -p outbox/.cancel
        echo > "outbox/.cancel/$(sed -n 's/^id: //p' "${m%/*}/.delivery/${m##*/}")"
    }
    # drop DIRECTORY NAME TEXT
    drop() { mkdir -p "outbox/$1" tmp/sh; printf '%s\n' "$3" > "tmp/sh/$2"; mv "tmp/sh/$2" "outbox/$1/$2"; }
"#;

/// Every file that is for people to read. One name for each line it has.
const LOOK: &str = "grep -s '' /dev/null status alerts/* conversations/*/.delivery/* conversations/*/.gaps \
    requests/*/.delivery/* outbox/*.error outbox/*/*.error outbox/.cancel/*.error conversations/*/*.error contacts/*.error blocked/*.error \
    dropboxes/*.error ui_info/sh/hook-* || true";

/// A command line for what comes behind it, to be run as an ordinary user: root may do everything, and would never see what is
/// forbidden.
pub fn ordinary() -> Command {
    as_user(SOMEBODY)
}

/// What has been seen of what the document promises, and what it does not tell of.
pub struct Seen {
    promised: BTreeSet<String>,
    errors: Vec<String>,
    alerts: Vec<(String, String)>,
    paths: Vec<(String, String)>,
    pub seen: BTreeSet<String>,
    pub unknown: BTreeSet<String>,
}

impl Seen {
    pub fn new(document: &Document) -> Self {
        let promised: BTreeSet<String> = document.promises().into_iter().collect();
        let paths = promised.iter().filter_map(|promise| {
            let (list, path) = promise.split_once(": ")?;
            ["path", "daemon's file"].contains(&list).then(|| (promise.clone(), document::pattern(path)))
        });
        let paths = paths.collect();
        let (errors, alerts) = (document.errors(), document.alerts());
        Self { promised, errors, alerts, paths, seen: BTreeSet::new(), unknown: BTreeSet::new() }
    }

    fn note(&mut self, list: &str, entry: &str) {
        let what = format!("{list}: {entry}");
        match self.promised.contains(&what) {
            true => self.seen.insert(what),
            false => self.unknown.insert(what),
        };
    }

    /// A line of a file.
    fn note_line(&mut self, path: &str, line: &str) {
        let name = line.split(": ").next().unwrap();
        if path == "status" {
            self.note("status", name);
            let is_it = |promise: &&String| {
                let value = promise.strip_prefix("status: ").filter(|promise| promise.contains(": "));
                value.is_some_and(|value| line.starts_with(value))
            };
            self.seen.extend(self.promised.iter().filter(is_it).cloned());
        } else if path.contains("/.delivery/") {
            let state = line.strip_prefix("to: ").and_then(|rest| rest.split(' ').nth(1));
            match state {
                Some("failed") => self.note("line of .delivery", "to … failed"),
                _ => self.note("line of .delivery", name),
            }
            state.into_iter().for_each(|state| self.note("state", state));
        } else if path.ends_with("/.gaps") {
            self.note("line of .gaps", &format!("{name}: FINGERPRINT FROM TO SINCE NAME"));
        } else if path.starts_with("ui_info/sh/hook-") {
            let variable = line.split('=').next().unwrap();
            if variable.starts_with("CHATTERBOX_") {
                self.note("variable", variable);
            }
            line.strip_prefix("CHATTERBOX_EVENT=")
                .into_iter()
                .for_each(|event| self.note("hook", &format!("hooks/on-{event}")));
        }
    }

    /// A whole file.
    fn note_text(&mut self, path: &str, text: &str) {
        let two_sentences = text.lines().filter(|line| !line.starts_with('(')).count() == 2;
        if let Some(kind) = path.strip_prefix("alerts/").and_then(|name| name.split("Z-").nth(1)) {
            let row = self.alerts.iter().position(|(known, when)| is_of_kind(kind, known) && reason(known, when, text));
            match row.map(|row| self.alerts[row].clone()) {
                Some((kind, when)) => self.note("alert", &format!("{kind}, {when}")),
                None => drop(self.unknown.insert(format!("{path}: {text}"))),
            }
        } else if path.starts_with("outbox/") && path.ends_with(".error") {
            match self.errors.iter().find(|says| text.contains(*says)).cloned() {
                Some(says) => self.note("error", &says),
                None => drop(self.unknown.insert(format!("{path}: {text}"))),
            }
        }
        if (path.starts_with("alerts/") || path.ends_with(".error")) && !two_sentences {
            self.unknown.insert(format!("more or less than two sentences in {path}: {text}"));
        }
    }
}

fn is_of_kind(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Where one kind comes for several reasons: whether the text of an alert gives this one.
fn reason(kind: &str, when: &str, text: &str) -> bool {
    let says = match (kind, when) {
        ("identity", "the card of a") => "The card of ",
        ("identity", "somebody we hold no") => " calls themself ",
        ("identity", "a message brought another") => "profile of another identity",
        ("discarded", "a large message came") => "A large message from ",
        ("discarded", "a message came that") => "A message from ",
        _ => "",
    };
    text.contains(says)
}

/// Somebody and their shell.
pub struct Person {
    pub user: User,
    pub card: String,
    daemon: PathBuf,
}

impl Person {
    /// With an account, which is the only thing that needs a program of ours.
    pub fn new(world: &World, directory: &str, name: &str, server: &str) -> Self {
        let user = User { name: directory.to_owned(), root: world.scratch.path().join(directory), daemon: None };
        let made = user.cli(&["init", name, "--server", server, "--dialer", "direct"]);
        assert!(made.status.success(), "{made:?}");
        give_to(SOMEBODY, [user.root.as_path()]);
        let card = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
        Self { user, card, daemon: installed(world.scratch.path()) }
    }

    pub fn try_sh(&self, script: &str) -> Output {
        let mut command = ordinary();
        command.args(["sh", "-eu", "-c", &format!("{PRELUDE}\n{script}")]).current_dir(&self.user.root);
        command.env("CHATTERBOX_ROOT", &self.user.root).output().unwrap()
    }

    /// Runs a script in the root, which must succeed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(output.status.success(), "{}: {script}\n{output:?}", self.user.name);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Adds people by their cards.
    pub fn knows(&self, others: &[&Self]) {
        for other in others {
            self.sh(&format!("echo '{}' > 'contacts/{}.card'", other.card, other.user.name));
        }
    }

    pub fn start(&mut self) {
        self.start_under(ordinary());
    }

    pub fn start_under(&mut self, mut wrapper: Command) {
        wrapper.arg(&self.daemon);
        self.user.start_as(wrapper);
    }

    pub fn stop(&mut self) {
        self.user.stop();
    }

    /// Looks around.
    pub fn look(&self, seen: &mut Seen) {
        let text = self.sh(LOOK);
        let mut files: Vec<(&str, String)> = Vec::new();
        for (path, line) in text.lines().filter_map(|line| line.split_once(':')) {
            seen.note_line(path, line);
            match files.last_mut().filter(|(last, _)| *last == path) {
                Some((_, text)) => *text = format!("{text}\n{line}"),
                None => files.push((path, line.to_owned())),
            }
        }
        files.iter().for_each(|(path, text)| seen.note_text(path, text));
        let unseen: Vec<(String, String)> =
            seen.paths.iter().filter(|(promise, _)| !seen.seen.contains(promise)).cloned().collect();
        // What is not listed is a fault as well.
        let listed: Vec<&str> = seen.paths.iter().map(|(_, pattern)| pattern.as_str()).collect();
        let others = format!(
            "find keys journal tmp/chatterboxd -type f 2>&- | while read -r file; do
                case $file in {}) ;; *) echo \"$file\" ;; esac; done",
            listed.join("|")
        );
        seen.unknown.extend(self.sh(&others).lines().map(|path| format!("daemon's file: {path}")));
        if !unseen.is_empty() {
            let tests = unseen.iter().enumerate().map(|(at, (_, pattern))| {
                // Of many, the first: whether there is any.
                format!("set -- {pattern}; if test -e \"$1\"; then echo {at}; fi\n")
            });
            for at in self.sh(&tests.collect::<String>()).lines() {
                seen.seen.insert(unseen[at.parse::<usize>().unwrap()].0.clone());
            }
        }
    }

    /// Looks around until a condition of the shell holds.
    pub fn until(&self, seen: &mut Seen, condition: &str) {
        self.user.wait_for(condition, || {
            self.look(seen);
            self.try_sh(condition).status.success().then_some(())
        });
        self.look(seen);
    }

    pub fn path(&self) -> &Path {
        &self.user.root
    }
}
