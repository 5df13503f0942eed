//! What waits for a person: alerts, requests, and what the daemon says of itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::checkup::{Checkup, Daemon};
use crate::app::client::causes;
use crate::client::status::Status;
use crate::client::{dropbox, error_file, hook_file};
use crate::limits::STATE_FILE_BYTES_MAX;
use crate::name;

pub(super) fn check(checkup: &mut Checkup<'_>) {
    let counted = |count: usize, one: &str, many: &str| match count {
        1 => one.to_owned(),
        _ => format!("{count} {many}"),
    };
    let alerts = count(checkup, "alerts");
    if alerts > 0 {
        let problem = counted(alerts, "an alert lies here unread", "alerts lie here unread");
        checkup.note("alerts", Path::new("alerts"), problem, "Read them with cat, and delete them then.");
    }
    let requests = count(checkup, "requests");
    if requests > 0 {
        let problem = counted(requests, "somebody without a card waits here", "people without cards wait here");
        let remedy = "Compare the fingerprint, then `mv requests/X/card contacts/NAME.card` accepts; deleting the \
                      directory rejects; `mv requests/X/card blocked/NAME.card` blocks.";
        checkup.note("requests", Path::new("requests"), problem, remedy);
    }
    check_status(checkup);
}

fn count(checkup: &mut Checkup<'_>, directory: &str) -> usize {
    checkup.entries(Path::new(directory)).filter(|entry| !entry.is_hidden()).count()
}

fn check_status(checkup: &mut Checkup<'_>) {
    let path = Path::new("status");
    let remedy = "Remove it; chatterboxd writes it anew.";
    let Some(bytes) = checkup.read("status", path, STATE_FILE_BYTES_MAX, remedy) else { return };
    let status = Status::parse(&String::from_utf8_lossy(&bytes));
    // Looked at behind the file, so that a daemon that was just started is not called a dead one.
    match Daemon::look(checkup.root).unwrap_or(Daemon::Unknown) {
        Daemon::Stopped if status.running => {
            let problem = "it says that chatterboxd runs, which does not: it was killed, or the machine went down";
            checkup.warning("status", path, problem, "Start chatterboxd: it goes on from where it was.");
        }
        Daemon::Stopped => {
            if let Some(ended) = &status.ended {
                let remedy = "See to that, and start chatterboxd: it goes on from where it was.";
                checkup.warning("status", path, format!("chatterboxd has ended: {ended}"), remedy);
            }
        }
        Daemon::Running(Some(pid)) if status.running && status.pid == pid => say(checkup, path, &status),
        _ => {}
    }
}

/// What a running daemon cannot do.
fn say(checkup: &mut Checkup<'_>, path: &Path, status: &Status) {
    if let Some(paused) = &status.paused {
        let remedy = "See to that; chatterboxd goes on by itself then.";
        checkup.error("paused", path, format!("chatterboxd pauses: {paused}"), remedy);
    }
    // Notes: they come and go with the network, and nothing in the directory is wrong.
    if !status.connected {
        let tor = status.tor.as_ref().map_or_else(String::new, |tor| format!("; tor: {tor}"));
        let remedy = "chatterboxd tries it again by itself. The network, the server, its address (`chatterbox profile set \
                      --server`) and the dialer (chatterbox.toml) are what it depends on.";
        checkup.note("connection", path, format!("{}{tor}", status.connection), remedy);
    }
    for (name, reason) in &status.troubled {
        let problem = format!("messages to {name} wait: {reason}");
        checkup.note("trouble", path, problem, "chatterboxd tries it again by itself.");
    }
    for (file, reason) in &status.waiting {
        let path = Path::new(file);
        checkup.note("waiting", path, reason.as_str(), "chatterboxd tries it again by itself.");
    }
    // What it refuses in the outbox and in settings was found by the `.error` files.
    status.hooks.iter().for_each(|(hook, reason)| say_hook(checkup, hook, reason));
    status.dropboxes.iter().for_each(|(name, state)| say_dropbox(checkup, name, state));
}

/// A hook that is run and does not end well, or too seldom. One that is not run was found where it stands.
fn say_hook(checkup: &mut Checkup<'_>, hook: &str, reason: &str) {
    let path = Path::new(hook_file::DIRECTORY).join(hook);
    if checkup.findings.has("hook", &path) {
        return;
    }
    let remedy = match reason.contains("too many waited") {
        true => "Make it quicker, or let it start what takes long and end.",
        false => {
            "Mend the program, or run it by hand to see what it says; it is run again when the next thing happens."
        }
    };
    checkup.warning("hook", &path, reason, remedy);
}

/// What a dropbox holds back. Settings or a directory that are wrong were found where they stand.
fn say_dropbox(checkup: &mut Checkup<'_>, name: &str, state: &str) {
    // Under this name where its settings can be read, and else under that of the whole file.
    let file = Path::new(dropbox::DIRECTORY).join(OsString::from_vec(name::unescape(name)));
    let mut settings = file.clone().into_os_string();
    settings.push(dropbox::SUFFIX);
    let settings = PathBuf::from(settings);
    if [&file, &settings].iter().any(|path| checkup.findings.has_error("dropbox", path)) {
        return;
    }
    if let Some(problem) = state.strip_prefix("nothing is taken: ") {
        let text = error_file::read(checkup.root, &error_file::beside(&checkup.root.join(&settings)));
        let said = text.map(|text| causes::behind_a_colon(&text));
        let (problem, remedy) = said.unwrap_or_else(|| (problem.to_owned(), "Mend it there.".to_owned()));
        return checkup.error("dropbox", &settings, format!("nothing is taken: {problem}"), &remedy);
    }
    for part in state.split("; ") {
        let remedy = match part {
            _ if part.ends_with(" refused") => {
                "NAME.error beside each, or of many beside some, in the directory of the dropbox, says what is wrong with it."
            }
            _ if part.ends_with(" of other users ignored") => {
                "Only files of the user that `uid` names are sent: remove the others, or correct that."
            }
            _ if part.ends_with(" ignored") => {
                "They are drafts by their names: whoever put them there renames or removes them."
            }
            _ if part.ends_with(" while empty") => {
                "chatterboxd takes them by itself once something is in them; after a minute it refuses them until then."
            }
            _ if part.ends_with(" for room on the disk") => "Make room; chatterboxd takes them by itself then.",
            _ => "chatterboxd takes them by itself.",
        };
        let problem = format!("files in its directory: {part}");
        match part.ends_with(" refused") {
            true => checkup.warning("dropbox", &settings, problem, remedy),
            false => checkup.note("dropbox", &settings, problem, remedy),
        }
    }
}
