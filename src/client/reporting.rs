//! What a person hears of the engine: `status`, and the alert about envelopes that were given up.

use std::path::Path;

use super::alerts;
use super::engine::Engine;
use super::parts::accepted_bytes;
use super::progress;
use super::root::CANCEL_DIRECTORY;
use super::status::Status;
use crate::clock::Timestamp;
use crate::limits::STATUS_LINES_MAX;

impl Engine {
    pub(super) fn alert_given_up(&mut self, count: usize, now: Timestamp) {
        if count > 0 {
            let text = format!(
                "{count} envelopes could not be opened by any session and were given up.\n\
                 If somebody says that you did not get their message, ask them to send it again."
            );
            alerts::raise(&self.root, &mut self.pending, now, "unopened", "", &text);
        }
    }

    /// What `status` says. `unsettled` are outbox files that are sent and wait for their writers.
    pub fn status<'a>(&self, paused: Option<String>, unsettled: impl Iterator<Item = &'a Path>) -> Status {
        let own = self.account.profile.profile();
        let escape = |path: &Path| match path.strip_prefix(CANCEL_DIRECTORY) {
            // A directory of ours, whatever its name begins with.
            Ok(name) => format!("{CANCEL_DIRECTORY}/{}", crate::name::shown_path(name)),
            Err(_) => crate::name::shown_path(path),
        };
        let server = own.server.host_port();
        Status {
            running: true,
            ended: None,
            pid: std::process::id(),
            account: format!("{} {}", own.name, own.identity.fingerprint()),
            dialer: String::new(),
            tor: self.tor.clone(),
            connected: self.connection.is_ok(),
            connection: match &self.connection {
                Ok(()) => format!("connected to {server}"),
                Err(reason) => reason.clone(),
            },
            recovery: self.recovery.status(|peer| self.people.name(peer)),
            // What writes the file knows it.
            schedule: None,
            queue: self.spool.len_without_parts()
                + self.large.iter().map(|record| record.recipients.len()).sum::<usize>(),
            troubled: self
                .trouble
                .iter()
                .take(STATUS_LINES_MAX)
                .map(|(fingerprint, reason)| (self.people.name(fingerprint), reason.clone()))
                .collect(),
            sending: self.sending().take(STATUS_LINES_MAX).collect(),
            prekeys: self.prekeys_at_server.map(|count| count.one_time),
            waiting: self
                .outbox
                .waiting()
                .chain(unsettled.map(|path| {
                    (path, "it is sent, and another program has it open for writing, or it cannot be put back")
                }))
                .take(STATUS_LINES_MAX)
                .map(|(path, reason)| (escape(path), reason.to_owned()))
                .collect(),
            refused: self.outbox.refused().take(STATUS_LINES_MAX).map(escape).collect(),
            ignored: self.outbox.ignored(),
            hooks: self
                .hooks
                .refused()
                .map(|(hook, text)| (hook, text.to_owned()))
                .chain(self.hooks.failed())
                .map(|(hook, text)| (hook.file_name().to_owned(), text))
                .collect(),
            receiving: self
                .parts_left
                .status()
                .into_iter()
                .chain(self.arriving.status(|author| self.people.name(author)))
                .take(STATUS_LINES_MAX)
                .collect(),
            dropboxes: self.dropboxes.status().take(STATUS_LINES_MAX).collect(),
            paused: paused.or_else(|| self.odd_place()),
        }
    }

    /// Large messages on their way, a line for each recipient.
    fn sending(&self) -> impl Iterator<Item = String> {
        let all = self.large.iter().flat_map(|record| record.recipients.iter().map(move |known| (record, known)));
        all.map(|(record, known)| {
            let under_way = self.spool.parts_of(&known.fingerprint, &record.message);
            let done = accepted_bytes(known.next, under_way, record.size);
            let place = self.conversations.last_place(&record.conversation).unwrap_or_default();
            let name = self.people.name(&known.fingerprint);
            let progress = progress::of_whole(done, record.size);
            format!("conversations/{place}/{} to {name}: {progress}", record.file)
        })
    }
}
