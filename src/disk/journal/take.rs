//! `Take`: a file whose bytes are in the journal leaves the outbox, unless it is not the file that was read.
//!
//! The file is moved first and compared then: between a comparison and an unlink somebody could put another file under
//! the name, and it would be destroyed unread. What differs (replaced, or written since) goes back under its name, or a
//! numbered one, so that its whole content becomes a new message.
//!
//! A file that somebody has open for writing by now stays under its scratch name, *unsettled*, until he is done, and is
//! compared then: a writer whom our lease held back has resolved the name already, and would write into a removed file;
//! and one who closes it unchanged must not send it twice. The checkpoint carries what is unsettled into the next log.
//! The last gap is a writer who comes between that look and the unlink. He breaks our lease, which is seen afterwards;
//! the open file is then kept until he is done, and copied out if he wrote.
//!
//! A file whose directory does not let go of it, because somebody has made that read-only since, stays under its name, unsettled
//! as well, and goes once it can; until then the engine passes it over. What is written into it meanwhile is a new message.
//!
//! The file is looked for in the directory that it was read in, wherever that is now, and there under whatever name it
//! has now: both may have been renamed since. A file moved elsewhere is another message.
//!
//! A crash leaves the file under its name, under the scratch name, or gone: each says what remains to be done, on any
//! boot. After a power failure a file can come back with blocks missing that nobody had synced; such remains hold
//! nothing that the journal does not, and go too. A file too large for the journal is synced before its record, so that it
//! comes back whole or not at all.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::apply::{Mode, in_directory};
use super::place::{self, move_new};
use crate::crypto::hash::sha256 as hash;
use crate::disk::atomic;
use crate::disk::lease::LeaseRefused;
use crate::disk::open::{OpenError, RegularFile};
use crate::disk::system::{Disk, Kind, Stat};
use crate::limits::{CONTENT_BYTES_MAX, TAKE_HASHED_BYTES_MAX, TAKE_TRIES_MAX};
use crate::wire::journal::{DirectoryIdentity, FileIdentity, Step};

/// A `Take` step.
#[derive(Clone, Debug)]
pub(super) struct Take {
    pub(super) path: PathBuf,
    pub(super) scratch: PathBuf,
    pub(super) identity: FileIdentity,
    pub(super) sha256: [u8; 32],
    pub(super) directory: Option<DirectoryIdentity>,
    pub(super) only_link: bool,
}

/// Takes files, and remembers those that are not settled.
pub(super) struct Taking {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    unsettled: Vec<Unsettled>,
    /// During a replay after a power failure: the recorded contents, by hash.
    contents: HashMap<[u8; 32], Zeroizing<Vec<u8>>>,
    /// During a replay: directories, each read once. Most of what is looked for there was taken long ago.
    listings: HashMap<PathBuf, HashMap<u64, OsString>>,
}

/// A file that could not go when it was to.
struct Unsettled {
    take: Take,
    mode: Mode,
    why: Why,
}

/// Why it could not.
enum Why {
    /// Somebody had it open for writing.
    Written,
    /// Its directory does not let go of it: somebody has made it read-only, or a mount of it.
    Held,
    /// It was unlinked in the very moment that somebody opened it: what he writes is found only here.
    Removed(RegularFile),
}

/// What is known of the file under the scratch name.
enum Settled {
    /// There is none.
    Absent,
    /// It is unlinked, or back under its name.
    Done,
    /// Somebody has it open for writing.
    Busy,
    /// It stands under its name, and cannot be moved.
    Held,
    /// It is unlinked, and somebody waits to write into it.
    Removed(RegularFile),
}

impl Taking {
    pub(super) fn new(disk: Arc<dyn Disk>, root: &Path) -> Self {
        let (contents, listings) = (HashMap::new(), HashMap::new());
        Self { disk, root: root.to_owned(), unsettled: Vec::new(), contents, listings }
    }

    /// What a replay after a power failure may find the remains of.
    pub(super) fn expect(&mut self, contents: HashMap<[u8; 32], Zeroizing<Vec<u8>>>) {
        self.contents = contents;
    }

    /// The replay is over.
    pub(super) fn replayed(&mut self) {
        // What is not settled is compared later.
        let needed: HashSet<[u8; 32]> = self.unsettled.iter().map(|unsettled| unsettled.take.sha256).collect();
        self.contents.retain(|sha256, _| needed.contains(sha256));
        self.listings.clear();
    }

    /// Names were changed since they were read.
    pub(super) fn forget_listings(&mut self) {
        self.listings.clear();
    }

    pub(super) fn take(&mut self, take: Take, mode: Mode) -> io::Result<()> {
        self.take_with(take, mode, || {})
    }

    /// `meanwhile` runs between looking at the file and moving it, where a test replaces it.
    fn take_with(&mut self, take: Take, mode: Mode, meanwhile: impl Fn()) -> io::Result<()> {
        match self.settle(&take, mode)? {
            Settled::Absent => {}
            settled => {
                self.note(take, mode, settled);
                return Ok(());
            }
        }
        let settled = self.move_away(&take, mode, meanwhile)?;
        if matches!(settled, Settled::Held) {
            // Once: it is tried again each second.
            tracing::warn!("an outbox file that is sent cannot be moved out of its directory now");
        }
        self.note(take, mode, settled);
        Ok(())
    }

    /// Moves a file that stands under its name, and decides about it. Where its directory does not let go of it, it stays there and
    /// is not settled: nothing else is held up by it.
    fn move_away(&mut self, take: &Take, mode: Mode, meanwhile: impl Fn()) -> io::Result<Settled> {
        let scratch = self.root.join(&take.scratch);
        for _ in 0..TAKE_TRIES_MAX {
            let found = match self.locate(take, mode) {
                Err(error) if atomic::is_in_the_way(&error) => return Ok(Settled::Held),
                found => found?,
            };
            let Some(found) = found else { return Ok(Settled::Absent) };
            meanwhile();
            let moved = in_directory(&*self.disk, &self.root, &scratch, || self.disk.rename_new(&found, &scratch));
            match moved {
                Ok(()) => return self.settle(take, mode),
                // It, or its directory, was renamed since: another look.
                Err(error) if atomic::is_absent(&error) => {}
                Err(error) if atomic::is_in_the_way(&error) => return Ok(Settled::Held),
                Err(error) => return Err(error),
            }
        }
        Ok(Settled::Absent)
    }

    fn note(&mut self, take: Take, mode: Mode, settled: Settled) {
        match settled {
            Settled::Absent | Settled::Done => {}
            Settled::Busy => self.unsettled.push(Unsettled { take, mode, why: Why::Written }),
            Settled::Held => self.unsettled.push(Unsettled { take, mode, why: Why::Held }),
            Settled::Removed(file) => self.unsettled.push(Unsettled { take, mode, why: Why::Removed(file) }),
        }
    }

    /// Looks again at what is not settled.
    ///
    /// # Errors
    /// What the disk said; nothing is forgotten by it.
    pub(super) fn settle_all(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for Unsettled { take, mode, why } in std::mem::take(&mut self.unsettled) {
            let settled = match &why {
                Why::Written => self.settle(&take, mode),
                Why::Held => self.take_held(&take, mode),
                Why::Removed(file) => {
                    self.rescue(&take, file).map(|done| if done { Settled::Done } else { Settled::Busy })
                }
            };
            match settled {
                Ok(Settled::Busy) if !matches!(why, Why::Held) => self.unsettled.push(Unsettled { take, mode, why }),
                Ok(settled) => self.note(take, mode, settled),
                Err(error) => {
                    self.unsettled.push(Unsettled { take, mode, why });
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Moves a file that its directory did not let go, once it does.
    fn take_held(&mut self, take: &Take, mode: Mode) -> io::Result<Settled> {
        // Long ago is what a replay has read.
        self.listings.clear();
        match self.settle(take, mode)? {
            Settled::Absent => self.move_away(take, mode, || {}),
            settled => Ok(settled),
        }
    }

    /// Where the files were taken from that wait for their writers.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = &Path> {
        let waiting = self.unsettled.iter().filter(|unsettled| !matches!(unsettled.why, Why::Held));
        waiting.map(|unsettled| unsettled.take.path.as_path())
    }

    /// The files that stand where they stood, because their directories do not let go of them.
    pub(super) fn untaken(&self) -> impl Iterator<Item = (PathBuf, FileIdentity)> {
        let held = self.unsettled.iter().filter(|unsettled| matches!(unsettled.why, Why::Held));
        held.map(|unsettled| (unsettled.take.path.clone(), unsettled.take.identity))
    }

    /// What the next log must begin with: what is not settled and has a name.
    pub(super) fn carried(&self) -> Vec<Step> {
        let named = self.unsettled.iter().filter(|unsettled| !matches!(unsettled.why, Why::Removed(_)));
        named
            .map(|Unsettled { take, .. }| Step::Take {
                path: take.path.clone(),
                scratch: take.scratch.clone(),
                identity: take.identity,
                sha256: take.sha256,
                directory: take.directory,
                only_link: take.only_link,
            })
            .collect()
    }

    /// Where the file stands now, if it is worth moving.
    fn locate(&mut self, take: &Take, mode: Mode) -> io::Result<Option<PathBuf>> {
        let Some(directory) = self.directory(take, mode)? else { return Ok(None) };
        let mut path = directory.join(take.path.file_name().unwrap_or_default());
        let mut found = self.stat(&path)?;
        if !found.as_ref().is_some_and(|found| self.is_the_file(take, found, mode)) {
            if !take.only_link {
                // What has another name is another message.
                return Ok(None);
            }
            let Some(name) = self.name_of(&directory, take.identity.inode, mode)? else { return Ok(None) };
            path = directory.join(name);
            found = self.stat(&path)?;
        }
        let found = found.filter(|found| self.is_the_file(take, found, mode));
        // Written since: it is a new message where it stands, and is not moved about without need.
        let found = found.filter(|found| mode == Mode::OtherBoot || found.identity() == take.identity);
        Ok(found.map(|_| path))
    }

    /// The directory that the file was read in, where it stands now.
    fn directory(&mut self, take: &Take, mode: Mode) -> io::Result<Option<PathBuf>> {
        match &take.directory {
            None => Ok(Some(self.root.join(atomic::parent(&take.path)))),
            Some(identity) => self.find_directory(&take.path, identity, mode),
        }
    }

    /// The directory in which `path` (relative to the root) was, where it stands now.
    pub(super) fn find_directory(
        &mut self,
        path: &Path,
        identity: &DirectoryIdentity,
        mode: Mode,
    ) -> io::Result<Option<PathBuf>> {
        let recorded = self.root.join(atomic::parent(path));
        let is_it = |found: &Stat| (found.inode, found.born_ns) == (identity.inode, identity.born_ns);
        if self.stat(&recorded)?.as_ref().is_some_and(is_it) {
            return Ok(Some(recorded));
        }
        let above = atomic::parent(&recorded).to_owned();
        let Some(name) = self.name_of(&above, identity.inode, mode)? else { return Ok(None) };
        let path = above.join(name);
        Ok(self.stat(&path)?.as_ref().is_some_and(is_it).then_some(path))
    }

    /// The name of an inode in a directory.
    fn name_of(&mut self, directory: &Path, inode: u64, mode: Mode) -> io::Result<Option<OsString>> {
        if mode == Mode::Live {
            self.listings.clear();
        }
        if !self.listings.contains_key(directory) {
            let entries = match self.disk.entries(directory) {
                Err(error) if atomic::is_absent(&error) => Vec::new(),
                result => result?,
            };
            let names = entries.into_iter().filter(|entry| matches!(entry.kind, Kind::File | Kind::Directory));
            self.listings.insert(directory.to_owned(), names.map(|entry| (entry.inode, entry.name)).collect());
        }
        Ok(self.listings.get(directory).and_then(|names| names.get(&inode)).cloned())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.disk.stat(path) {
            Err(error) if atomic::is_absent(&error) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Whether this is the file that was read, as it may have changed meanwhile.
    fn is_the_file(&self, take: &Take, found: &Stat, mode: Mode) -> bool {
        // What was taken lay on the root's filesystem, whose number the next boot may have chosen anew.
        let device = match mode {
            Mode::OtherBoot => self.disk.stat(&self.root).map_or(found.device, |root| root.device),
            Mode::Live | Mode::SameBoot => take.identity.device,
        };
        let recorded = (device, take.identity.inode, take.identity.born_ns);
        found.kind == Kind::File && (found.device, found.inode, found.born_ns) == recorded
    }

    /// Decides about the file under the scratch name.
    fn settle(&self, take: &Take, mode: Mode) -> io::Result<Settled> {
        let scratch = self.root.join(&take.scratch);
        let file = match RegularFile::open(&*self.disk, &scratch) {
            Ok(file) => file,
            Err(OpenError::Absent) => return Ok(Settled::Absent),
            Err(OpenError::Io(error)) => return Err(error),
            // A link or a directory took its place before it was moved.
            Err(_) => return self.give_back(take, mode),
        };
        // Where there are no leases, comparing is all that can be done.
        let leased = match file.take_lease() {
            Ok(()) => true,
            Err(LeaseRefused::Busy) => return Ok(Settled::Busy),
            Err(_) => false,
        };
        if !self.has_nothing_new(take, &file, mode)? {
            return self.give_back(take, mode);
        }
        if leased && !file.is_leased() {
            return Ok(Settled::Busy);
        }
        self.disk.unlink(&scratch)?;
        if leased && !file.is_leased() {
            file.give_lease_back();
            return Ok(Settled::Removed(file));
        }
        Ok(Settled::Done)
    }

    /// Whether all that the file holds is in the journal.
    fn has_nothing_new(&self, take: &Take, file: &RegularFile, mode: Mode) -> io::Result<bool> {
        let found = file.stat()?;
        if !self.is_the_file(take, &found, mode) || found.size > take.identity.size {
            return Ok(false);
        }
        let same_times = found.modified_ns == take.identity.modified_ns && found.size == take.identity.size;
        // What a person writes after the power came back is newer than the record.
        let is_old = found.born_ns.is_some() && found.modified_ns <= take.identity.modified_ns;
        if take.identity.size > CONTENT_BYTES_MAX as u64 {
            // Synced before it was recorded: none of it is lost, at most the time of its last write.
            let is_it = same_times || (mode == Mode::OtherBoot && is_old && found.size == take.identity.size);
            return Ok(is_it && self.has_content(take, file)?);
        }
        let content = match file.read(take.identity.size) {
            Ok(content) => content,
            Err(OpenError::Io(error)) => return Err(error),
            Err(_) => return Ok(false),
        };
        if same_times && hash(&[&content]) == take.sha256 {
            return Ok(true);
        }
        let recorded = self.contents.get(&take.sha256).filter(|_| is_old);
        Ok(recorded.is_some_and(|recorded| place::is_remains(&content, recorded)))
    }

    /// Whether the content of a large file is what was recorded. Of a very large one the times are believed: nobody could
    /// write into it while it was copied under its lease, and reading all of it would hold everything up.
    fn has_content(&self, take: &Take, file: &RegularFile) -> io::Result<bool> {
        if take.identity.size > TAKE_HASHED_BYTES_MAX {
            return Ok(true);
        }
        match file.hash(take.identity.size) {
            Ok(sha256) => Ok(sha256 == take.sha256),
            Err(OpenError::Io(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Gives a file back its name. Where that cannot be done, because its directory is a file by now or takes nothing, it
    /// stays as it is and is not settled: nothing else is held up by it.
    fn give_back(&self, take: &Take, mode: Mode) -> io::Result<Settled> {
        match self.put_back(take, mode) {
            Ok(()) => Ok(Settled::Done),
            Err(error) if atomic::is_disk_trouble(&error) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "an outbox file that was written to cannot be put back now");
                Ok(Settled::Busy)
            }
        }
    }

    fn put_back(&self, take: &Take, mode: Mode) -> io::Result<()> {
        let directory = match take.directory {
            // No listing is kept here: what goes back is a matter of now.
            Some(_) => Self::new(self.disk.clone(), &self.root).directory(take, mode)?,
            None => None,
        };
        let directory = directory.unwrap_or_else(|| self.root.join(atomic::parent(&take.path)));
        let path = directory.join(take.path.file_name().unwrap_or_default());
        move_new(&*self.disk, &self.root, &path, &self.root.join(&take.scratch))
    }

    /// What was written into a file after it was unlinked becomes a file again. True when its writer is done.
    fn rescue(&self, take: &Take, file: &RegularFile) -> io::Result<bool> {
        if matches!(file.take_lease(), Err(LeaseRefused::Busy)) {
            return Ok(false);
        }
        if !self.has_nothing_new(take, file, Mode::Live)? {
            let scratch = self.root.join(&take.scratch);
            atomic::remove(&*self.disk, &scratch)?;
            let copy = in_directory(&*self.disk, &self.root, &scratch, || self.disk.create_new(&scratch))?;
            file.copy_to(&*copy)?;
            self.put_back(take, Mode::Live)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
