//! A clock of its own for a process, through Debian's `libfaketime`: it goes like the system's, ahead of it or behind it
//! by what a file says. The monotonic clock and the times of files stay what they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Found through `$LIB`, as the dynamic linker knows it: `lib/x86_64-linux-gnu` for example.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// A clock that can be set while programs run by it.
pub struct Clock(PathBuf);

/// A process that was killed is gone: what the library had for it would stay.
pub fn tidy_after(pid: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        // Only a process with a clock of its own leaves these.
        let _ = fs::remove_file(format!("/dev/shm/{name}{pid}"));
    }
}

impl Clock {
    /// One that is ahead of the system's.
    pub fn ahead(directory: &Path, seconds: i64) -> Self {
        let clock = Self(directory.join("clock"));
        clock.set(seconds);
        // The linker goes on without a library that it does not find, and the clock would be the system's.
        let said = clock.wrapper().arg("true").output().unwrap().stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(said.is_empty(), "{LIBRARY} cannot be loaded, is the package libfaketime installed? {said}");
        clock
    }

    /// Sets it to so much ahead of the system's clock, or behind it.
    pub fn set(&self, seconds: i64) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    /// A command line that a program is appended to: it runs as our own child, and by this clock.
    pub fn wrapper(&self) -> Command {
        let mut command = Command::new("env");
        command
            .arg(format!("LD_PRELOAD={LIBRARY}"))
            .arg(format!("FAKETIME_TIMESTAMP_FILE={}", self.0.display()))
            // Looked at with every question for the time.
            .args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"]);
        command
    }
}
