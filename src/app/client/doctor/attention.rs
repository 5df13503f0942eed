//! What waits for a person: alerts, requests, and what the daemon says of itself.

use std::path::Path;

use super::checkup::{Checkup, Daemon};
use crate::client::status::Status;
use crate::limits::STATE_FILE_BYTES_MAX;

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
}
