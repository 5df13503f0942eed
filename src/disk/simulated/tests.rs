//! What the simulation promises of itself.

use std::collections::BTreeSet;

use super::*;

fn disk() -> SimulatedDisk {
    SimulatedDisk::with_directory(Path::new("/d"))
}

fn read(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    disk.stat(Path::new(path)).ok().map(|_| disk.read_file(Path::new(path)))
}

#[test]
fn what_is_synced_stays_and_what_is_not_goes() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/x")).unwrap();
    file.write_at(0, b"one").unwrap();
    file.sync().unwrap();
    let copy = disk.copy();
    copy.restart(Loss::Everything);
    assert_eq!(read(&copy, "/d/x"), None, "a file's sync does not cover its name");
    disk.open_directory(Path::new("/d")).unwrap().sync().unwrap();
    file.write_at(1, b"bc").unwrap();
    assert_eq!(read(&disk, "/d/x").unwrap(), b"obc");
    disk.restart(Loss::Everything);
    assert_eq!(read(&disk, "/d/x").unwrap(), b"one");
}

#[test]
fn some_loss_keeps_every_combination_of_names_and_content() {
    let disk = disk();
    let file = disk.create_new(Path::new("/d/x")).unwrap();
    file.write_at(0, &[b'a'; 1_024]).unwrap();
    disk.rename(Path::new("/d/x"), Path::new("/d/y")).unwrap();
    let mut seen = BTreeSet::new();
    for number in 0..200 {
        let copy = disk.copy();
        copy.restart(Loss::Some(number));
        let there = [read(&copy, "/d/x"), read(&copy, "/d/y")];
        let short = |bytes: &Option<Vec<u8>>| match bytes {
            None => 'n',
            Some(bytes) if bytes.is_empty() => 'e',
            Some(bytes) if bytes.iter().all(|byte| *byte == 0) => 'z',
            Some(bytes) if bytes == &[b'a'; 1_024] => 'w',
            Some(_) => 't',
        };
        seen.insert(there.iter().map(short).collect::<String>());
    }
    for expected in ["nn", "en", "zn", "wn", "tn", "ne", "nz", "nw", "nt"] {
        assert!(seen.contains(expected), "{expected} of {seen:?}");
    }
}

#[test]
fn a_failed_sync_loses_what_it_covered_though_the_next_succeeds() {
    let disk = disk();
    disk.write_file(Path::new("/d/x"), b"one", true);
    disk.expect(Some(Fault::FailedSync(1)));
    let file = disk.open_to_write(Path::new("/d/x")).unwrap();
    file.write_at(0, b"two").unwrap();
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(read(&disk, "/d/x").unwrap(), b"two");
    disk.restart(Loss::Nothing);
    assert_eq!(read(&disk, "/d/x").unwrap(), b"one");
}

#[test]
fn a_crash_stops_everything_from_its_operation_on() {
    let disk = disk();
    disk.expect(Some(Fault::Crash(2)));
    disk.make_directory(Path::new("/d/a")).unwrap();
    assert!(disk.make_directory(Path::new("/d/b")).is_err());
    assert!(disk.has_crashed() && disk.stat(Path::new("/d/a")).is_err());
    disk.restart(Loss::Process);
    assert!(disk.stat(Path::new("/d/a")).is_ok() && disk.stat(Path::new("/d/b")).is_err());
}

#[test]
fn a_number_is_used_again_at_once_and_the_birth_tells_them_apart() {
    let disk = disk();
    disk.write_file(Path::new("/d/x"), b"one", false);
    let first = disk.stat(Path::new("/d/x")).unwrap();
    disk.unlink(Path::new("/d/x")).unwrap();
    disk.write_file(Path::new("/d/x"), b"one", false);
    let second = disk.stat(Path::new("/d/x")).unwrap();
    assert_eq!(first.inode, second.inode);
    assert_ne!(first.born_ns, second.born_ns);
}
