//! Outbox directories, as `new` and `send` find or make them (design, section 2, "Sending").

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::causes;
use super::context::Context;
use super::conversations::{self, Directory};
use super::output;
use crate::app::failure::{Exit, Failure};
use crate::client::contacts::Contact;
use crate::client::metadata::{self, Metadata};
use crate::disk::real::RealDisk;
use crate::disk::{atomic, open};
use crate::limits::{METADATA_FILE_BYTES_MAX, PARTICIPANTS_MAX, SUBJECT_BYTES_MAX};
use crate::name;
use crate::name::NAME_TRIES_MAX;
use crate::wire::identity::Fingerprint;

/// A conversation that somebody names on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct Addressed {
    /// Use or open the conversation with this subject; without it, the one that has none
    #[arg(short, long)]
    subject: Option<String>,
    /// Contacts, as `chatterbox contact list` names them, or one conversation, as `chatterbox list` does
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

/// Whom a message goes to: checked, nothing made yet.
#[derive(Debug)]
pub(super) struct Addressees<'a> {
    context: &'a Context,
    contacts: Vec<&'a Contact>,
    subject: String,
    /// The outbox directory of a conversation that was named itself.
    standing: Option<PathBuf>,
}

impl Addressed {
    /// Checks the names and the subject.
    pub(super) fn resolve<'a>(&self, doing: &str, context: &'a Context) -> Result<Addressees<'a>, Failure> {
        let contacts = match context.contacts(doing, &self.names) {
            Ok(contacts) => contacts,
            Err(failure) => {
                let Some(conversation) = self.conversation(context) else { return Err(failure) };
                let name = &conversation.name;
                let Some(directory) = outbox_of(context, &conversation) else {
                    return Err(failure.or(&format!(
                        "If the conversation {} is meant: there is no directory of that name for it in outbox/.",
                        output::safe(name)
                    )));
                };
                if self.subject.is_none() && self.is_name_of(&conversation) {
                    let standing = Some(directory);
                    return Ok(Addressees { context, contacts: Vec::new(), subject: String::new(), standing });
                }
                return Err(failure.or(&format!(
                    "If the conversation is meant: `chatterbox send {}`, or a file in its directory, {}/.",
                    name::shell_word(name),
                    output::safe(&format!("outbox/{name}"))
                )));
            }
        };
        let usage = |cause: String, remedy: &str| Err(Failure::new(Exit::Usage, doing, cause, remedy));
        if contacts.len() >= PARTICIPANTS_MAX {
            let cause = format!("{} participants, you included, are more than {PARTICIPANTS_MAX}", contacts.len() + 1);
            return usage(cause, "Split the conversation.");
        }
        let subject = self.subject.clone().unwrap_or_default();
        if subject.len() > SUBJECT_BYTES_MAX {
            let cause = format!("the subject has {} bytes, {SUBJECT_BYTES_MAX} are allowed", subject.len());
            return usage(cause, "Shorten the subject.");
        }
        if subject.chars().any(char::is_control) {
            return usage("the subject has control characters in it".into(), "Write it on one line, without tabs.");
        }
        Ok(Addressees { context, contacts, subject, standing: None })
    }

    /// The conversation that is meant where not all of the names are contacts': its own name, or that of a conversation with
    /// just these people, as they are called there.
    pub(super) fn conversation(&self, context: &Context) -> Option<Directory> {
        let mut all = conversations::conversations(context).unwrap_or_default();
        let has_these = |directory: &Directory| {
            let others: Vec<String> = directory.others(&context.people).into_iter().map(|(name, _)| name).collect();
            others.len() == self.names.len() && self.names.iter().all(|name| others.contains(name))
        };
        let by_name = all.iter().position(|directory| self.is_name_of(directory));
        let found = by_name.or_else(|| all.iter().position(has_these))?;
        Some(all.swap_remove(found))
    }

    fn is_name_of(&self, directory: &Directory) -> bool {
        matches!(&self.names[..], [name] if name.trim_end_matches('/') == directory.name)
    }
}

/// The directory in the outbox that has a conversation's name, if it means that conversation.
fn outbox_of(context: &Context, conversation: &Directory) -> Option<PathBuf> {
    let id = conversation.described.as_ref()?.id?;
    let directory = context.root.outbox().join(&conversation.name);
    // A link, as in every other case, is not followed.
    let stands = fs::symlink_metadata(&directory).is_ok_and(|found| found.is_dir());
    let text = open::read_text(&RealDisk, &directory.join(metadata::FILE), METADATA_FILE_BYTES_MAX);
    let means_it = |text: String| Metadata::describe(&text).ok()?.id.filter(|meant| *meant == id);
    text.filter(|_| stands).and_then(means_it).map(|_| directory)
}

impl Addressees<'_> {
    /// The outbox directory of the conversation, made if there is none.
    pub(super) fn directory(&self, doing: &str) -> Result<PathBuf, Failure> {
        if let Some(standing) = &self.standing {
            return Ok(standing.clone());
        }
        let outbox = self.context.root.outbox();
        atomic::make_private_directory(&RealDisk, &outbox).map_err(|error| causes::disk(doing, &error))?;
        if self.subject.is_empty() { self.listed(doing, &outbox) } else { self.with_subject(doing, &outbox) }
    }

    fn names(&self) -> Vec<String> {
        self.contacts.iter().map(|contact| contact.name.clone()).collect()
    }

    /// `outbox/NAME,…`, which always means the same conversation.
    fn listed(&self, doing: &str, outbox: &Path) -> Result<PathBuf, Failure> {
        let directory = self.names().join(",");
        if directory.len() > name::NAME_BYTES_MAX {
            let cause = format!("the names together are longer than {} bytes", name::NAME_BYTES_MAX);
            return Err(Failure::new(Exit::Usage, doing, cause, "Give the conversation a subject with -s SUBJECT."));
        }
        let path = outbox.join(directory);
        atomic::make_private_directory(&RealDisk, &path).map_err(|error| causes::disk(doing, &error))?;
        // chatterboxd does not follow links, so a message behind one would never leave.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Ok(path),
            _ => {
                let cause = format!("{} is no directory", output::shown(&path));
                Err(Failure::new(Exit::CannotCreate, doing, cause, "Move away what has its name."))
            }
        }
    }

    /// The directory whose metadata has this subject and these participants; else a new one, built in scratch with its
    /// metadata, so that the daemon never sees it without.
    fn with_subject(&self, doing: &str, outbox: &Path) -> Result<PathBuf, Failure> {
        let wanted = name::outbox_directory(&self.names(), &self.subject);
        let failed = |error: &io::Error| Failure::io(doing, error, "Check that the directory outbox/ is yours.");
        for number in 1..=NAME_TRIES_MAX {
            // Again before every try: whoever took the name may have opened this very conversation.
            if let Some(found) = self.find(outbox).map_err(|error| failed(&error))? {
                return Ok(found);
            }
            let path = outbox.join(name::numbered_directory(&wanted, number));
            let scratch = self.context.scratch(doing)?;
            let built = tempfile::Builder::new().prefix("new-").tempdir_in(&scratch).map_err(|error| failed(&error))?;
            let text = Metadata::request(&self.names(), &self.subject);
            atomic::create_new(&RealDisk, &scratch, &built.path().join(metadata::FILE), text.as_bytes())
                .map_err(|error| causes::disk(doing, &error))?;
            match rename_directory_new(built.path(), &path) {
                Ok(()) => {
                    // Its scratch name is gone; nothing is to be removed.
                    let _ = built.keep();
                    atomic::sync_directory(&RealDisk, outbox).map_err(|error| causes::disk(doing, &error))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        let cause = format!("{NAME_TRIES_MAX} names like {} are taken", output::safe(&wanted));
        Err(Failure::new(Exit::CannotCreate, doing, cause, "Tidy the directory outbox/ up."))
    }

    fn find(&self, outbox: &Path) -> io::Result<Option<PathBuf>> {
        let mut participants: Vec<Fingerprint> =
            self.contacts.iter().map(|contact| contact.profile.identity().fingerprint()).collect();
        participants.push(self.context.people.own_fingerprint());
        participants.sort_unstable();
        let mut directories: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(outbox)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() && !hidden {
                directories.push(entry.file_name());
            }
        }
        // Names begin with a date where the daemon made them: the oldest of several, and the same one each time.
        directories.sort_unstable();
        let matches = |path: &PathBuf| {
            let bytes = open::read_regular(&RealDisk, &path.join(metadata::FILE), METADATA_FILE_BYTES_MAX).ok()?;
            let metadata = Metadata::parse(std::str::from_utf8(&bytes).ok()?, &self.context.people).ok()?;
            Some(metadata.subject == self.subject && metadata.participants == participants)
        };
        Ok(directories.into_iter().map(|name| outbox.join(name)).find(|path| matches(path) == Some(true)))
    }
}

/// Renames a directory to a free name; `AlreadyExists` if it is taken.
fn rename_directory_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Where a filesystem lacks it: an empty directory of our own holds the name, and a rename replaces only that.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::create_dir(to)?;
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}
