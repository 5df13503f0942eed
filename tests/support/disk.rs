//! A small filesystem in a mount namespace of its own: nothing of it is left when its owner is gone, and making it takes
//! no root.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::holder::Holder;
use super::machine::refusal;

/// A `tmpfs` that only the processes of its namespace find under its path.
pub struct Disk {
    holder: Holder,
    path: PathBuf,
}

/// What makes the namespace.
const NAMESPACE: [&str; 4] = ["-r", "-m", "--propagation", "private"];

/// Why no filesystem can be mounted here; `None` if it can.
pub fn missing() -> Option<String> {
    missing_in(&NAMESPACE)
}

/// The same for a namespace that `unshare` makes with other options.
pub fn missing_in(options: &[&str]) -> Option<String> {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(options).args(["mount", "-t", "tmpfs", "tmpfs"]).arg(place.path());
    refusal(&mut command).map(|reason| format!("nothing can be mounted here: {reason}"))
}

impl Disk {
    /// Mounted over `path`, which is made, with these options of `tmpfs`.
    pub fn new(path: &Path, options: &str) -> Self {
        fs::create_dir(path).unwrap();
        let script = r#"mount -t tmpfs -o "$0" tmpfs "$1""#;
        let holder = Holder::new(&NAMESPACE, script, &[options.as_ref(), path.as_os_str()]);
        Self { holder, path: path.to_owned() }
    }

    /// The mounted directory, as it can be reached from outside of the namespace.
    pub fn root(&self) -> PathBuf {
        let namespace = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        namespace.join(self.path.strip_prefix("/").unwrap())
    }

    /// A command line that a daemon and its `--root` are appended to: it runs as our own child, inside the namespace,
    /// where the root has its own path.
    pub fn daemon(&self) -> Command {
        let mut command = self.enter();
        command.args(["sh", "-c", r#"exec "$1" --root "$0""#]).arg(&self.path);
        command
    }

    /// Mounts it anew with other options.
    pub fn remount(&self, options: &str) {
        let remounted = self.enter().args(["mount", "-o", &format!("remount,{options}")]).arg(&self.path).output();
        let remounted = remounted.unwrap();
        assert!(remounted.status.success(), "{remounted:?}");
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-U", "-m", "--preserve-credentials", "-t", &self.holder.pid().to_string()]);
        command
    }

    /// Fills it up, but for about so many bytes. The file that does it is to be removed.
    pub fn fill(&self, room: u64) -> PathBuf {
        let path = self.root().join("tmp/ballast");
        let mut file = fs::File::create(&path).unwrap();
        let mut portion = 1 << 20;
        while portion > 0 {
            if file.write_all(&vec![1; portion]).is_err() {
                portion /= 2;
            }
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.checked_sub(room).unwrap()).unwrap();
        path
    }
}
