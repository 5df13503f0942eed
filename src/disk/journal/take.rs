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
//! The file is looked for in the directory that it was read in, wherever that is now, and there under whatever name it
//! has now: both may have been renamed since. A file moved elsewhere is another message.
//!
//! A crash leaves the file under its name, under the scratch name, or gone: each says what remains to be done, on any
//! boot. After a power failure a file can come back with blocks missing that nobody had synced; such remains hold
//! nothing that the journal does not, and go too.

use std::collections::HashMap;
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
use crate::limits::TAKE_TRIES_MAX;
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

/// A file that somebody had open for writing when it was to go.
struct Unsettled {
    take: Take,
    mode: Mode,
    /// It was unlinked in the very moment that somebody opened it: what he writes is found only here.
    removed: Option<RegularFile>,
}

/// What is known of the file under the scratch name.
enum Settled {
    /// There is none.
    Absent,
    /// It is unlinked, or back under its name.
    Done,
    /// Somebody has it open for writing.
    Busy,
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
        self.contents.clear();
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
        let scratch = self.root.join(&take.scratch);
        for _ in 0..TAKE_TRIES_MAX {
            let Some(found) = self.locate(&take, mode)? else { return Ok(()) };
            meanwhile();
            let moved = in_directory(&*self.disk, &self.root, &scratch, || self.disk.rename_new(&found, &scratch));
            match moved {
                Ok(()) => {
                    let settled = self.settle(&take, mode)?;
                    self.note(take, mode, settled);
                    return Ok(());
                }
                // It, or its directory, was renamed since: another look.
                Err(error) if atomic::is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn note(&mut self, take: Take, mode: Mode, settled: Settled) {
        match settled {
            Settled::Absent | Settled::Done => {}
            Settled::Busy => self.unsettled.push(Unsettled { take, mode, removed: None }),
            Settled::Removed(file) => self.unsettled.push(Unsettled { take, mode, removed: Some(file) }),
        }
    }

    /// Looks again at what is not settled.
    ///
    /// # Errors
    /// What the disk said; nothing is forgotten by it.
    pub(super) fn settle_all(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for Unsettled { take, mode, removed } in std::mem::take(&mut self.unsettled) {
            let settled = match &removed {
                None => self.settle(&take, mode),
                Some(file) => self.rescue(&take, file).map(|done| if done { Settled::Done } else { Settled::Busy }),
            };
            match settled {
                Ok(Settled::Busy) => self.unsettled.push(Unsettled { take, mode, removed }),
                Ok(settled) => self.note(take, mode, settled),
                Err(error) => {
                    self.unsettled.push(Unsettled { take, mode, removed });
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Where the files that are not settled were taken from.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = &Path> {
        self.unsettled.iter().map(|unsettled| unsettled.take.path.as_path())
    }

    /// What the next log must begin with: what is not settled and has a name.
    pub(super) fn carried(&self) -> Vec<Step> {
        let named = self.unsettled.iter().filter(|unsettled| unsettled.removed.is_none());
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
            Err(_) => return self.put_back(take, mode).map(|()| Settled::Done),
        };
        // Where there are no leases, comparing is all that can be done.
        let leased = match file.take_lease() {
            Ok(()) => true,
            Err(LeaseRefused::Busy) => return Ok(Settled::Busy),
            Err(_) => false,
        };
        if !self.has_nothing_new(take, &file, mode)? {
            return self.put_back(take, mode).map(|()| Settled::Done);
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
        let content = match file.read(take.identity.size) {
            Ok(content) => content,
            Err(OpenError::Io(error)) => return Err(error),
            Err(_) => return Ok(false),
        };
        let same_times = found.modified_ns == take.identity.modified_ns && found.size == take.identity.size;
        if same_times && hash(&[&content]) == take.sha256 {
            return Ok(true);
        }
        // What a person writes after the power came back is newer than the record.
        let is_old = found.born_ns.is_some() && found.modified_ns <= take.identity.modified_ns;
        let recorded = self.contents.get(&take.sha256).filter(|_| is_old);
        Ok(recorded.is_some_and(|recorded| place::is_remains(&content, recorded)))
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
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt as _;
    use tempfile::TempDir;

    struct Outbox {
        root: TempDir,
        path: PathBuf,
        scratch: PathBuf,
        taking: Taking,
        take: Take,
    }

    impl Outbox {
        fn with(content: &[u8]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let directory = root.path().join("outbox/bob");
            fs::create_dir_all(&directory).unwrap();
            let path = directory.join("note.txt");
            fs::write(&path, content).unwrap();
            let there = RealDisk.stat(&directory).unwrap();
            let take = Take {
                path: "outbox/bob/note.txt".into(),
                scratch: "tmp/1".into(),
                identity: RealDisk.stat(&path).unwrap().identity(),
                sha256: hash(&[content]),
                directory: Some(DirectoryIdentity { inode: there.inode, born_ns: there.born_ns }),
                only_link: true,
            };
            let taking = Taking::new(Arc::new(RealDisk), root.path());
            Self { path, scratch: root.path().join("tmp/1"), root, taking, take }
        }

        fn take(&mut self, meanwhile: impl Fn()) {
            self.taking.take_with(self.take.clone(), Mode::Live, meanwhile).unwrap();
            assert_eq!(self.taking.unsettled().count(), 0);
            assert!(!self.scratch.exists());
        }

        fn read(&self) -> String {
            fs::read_to_string(&self.path).unwrap()
        }
    }

    #[test]
    fn the_file_that_was_read_goes_and_taking_it_again_is_fine() {
        let mut outbox = Outbox::with(b"one");
        outbox.take(|| {});
        assert!(!outbox.path.exists());
        outbox.take(|| {});
    }

    #[test]
    fn a_crash_between_move_and_unlink_is_finished() {
        let mut outbox = Outbox::with(b"one");
        fs::create_dir(outbox.scratch.parent().unwrap()).unwrap();
        fs::rename(&outbox.path, &outbox.scratch).unwrap();
        fs::write(&outbox.path, "another").unwrap();
        outbox.take(|| {});
        assert_eq!(outbox.read(), "another");
    }

    #[test]
    fn a_file_replaced_before_or_while_it_is_taken_stays() {
        for before in [true, false] {
            let mut outbox = Outbox::with(b"one");
            let path = outbox.path.clone();
            let replace = || {
                let new = path.with_file_name("new");
                fs::write(&new, "two").unwrap();
                fs::rename(&new, &path).unwrap();
            };
            if before {
                replace();
                outbox.take(|| {});
            } else {
                outbox.take(replace);
            }
            assert_eq!(outbox.read(), "two");
        }
    }

    #[test]
    fn a_file_written_to_since_is_put_back_whole() {
        let mut outbox = Outbox::with(b"one");
        let path = outbox.path.clone();
        outbox.take(|| fs::write(&path, "one and more").unwrap());
        assert_eq!(outbox.read(), "one and more");
    }

    #[test]
    fn a_file_and_its_directory_are_found_under_their_new_names() {
        let mut outbox = Outbox::with(b"one");
        let renamed = outbox.root.path().join("outbox/robert");
        fs::rename(outbox.path.parent().unwrap(), &renamed).unwrap();
        fs::rename(renamed.join("note.txt"), renamed.join("other.txt")).unwrap();
        // Another of the old names.
        fs::create_dir(outbox.path.parent().unwrap()).unwrap();
        fs::write(&outbox.path, "one").unwrap();
        outbox.take(|| {});
        assert_eq!(fs::read_dir(&renamed).unwrap().count(), 0);
        assert_eq!(outbox.read(), "one");
    }

    #[test]
    fn another_link_of_the_file_is_another_message() {
        let mut outbox = Outbox::with(b"one");
        let other = outbox.path.with_file_name("other.txt");
        fs::hard_link(&outbox.path, &other).unwrap();
        outbox.take.only_link = false;
        for _ in 0..2 {
            outbox.take(|| {});
            assert!(!outbox.path.exists() && other.exists());
        }
    }

    #[test]
    fn a_directory_renamed_in_the_very_moment_is_followed() {
        let mut outbox = Outbox::with(b"one");
        let (old, new) = (outbox.root.path().join("outbox/bob"), outbox.root.path().join("outbox/robert"));
        outbox.take(|| {
            let _ = fs::rename(&old, &new);
        });
        assert_eq!(fs::read_dir(&new).unwrap().count(), 0);
        assert!(!old.exists());
    }

    #[test]
    fn a_file_open_for_writing_is_settled_when_that_is_over_whatever_came_of_it() {
        for writes in [false, true] {
            let mut outbox = Outbox::with(b"one");
            let writer = OpenOptions::new().append(true).open(&outbox.path).unwrap();
            outbox.taking.take(outbox.take.clone(), Mode::Live).unwrap();
            assert!(!outbox.path.exists() && outbox.scratch.exists());
            outbox.taking.settle_all().unwrap();
            assert_eq!(outbox.taking.unsettled().collect::<Vec<_>>(), [Path::new("outbox/bob/note.txt")]);
            assert_eq!(outbox.taking.carried().len(), 1);
            if writes {
                io::Write::write_all(&mut &writer, b" and more").unwrap();
            }
            drop(writer);
            outbox.taking.settle_all().unwrap();
            assert_eq!(outbox.taking.unsettled().count(), 0);
            assert!(!outbox.scratch.exists());
            assert_eq!(outbox.path.exists(), writes);
            if writes {
                assert_eq!(outbox.read(), "one and more");
            }
        }
    }

    #[test]
    fn what_is_written_into_a_file_after_it_was_unlinked_is_copied_out() {
        for writes in [false, true] {
            let mut outbox = Outbox::with(b"one");
            let file = RegularFile::open(&RealDisk, &outbox.path).unwrap();
            let writer = OpenOptions::new().append(true).open(&outbox.path).unwrap();
            fs::remove_file(&outbox.path).unwrap();
            outbox.taking.note(outbox.take.clone(), Mode::Live, Settled::Removed(file));
            outbox.taking.settle_all().unwrap();
            assert_eq!(outbox.taking.unsettled().count(), 1);
            assert!(outbox.taking.carried().is_empty());
            if writes {
                io::Write::write_all(&mut &writer, b" and more").unwrap();
            }
            drop(writer);
            outbox.taking.settle_all().unwrap();
            assert_eq!(outbox.path.exists(), writes);
            if writes {
                assert_eq!(outbox.read(), "one and more");
            }
            assert!(outbox.taking.unsettled().count() == 0 && !outbox.scratch.exists());
        }
    }

    #[test]
    fn the_readers_own_lease_is_not_in_the_way_but_a_writer_it_holds_back_is_noticed() {
        for writer_waits in [false, true] {
            let mut outbox = Outbox::with(b"one");
            let file = RegularFile::open(&RealDisk, &outbox.path).unwrap();
            file.take_lease().unwrap();
            if writer_waits {
                let writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&outbox.path);
                assert_eq!(writer.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            }
            outbox.taking.take(outbox.take.clone(), Mode::Live).unwrap();
            assert_eq!(outbox.taking.unsettled().count(), usize::from(writer_waits));
            assert!(!outbox.path.exists());
            drop(file);
            outbox.taking.settle_all().unwrap();
            assert!(outbox.taking.unsettled().count() == 0 && !outbox.scratch.exists());
        }
    }

    #[test]
    fn what_goes_back_finds_its_name_taken_and_gets_a_number() {
        let mut outbox = Outbox::with(b"one");
        fs::create_dir(outbox.scratch.parent().unwrap()).unwrap();
        fs::write(&outbox.scratch, "changed").unwrap();
        fs::write(&outbox.path, "newcomer").unwrap();
        outbox.take(|| {});
        assert_eq!(outbox.read(), "newcomer");
        assert_eq!(fs::read(outbox.path.with_file_name("note-2.txt")).unwrap(), b"changed");
    }

    #[test]
    fn same_name_size_and_time_but_other_content_stays() {
        let mut outbox = Outbox::with(b"one");
        let path = outbox.path.clone();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        outbox.take(|| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"two", 0).unwrap();
            file.set_modified(modified).unwrap();
        });
        assert_eq!(outbox.read(), "two");
    }

    #[test]
    fn after_a_power_failure_remains_of_the_file_go_and_what_a_person_wrote_since_stays() {
        let recorded = b"one message of some length";
        let cases: [(&[u8], bool, bool); 5] = [
            (b"", true, false),
            (b"one mess\0\0\0\0\0\0\0", true, false),
            (b"one mess", true, false),
            (b"one mess", false, true),
            (b"another", true, true),
        ];
        for (standing, is_old, stays) in cases {
            let mut outbox = Outbox::with(recorded);
            outbox.taking.expect([(outbox.take.sha256, Zeroizing::new(recorded.to_vec()))].into());
            let modified = fs::metadata(&outbox.path).unwrap().modified().unwrap();
            let file = OpenOptions::new().write(true).truncate(true).open(&outbox.path).unwrap();
            io::Write::write_all(&mut &file, standing).unwrap();
            let second = std::time::Duration::from_secs(1);
            file.set_modified(if is_old { modified - second } else { modified + second }).unwrap();
            drop(file);
            outbox.taking.take(outbox.take.clone(), Mode::OtherBoot).unwrap();
            assert_eq!(outbox.path.exists(), stays, "{standing:?} {is_old}");
        }
    }
}
