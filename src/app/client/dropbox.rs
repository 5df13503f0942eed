//! `chatterbox dropbox`: directories into which other users of this machine drop messages.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Subcommand;
use serde::Serialize;

use super::causes;
use super::context::Context;
use super::output::{self, Output};
use crate::app::failure::{Exit, Failure};
use crate::client::dropbox::{self, Dropbox, DropboxFault, Rate, place};
use crate::client::error_file;
use crate::disk::atomic::{self, AtomicError};
use crate::disk::real::RealDisk;
use crate::limits::PARTICIPANTS_MAX;

const ADD_EXAMPLES: &str = "\
Examples:
  chatterbox dropbox add alerts --to bob --uid www-data
  chatterbox dropbox add backup --to bob,carol --uid 34 --rate 5/day

The sender then does, as its own user:
  umask 022; box=/var/tmp/chatterbox-1000/alerts
  echo 'disk full' > $box/.alert.$$ && mv $box/.alert.$$ $box/alert.$$";

const LIST_EXAMPLES: &str = "\
Examples:
  chatterbox dropbox list
  chatterbox dropbox list --json | jq -r '.dropboxes[].directory'";

const REMOVE_EXAMPLES: &str = "\
Example:
  chatterbox dropbox remove alerts";

/// Let another user of this machine send messages, and nothing else: add, list and remove dropboxes.
///
/// A dropbox is a directory outside the account's own, for files of one user: whatever they drop there is sent to the
/// contacts that you chose, by a rate that you chose. They need no program and no account, and learn nothing: not what
/// else lies there, not who gets it, not whether it arrived. The settings are a file, dropboxes/NAME.toml.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct DropboxCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a dropbox: its directory and its settings
    ///
    /// The directory is made with mode 1733: anybody may put files there, nobody can list them, and only those of the
    /// one user are sent. Where something of another user has its place nothing is made.
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// What you call it: letters, digits, - and _
        name: String,
        /// The contacts that get every message, separated by commas
        #[arg(long, value_name = "CONTACTS", value_delimiter = ',', required = true)]
        to: Vec<String>,
        /// The user whose files are sent: a number, or a name of this system
        #[arg(long, value_name = "USER", value_parser = user)]
        uid: u32,
        /// How many files: N/min, N/hour or N/day [default: 10/min]
        #[arg(long)]
        rate: Option<String>,
        /// The directory [default: /var/tmp/chatterbox-UID/NAME, UID being yours]
        #[arg(long, value_name = "PATH")]
        directory: Option<PathBuf>,
    },
    /// List the dropboxes, and what is wrong with them
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Print JSON (docs/command-line.md lists the fields)
        #[arg(long)]
        json: bool,
    },
    /// Remove a dropbox; files that wait in it stay where they are, and are not sent
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// The dropbox
        name: String,
    },
}

/// A user's number. Names may come from anywhere (files, LDAP, systemd), which the system's own `id` knows.
fn user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("this is no user's number".to_owned());
    }
    let output = Command::new("id").args(["-u", "--", text]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|error| format!("asking `id` for the number: {error}"))?;
    let uid = String::from_utf8_lossy(&output.stdout).trim().parse();
    uid.ok().filter(|_| output.status.success()).ok_or_else(|| "this system knows no user of that name".to_owned())
}

impl DropboxCommand {
    pub(super) fn run(self, context: &Context, output: &mut Output) -> Result<(), Failure> {
        match self.action {
            Action::Add { name, to, uid, rate, directory } => {
                let rate = rate.map_or(Ok(Rate::default()), |rate| rate.parse());
                add(context, &name, &to, (uid, rate, directory), output)
            }
            Action::List { json } => list(context, json, output),
            Action::Remove { name } => remove(context, &name, output),
        }
    }
}

fn add(
    context: &Context,
    name: &str,
    to: &[String],
    (uid, rate, directory): (u32, Result<Rate, DropboxFault>, Option<PathBuf>),
    output: &mut Output,
) -> Result<(), Failure> {
    let doing = format!("adding dropbox {}", output::safe(name));
    let usage = |fault: DropboxFault| causes::two_sentences(Exit::Usage, &*doing, &fault);
    dropbox::check_name(name).map_err(|_| {
        let cause = "a dropbox's name is made of letters, digits, - and _";
        Failure::new(Exit::Usage, &*doing, cause, "Choose another name.")
    })?;
    let contacts = context.contacts(&doing, to)?;
    if contacts.len() >= PARTICIPANTS_MAX {
        return Err(usage(DropboxFault::Recipients(contacts.len())));
    }
    let ours = rustix::process::geteuid().as_raw();
    let parent = directory.is_none().then(|| dropbox::default_parent(ours));
    let settings = Dropbox {
        name: name.to_owned(),
        to: contacts.iter().map(|contact| contact.name.clone()).collect(),
        uid,
        rate: rate.map_err(usage)?,
        directory: directory.unwrap_or_else(|| dropbox::default_parent(ours).join(name)),
    };
    // As the daemon will read it.
    let settings = Dropbox::parse(name, &settings.render()).map_err(usage)?;
    let file = context.root.join(dropbox::DIRECTORY).join(format!("{name}{}", dropbox::SUFFIX));
    let taken = || {
        let cause = format!("{} is there already", output::shown(&file));
        Failure::new(Exit::CannotCreate, &*doing, cause, "Remove that dropbox first, or choose another name.")
    };
    if fs::symlink_metadata(&file).is_ok() {
        return Err(taken());
    }
    make_directories(&doing, context.root.path(), parent.as_deref(), &settings.directory, ours)?;
    let all = context.root.join(dropbox::DIRECTORY);
    atomic::make_private_directory(&RealDisk, &all).map_err(|error| causes::disk(&*doing, &error))?;
    match atomic::create_new(&RealDisk, &context.scratch(&doing)?, &file, settings.render().as_bytes()) {
        Ok(()) => {}
        Err(AtomicError::AlreadyExists { .. }) => return Err(taken()),
        Err(error) => return Err(causes::disk(doing, &error)),
    }
    if uid == ours {
        output::note("note: this is your own user; outbox/ is the simpler way");
    }
    if let Some(closed) = place::closed_to(&RealDisk, &settings.directory, uid) {
        let (problem, remedy) = causes::behind_a_colon(&closed.to_string());
        output::note(format!("note: {}; {}", output::safe(&problem), output::safe(&remedy)));
    }
    output.text(&format!("added {name}\ndirectory: {}\n", output::shown(&settings.directory)))
}

/// Makes the directory, and the one above it where it is our own choice. What another user may have put in their places is left
/// alone, and refused.
fn make_directories(
    doing: &str,
    root: &Path,
    parent: Option<&Path>,
    directory: &Path,
    ours: u32,
) -> Result<(), Failure> {
    let refused = |fault: &place::PlaceFault| causes::two_sentences(Exit::CannotCreate, doing, fault);
    if let Some(parent) = parent {
        make(parent, place::PARENT_MODE).map_err(|error| failed(doing, parent, &error))?;
        let found = place::check_way(&RealDisk, parent, ours).map_err(|fault| refused(&fault))?;
        if found.owner != ours {
            return Err(refused(&place::PlaceFault::Owner { path: parent.to_owned(), owner: found.owner }));
        }
    }
    let above = directory.parent().unwrap_or(directory);
    place::check_way(&RealDisk, above, ours).map_err(|fault| refused(&fault))?;
    make(directory, place::MODE).map_err(|error| failed(doing, directory, &error))?;
    place::check(&RealDisk, directory, root, ours).map_err(|fault| refused(&fault))?;
    atomic::sync_directory(&RealDisk, above).map_err(|error| causes::disk(doing, &error))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let doing = format!("{doing}: making {}", output::shown(path));
    Failure::io(doing, error, "Name a directory that you may make with --directory.")
}

/// Makes one directory and then gives it its mode, which no umask takes from. What has the name already keeps its mode: whether
/// it is good is checked afterwards.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        result => result?,
    }
    let made: File = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)?;
    if made.metadata()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    made.set_permissions(Permissions::from_mode(mode))
}

#[derive(Debug, Serialize)]
struct Listing {
    dropboxes: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    to: Vec<String>,
    uid: Option<u32>,
    rate: Option<String>,
    directory: Option<String>,
    problem: Option<String>,
}

fn list(context: &Context, json: bool, output: &mut Output) -> Result<(), Failure> {
    let ours = rustix::process::geteuid().as_raw();
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let listed = dropbox::all(&context.root).into_iter().map(|(file, result)| match result {
        Ok(found) => {
            let place = place::check(&RealDisk, &found.directory, context.root.path(), ours);
            let who = || found.to.iter().find_map(|name| context.people.contact(name).err());
            let problem = place.err().map(|fault| fault.to_string()).or_else(|| who().map(|fault| fault.to_string()));
            Listed {
                name: found.name,
                to: found.to,
                uid: Some(found.uid),
                rate: Some(found.rate.to_string()),
                directory: Some(found.directory.to_string_lossy().into_owned()),
                problem: problem.map(first),
            }
        }
        Err(fault) => Listed {
            name: file.to_string_lossy().into_owned(),
            to: Vec::new(),
            uid: None,
            rate: None,
            directory: None,
            problem: Some(first(fault.to_string())),
        },
    });
    let listing = Listing { dropboxes: listed.collect() };
    if json {
        return output.json(&listing);
    }
    if listing.dropboxes.is_empty() {
        output::note("there are no dropboxes; make one with `chatterbox dropbox add`");
        return Ok(());
    }
    let mut rows = vec![["DROPBOX", "TO", "UID", "RATE", "DIRECTORY"].map(str::to_owned).to_vec()];
    for found in &listing.dropboxes {
        if let Some(problem) = &found.problem {
            output::note(format!("note: {}: {}", output::safe(&found.name), output::safe(problem)));
        }
        rows.push(vec![
            output::safe(&found.name).into_owned(),
            output::safe(&found.to.join(", ")).into_owned(),
            found.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
            found.rate.clone().unwrap_or_else(|| "-".to_owned()),
            output::safe(found.directory.as_deref().unwrap_or("-")).into_owned(),
        ]);
    }
    output.text(&output::table(&rows))
}

fn remove(context: &Context, name: &str, output: &mut Output) -> Result<(), Failure> {
    let shown = output::safe(name).into_owned();
    let doing = format!("removing dropbox {shown}");
    let nobody = || Failure::new(Exit::NoInput, &*doing, "there is no such dropbox", "See `chatterbox dropbox list`.");
    let wanted = format!("{name}{}", dropbox::SUFFIX);
    let found = dropbox::all(&context.root).into_iter().find(|(file, _)| *file == *wanted);
    let (_, found) = found.ok_or_else(nobody)?;
    let all = context.root.join(dropbox::DIRECTORY);
    let file = all.join(&wanted);
    fs::remove_file(&file).map_err(|error| Failure::io(&*doing, &error, "Check that dropboxes/ is yours."))?;
    atomic::sync_directory(&RealDisk, &all).map_err(|error| causes::disk(&*doing, &error))?;
    error_file::remove(&context.root, &error_file::beside(&file));
    let ours = rustix::process::geteuid().as_raw();
    if let Ok(found) = found
        && place::check(&RealDisk, &found.directory, context.root.path(), ours).is_ok()
        && fs::remove_dir(&found.directory).is_err()
    {
        // What is in it may be somebody's only copy.
        output::note(format!(
            "note: {} is not empty and stays, and what is in it is not sent; rm -r removes it",
            output::shown(&found.directory)
        ));
    }
    output.text(&format!("removed {shown}\n"))
}
