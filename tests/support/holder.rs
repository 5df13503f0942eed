//! A process that holds a namespace: what was made in it is gone when its owner is.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Its namespaces are those that `unshare` was told to make.
pub struct Holder(Child);

impl Holder {
    /// `unshare` with these options, and a script that runs inside with arguments, after which the namespace is ready.
    pub fn new(options: &[&str], script: &str, arguments: &[&std::ffi::OsStr]) -> Self {
        // `cat` holds the namespace, and ends with its input: with us.
        let mut holder = Command::new("unshare")
            .args(options)
            .args(["sh", "-c", &format!("{script} && echo ready && exec cat")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(holder)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
