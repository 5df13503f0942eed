//! Files that change, move or are held open while they are taken.

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

#[test]
fn a_file_that_cannot_be_moved_is_not_settled_and_goes_when_it_can_unless_it_was_written_to() {
    for is_written in [false, true] {
        let mut outbox = Outbox::with(b"one");
        // A link that leads nowhere takes nothing, from root either.
        std::os::unix::fs::symlink("nowhere", outbox.scratch.parent().unwrap()).unwrap();
        outbox.taking.take(outbox.take.clone(), Mode::Live).unwrap();
        let held: Vec<_> = outbox.taking.untaken().collect();
        assert_eq!(held, [(outbox.take.path.clone(), outbox.take.identity)]);
        assert_eq!((outbox.taking.unsettled().count(), outbox.taking.carried().len()), (0, 1));
        outbox.taking.settle_all().unwrap();
        assert_eq!((outbox.taking.untaken().count(), outbox.read()), (1, "one".to_owned()));
        if is_written {
            fs::write(&outbox.path, "another").unwrap();
        }
        fs::remove_file(outbox.scratch.parent().unwrap()).unwrap();
        outbox.taking.settle_all().unwrap();
        assert_eq!((outbox.taking.untaken().count(), outbox.path.exists()), (0, is_written));
        assert!(!outbox.scratch.exists());
    }
}

#[test]
fn what_cannot_be_moved_is_said_once_in_the_log_however_often_it_is_tried() {
    let said = Arc::new(tempfile::tempfile().unwrap());
    let log = tracing_subscriber::fmt().with_writer(said.clone()).finish();
    let mut outbox = Outbox::with(b"one");
    std::os::unix::fs::symlink("nowhere", outbox.scratch.parent().unwrap()).unwrap();
    tracing::subscriber::with_default(log, || {
        outbox.taking.take(outbox.take.clone(), Mode::Live).unwrap();
        (0..3).for_each(|_| outbox.taking.settle_all().unwrap());
    });
    assert_eq!(outbox.taking.untaken().count(), 1);
    let mut text = vec![0; 4_096];
    let length = std::os::unix::fs::FileExt::read_at(&*said, &mut text, 0).unwrap();
    let text = String::from_utf8(text[..length].to_vec()).unwrap();
    assert_eq!(text.matches("cannot be moved out of its directory").count(), 1, "{text}");
}
