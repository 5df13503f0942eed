//! `status`: what the daemon says of itself, one `name: value` a line (design, section 2).

use std::fmt;

/// The file's content. Written by the daemon, read by people and by `chatterbox status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the daemon ran when it wrote the file.
    pub running: bool,
    /// Why it ended although nobody asked it to, or could not start.
    pub ended: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// Our own name and fingerprint.
    pub account: String,
    /// How connections are opened.
    pub dialer: String,
    /// How far Tor in the daemon is, and what is in its way; none with another dialer.
    pub tor: Option<String>,
    /// Whether the home connection stands.
    pub connected: bool,
    /// The home connection in words.
    pub connection: String,
    /// What is under way because state was lost, here or elsewhere.
    pub recovery: Option<String>,
    /// The schedule by which envelopes leave; none where they leave when there are any.
    pub schedule: Option<String>,
    /// Messages that wait, counted once for each recipient.
    pub queue: usize,
    /// Recipients whose server does not answer or refuses: name, and why.
    pub troubled: Vec<(String, String)>,
    /// Large messages on their way: each with its recipient and how far it is.
    pub sending: Vec<String>,
    /// One-time prekeys at the server, if it said so.
    pub prekeys: Option<u32>,
    /// Outbox files that wait, and for what.
    pub waiting: Vec<(String, String)>,
    /// Outbox files and directories with an `.error` beside them.
    pub refused: Vec<String>,
    /// Dropboxes of which there is something to say, and what.
    pub dropboxes: Vec<(String, String)>,
    /// Outbox files that are ignored by their names.
    pub ignored: usize,
    /// Hooks that are not run, were not, or ended badly: which, and why.
    pub hooks: Vec<(String, String)>,
    /// Large contents that arrive in parts, and how far they are.
    pub receiving: Vec<String>,
    /// Why work pauses, if it does.
    pub paused: Option<String>,
}

impl Status {
    /// Parses the file; lines that this version does not know are passed over.
    pub fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
            let pair = || value.split_once(": ").unwrap_or((value, ""));
            let owned = |(left, right): (&str, &str)| (left.to_owned(), right.to_owned());
            match name {
                "daemon" => status.running = value == "running",
                "ended" => status.ended = Some(value.to_owned()),
                "pid" => status.pid = value.parse().unwrap_or(0),
                "account" => status.account = value.to_owned(),
                "dialer" => status.dialer = value.to_owned(),
                "tor" => status.tor = Some(value.to_owned()),
                "connection" => {
                    status.connected = value.starts_with("connected");
                    status.connection = value.to_owned();
                }
                "recovery" => status.recovery = Some(value.to_owned()),
                // What waits stands in a line of its own as well.
                "schedule" => {
                    status.schedule = Some(value.rsplit_once("; ").map_or(value, |(schedule, _)| schedule).to_owned());
                }
                "queue" => status.queue = value.parse().unwrap_or(0),
                "trouble" => status.troubled.push(owned(pair())),
                "sending" => status.sending.push(value.to_owned()),
                "prekeys" => status.prekeys = value.parse().ok(),
                "waiting" => status.waiting.push(owned(pair())),
                "dropbox" => status.dropboxes.push(owned(pair())),
                "refused" => status.refused.push(value.to_owned()),
                "hook" => status.hooks.push(owned(pair())),
                "ignored" => status.ignored = value.parse().unwrap_or(0),
                "receiving" => status.receiving.push(value.to_owned()),
                "paused" => status.paused = Some(value.to_owned()),
                _ => {}
            }
        }
        status
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "daemon: {}", if self.running { "running" } else { "stopped" })?;
        if let Some(ended) = &self.ended {
            writeln!(formatter, "ended: {}", one_line(ended))?;
        }
        writeln!(formatter, "pid: {}", self.pid)?;
        // A daemon that cannot start may know neither.
        if !self.account.is_empty() {
            writeln!(formatter, "account: {}", self.account)?;
        }
        if !self.dialer.is_empty() {
            writeln!(formatter, "dialer: {}", self.dialer)?;
        }
        if let Some(tor) = &self.tor {
            writeln!(formatter, "tor: {}", one_line(tor))?;
        }
        writeln!(formatter, "connection: {}", self.connection)?;
        if let Some(recovery) = &self.recovery {
            writeln!(formatter, "recovery: {}", one_line(recovery))?;
        }
        if let Some(schedule) = &self.schedule {
            writeln!(formatter, "schedule: {}; {} wait", one_line(schedule), self.queue)?;
        }
        writeln!(formatter, "queue: {}", self.queue)?;
        if let Some(prekeys) = self.prekeys {
            writeln!(formatter, "prekeys: {prekeys}")?;
        }
        writeln!(formatter, "ignored: {}", self.ignored)?;
        for content in &self.receiving {
            writeln!(formatter, "receiving: {}", one_line(content))?;
        }
        if let Some(paused) = &self.paused {
            writeln!(formatter, "paused: {}", one_line(paused))?;
        }
        for (name, reason) in &self.troubled {
            writeln!(formatter, "trouble: {name}: {}", one_line(reason))?;
        }
        for line in &self.sending {
            writeln!(formatter, "sending: {}", one_line(line))?;
        }
        for (path, reason) in &self.waiting {
            writeln!(formatter, "waiting: {path}: {}", one_line(reason))?;
        }
        for (name, text) in &self.dropboxes {
            writeln!(formatter, "dropbox: {name}: {}", one_line(text))?;
        }
        for path in &self.refused {
            writeln!(formatter, "refused: {path}")?;
        }
        for (hook, reason) in &self.hooks {
            writeln!(formatter, "hook: {hook}: {}", one_line(reason))?;
        }
        Ok(())
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_back_as_written() {
        let status = Status {
            running: true,
            ended: Some("a state file is damaged".into()),
            pid: 7,
            account: "alice 00ff".into(),
            dialer: "tor".into(),
            tor: Some("45%: connecting".into()),
            connected: true,
            connection: "connected to 127.0.0.1:1984".into(),
            recovery: Some("2 people are still to be told".into()),
            schedule: Some("poisson, one envelope each 30s on average".into()),
            queue: 3,
            troubled: vec![("bob".into(), "connecting: refused".into())],
            sending: vec!["conversations/x/y to bob: 45% of 64.0 MiB".into()],
            prekeys: Some(100),
            waiting: vec![("outbox/bob/x".into(), "open for writing".into())],
            refused: vec!["outbox/bob/y".into()],
            dropboxes: vec![("alerts".into(), "2 wait".into())],
            ignored: 2,
            hooks: vec![("on-message".into(), "It is not executable. Make it so.".into())],
            receiving: vec!["from bob: 12% of 64.0 MiB (plan.pdf)".into()],
            paused: Some("disk full".into()),
        };
        assert_eq!(Status::parse(&status.to_string()), status);
    }
}
