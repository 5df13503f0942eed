//! `strace` around the real programs: what they ask of the kernel, in order, and SIGKILL in front of a chosen call.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Process, Signal, send_signal, wait_for};

/// Calls that change a filesystem or make a change durable. The process is killed before the call has done anything,
/// so that between them they stand for every instant that leaves the disk in another state. Not `openat`: it creates
/// files too, but is called a hundred times as often to read, and what it leaves is what the next of these calls finds.
pub const WRITE_CLASS: &str = "write,pwrite64,rename,renameat,renameat2,link,linkat,unlink,unlinkat,fdatasync,fsync,\
                               syncfs,mkdir,mkdirat,ftruncate,fallocate";

/// Zeros are written in portions of this size: one point in so many of them is enough.
const ZEROS_STRIDE: usize = 128;

/// In front of the `number`th time that one thread makes this call. strace counts for each call and thread by itself:
/// the first thread to come so far ends the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub call: String,
    pub number: usize,
}

impl Point {
    /// Further than any test comes.
    pub fn never() -> Self {
        Self { call: WRITE_CLASS.to_owned(), number: 65_535 }
    }
}

/// Why nothing can be traced here; `None` if it can. Some systems let a process trace its children alone: so it is tried as
/// [`Tracer::attach`] does it, with a process that is no child of strace's.
pub fn missing() -> Option<String> {
    // It ends with its input.
    let mut traced = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=none", "-o", "/dev/null", "-p", &traced.id().to_string()]);
    let reason = match strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn() {
        Err(error) => Some(format!("strace: {error}")),
        Ok(mut tracer) => {
            let mut lines = BufReader::new(tracer.stderr.take().unwrap()).lines().map_while(Result::ok);
            let mut said = Vec::new();
            let is_attached = lines.by_ref().any(|line| {
                said.push(line);
                said.last().is_some_and(|line| line.contains("attached"))
            });
            drop(traced.stdin.take());
            lines.for_each(drop);
            tracer.wait().unwrap();
            (!is_attached).then(|| said.join("; "))
        }
    };
    drop(traced.stdin.take());
    traced.wait().unwrap();
    reason.map(|reason| format!("nothing can be traced here: {reason}"))
}

/// A command line that a program is appended to: it runs as our own child, and ends at `point`.
pub fn launch(log: &Path, point: &Point) -> Command {
    let mut command = Command::new("strace");
    // The tracer is the grandchild, so that signals and exit statuses are the program's own.
    command.args(["-D", "-f", "-qq", "-y", "-o"]).arg(log).args(inject(point));
    command
}

fn inject(point: &Point) -> [String; 4] {
    let Point { call, number } = point;
    let inject = format!("inject={call}:signal=KILL:when={number}");
    ["-e".to_owned(), format!("trace={WRITE_CLASS}"), "-e".to_owned(), inject]
}

/// A tracer of a process that runs. Ends with its owner, or with the process.
pub struct Tracer(Child);

impl Tracer {
    /// Attaches to all threads of a process, which ends at `point`, counted from now.
    pub fn attach(process: &Process, log: &Path, point: &Point) -> Self {
        Self::attach_with(process, log, &inject(point))
    }

    /// Attaches with any options.
    pub fn attach_with(process: &Process, log: &Path, options: &[String]) -> Self {
        let directory = log.parent().unwrap().join(log.file_stem().unwrap());
        fs::create_dir_all(&directory).unwrap();
        let said = directory.join("said");
        let child = Command::new("strace")
            .args(["-f", "-y", "-ttt", "-p", &process.pid().to_string(), "-o"])
            .arg(log)
            .args(options)
            .stdin(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let mut tracer = Self(child);
        wait_for(&directory, "strace to attach", || {
            let text = fs::read_to_string(&said).unwrap();
            let attached = text.contains("attached");
            assert!(attached || tracer.0.try_wait().unwrap().is_none(), "{text}");
            attached.then_some(())
        });
        tracer
    }

    /// Attaches to all threads of a process, which is refused `calls` with `error` from now on: all of them, or those on
    /// `only` these paths.
    pub fn refuse(process: &Process, log: &Path, calls: &str, error: &str, only: &[PathBuf]) -> Self {
        let mut options = vec!["-e".to_owned(), format!("trace={calls}")];
        options.extend(["-e".to_owned(), format!("inject={calls}:error={error}")]);
        for path in only {
            options.extend(["-P".to_owned(), path.display().to_string()]);
        }
        Self::attach_with(process, log, &options)
    }

    /// Lets the process go on without. Not by SIGKILL: a call that is just being refused would not be told why.
    pub fn detach(mut self) {
        send_signal(&self.0, Signal::INT);
        self.0.wait().unwrap();
    }

    /// Until the process has ended, and all of its log is written.
    pub fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A call, when it was made.
#[derive(Clone, Debug)]
pub struct Call {
    pub thread: String,
    pub name: String,
    /// Arguments and result, as far as they stand on the same line.
    pub rest: String,
}

/// The calls in a log, in order. Of one that others came between, only its beginning.
pub fn calls(log: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let parsed = text.lines().filter_map(|line| {
        let (thread, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        let rest = match rest.split_once(' ') {
            Some((time, rest)) if time.starts_with(|first: char| first.is_ascii_digit()) => rest,
            _ => rest,
        };
        let (name, rest) = rest.split_once('(')?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_name.then(|| Call { thread: thread.to_owned(), name: name.to_owned(), rest: rest.to_owned() })
    });
    parsed.collect()
}

/// Where a process that makes these calls can be killed: each point is another instant, in order.
pub fn points(log: &Path) -> Vec<Point> {
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    let mut furthest: HashMap<String, usize> = HashMap::new();
    let mut zeros = 0;
    let mut found = Vec::new();
    for call in calls(log) {
        let count = counts.entry((call.thread.clone(), call.name.clone())).or_default();
        *count += 1;
        let most = furthest.entry(call.name.clone()).or_default();
        if *count <= *most {
            // Another thread was there before.
            continue;
        }
        *most = *count;
        let writes = matches!(call.name.as_str(), "write" | "pwrite64");
        zeros = if writes && call.rest.contains(r#", "\0\0\0\0\0\0\0\0"#) { zeros + 1 } else { 0 };
        if zeros < 2 || zeros % ZEROS_STRIDE == 0 {
            found.push(Point { call: call.name, number: *count });
        }
    }
    found
}

/// A file for a log, each time another.
pub fn log_in(directory: &Path, name: &str) -> PathBuf {
    let directory = directory.join("traces");
    fs::create_dir_all(&directory).unwrap();
    (1..).map(|number| directory.join(format!("{name}-{number}.log"))).find(|path| !path.exists()).unwrap()
}
