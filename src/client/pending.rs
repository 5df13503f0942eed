//! The transaction that is being put together: everything that the events of one batch change, committed as one record
//! of the journal (design, section 9, rule 2).

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rand_core::OsRng;
use zeroize::Zeroizing;

use super::alerts;
use super::root::{self, CANCEL_DIRECTORY, Root};
use crate::crypto::secret::Secret;
use crate::disk::open::RegularFile;
use crate::disk::system::Stat;
use crate::limits::LARGE_TURN_BYTES;
use crate::wire::journal::{FileIdentity, Step, Transaction};

/// Steps that wait for the commit, and what must be held until then.
#[derive(Debug, Default)]
pub struct Pending {
    steps: Vec<Step>,
    /// Names that the steps will take, which the disk does not show yet.
    reserved: HashSet<PathBuf>,
    /// The outbox files whose bytes are in the steps, open for their leases: a writer waits until the file has left its
    /// name.
    taken: Vec<RegularFile>,
    /// Which they are.
    identities: HashSet<FileIdentity>,
    /// What the steps hold, about.
    bytes: usize,
    /// How much of that are parts of large contents.
    part_bytes: usize,
    /// Alerts that no transaction can take yet.
    pub(super) alerts: alerts::Waiting,
}

impl Pending {
    /// What the steps hold, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much of that are parts of large contents.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// Replaces a state file or a file for programs.
    pub fn put(&mut self, path: PathBuf, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.bytes += bytes.len();
        self.steps.push(Step::Put { path, bytes: Zeroizing::new(bytes), secret: false });
    }

    /// Replaces a state file whose old content must not stay on the disk.
    pub fn put_secret(&mut self, path: PathBuf, bytes: Zeroizing<Vec<u8>>) {
        self.bytes += bytes.len();
        self.steps.push(Step::Put { path, bytes, secret: true });
    }

    /// The same, where nothing may be left to write: a state file is never empty.
    pub fn put_secret_or_erase(&mut self, path: PathBuf, bytes: Zeroizing<Vec<u8>>) {
        match bytes.is_empty() {
            true => self.erase(path),
            false => self.put_secret(path, bytes),
        }
    }

    /// Adds to the end of a state file, whose length so far is `offset`.
    pub fn append(&mut self, path: PathBuf, offset: u64, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.steps.push(Step::Append { path, offset, bytes });
    }

    /// Makes a file appear, whole, under a name that [`Pending::is_free`] found free.
    pub fn place(&mut self, path: PathBuf, bytes: Zeroizing<Vec<u8>>) {
        let scratch = scratch("new");
        self.bytes += bytes.len();
        self.reserved.insert(path.clone());
        self.steps.push(Step::Place { path, scratch, bytes });
    }

    /// Makes a file appear that is synced, and was prepared at `from`, under a name that [`Pending::is_free`] found free.
    pub fn move_in(&mut self, path: PathBuf, from: PathBuf) {
        self.reserved.insert(path.clone());
        self.steps.push(Step::Move { path, from });
    }

    /// Writes a part of a large content at its place in a file of the daemon's own.
    pub fn write_part(&mut self, path: PathBuf, offset: u64, bytes: Zeroizing<Vec<u8>>) {
        self.bytes += bytes.len();
        self.part_bytes += bytes.len();
        self.steps.push(Step::Write { path, offset, bytes });
    }

    /// Forgets parts that are to be written into a file, which is erased instead.
    pub fn forget_parts(&mut self, of: &Path) {
        self.steps.retain(|step| !matches!(step, Step::Write { path, .. } if path == of));
    }

    /// Erases a message that a person may have changed or replaced since it was looked at. If it is large, says where it is to
    /// be overwritten then, a portion at a time.
    pub fn expire(&mut self, path: PathBuf, found: &Stat) -> Option<PathBuf> {
        let is_large = found.size > LARGE_TURN_BYTES;
        let aside = match is_large {
            true => aside(),
            false => scratch("expired"),
        };
        self.steps.push(Step::Expire { path, aside: aside.clone(), identity: found.identity() });
        is_large.then_some(aside)
    }

    /// Makes an outbox file leave, once everything before it is in place.
    pub fn take(&mut self, path: PathBuf, file: RegularFile, stat: &Stat, directory: &Stat, sha256: [u8; 32]) {
        let scratch = scratch("taken");
        self.taken.push(file);
        let directory = Some(directory.directory_identity());
        let (identity, only_link) = (stat.identity(), stat.links == 1);
        self.identities.insert(identity);
        self.steps.push(Step::Take { path, scratch, identity, sha256, directory, only_link });
    }

    /// Whether this transaction takes a file, under whatever name.
    pub fn takes(&self, stat: &Stat) -> bool {
        self.identities.contains(&stat.identity())
    }

    /// Puts a small file of ours into a directory that a person made, and reserves its name.
    pub fn mark(&mut self, path: PathBuf, directory: &Stat, bytes: Vec<u8>) {
        self.reserved.insert(path.clone());
        let directory = directory.directory_identity();
        self.steps.push(Step::Mark { path, directory, bytes });
    }

    /// Makes a directory, and reserves its name.
    pub fn make_directory(&mut self, path: PathBuf) {
        self.reserved.insert(path.clone());
        self.steps.push(Step::MakeDirectory { path });
    }

    /// Overwrites and removes a file that held a secret.
    pub fn erase(&mut self, path: PathBuf) {
        self.steps.push(Step::Erase { path });
    }

    /// Removes a file.
    pub fn remove(&mut self, path: PathBuf) {
        self.steps.push(Step::Remove { path });
    }

    /// Whether no file stands, or is about to stand, under a path relative to the root.
    pub fn is_free(&self, root: &Root, path: &Path) -> bool {
        !self.reserved.contains(path) && !root.is_taken(path)
    }

    /// Whether a step of this transaction makes this path.
    pub fn is_reserved(&self, path: &Path) -> bool {
        self.reserved.contains(path)
    }

    /// The names directly in `directory` that are reserved.
    pub fn reserved_names(&self, directory: &Path) -> impl Iterator<Item = Cow<'_, str>> {
        let inside = self.reserved.iter().filter(move |path| path.parent() == Some(directory));
        inside.filter_map(|path| Some(path.file_name()?.to_string_lossy()))
    }

    /// How many those are.
    pub fn reserved_in(&self, directory: &Path) -> usize {
        self.reserved_names(directory).count()
    }

    /// The transaction. The leases stay held until [`Pending::applied`].
    pub fn take_steps(&mut self) -> Transaction {
        Transaction { steps: std::mem::take(&mut self.steps) }
    }

    /// Everything is in place: lets go of leases and names.
    pub fn applied(&mut self) {
        self.bytes = 0;
        self.part_bytes = 0;
        self.taken.clear();
        self.identities.clear();
        self.reserved.clear();
    }
}

/// A name in the daemon's scratch directory that no other step ever uses: replay reads its presence.
fn scratch(purpose: &str) -> PathBuf {
    root::scratch_file(&format!("{purpose}-{}", random_name()))
}

/// A name for what is overwritten a portion at a time.
pub fn aside() -> PathBuf {
    Path::new("journal/large").join(format!("erased-{}", random_name()))
}

fn random_name() -> String {
    let random: Secret<16> = Secret::random(&mut OsRng);
    HEXLOWER.encode(random.expose())
}

/// Whether a step makes a message or another file for people appear.
pub fn is_place(step: &Step) -> bool {
    matches!(step, Step::Place { .. } | Step::Move { .. })
}

/// The file that a step makes appear for people, if it is such a step.
pub fn placed(step: &Step) -> Option<&Path> {
    match step {
        Step::Place { path, .. } | Step::Move { path, .. } => Some(path),
        _ => None,
    }
}

/// Whether a step makes an outbox file leave.
pub fn is_take(step: &Step) -> bool {
    match step {
        Step::Take { .. } => true,
        // What was asked for there is done, and said, when it goes.
        Step::Remove { path } => path.starts_with(CANCEL_DIRECTORY),
        _ => false,
    }
}
