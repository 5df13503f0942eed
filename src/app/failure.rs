//! How a program says that it failed: action, thing, cause, remedy on stderr, and an exit code of `sysexits.h`.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// Exit codes (`sysexits.h`), each with the meaning that `docs/exit-codes.md` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 64: the command line is wrong.
    Usage = 64,
    /// 65: input is malformed: a card, an address, a file.
    Data = 65,
    /// 66: a file or directory that should be read does not exist.
    NoInput = 66,
    /// 67: nobody is known under this name.
    NoUser = 67,
    /// 69: a service is not there: a port or an address is taken, or what was waited for cannot come any more.
    Unavailable = 69,
    /// 70: a fault in this program.
    Software = 70,
    /// 73: a file or directory cannot be created, or exists already.
    CannotCreate = 73,
    /// 74: reading or writing failed.
    Io = 74,
    /// 75: not now; trying again later may work: a lock is held, a wait ended.
    TemporaryFailure = 75,
    /// 77: permission was refused.
    NoPermission = 77,
    /// 78: a settings or state file is wrong.
    Config = 78,
}

/// A failure that ends a program.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    doing: String,
    cause: String,
    remedy: String,
}

impl Failure {
    /// `doing` is action and thing ("adding contact bob"), `cause` what went wrong, `remedy` what to do about it.
    pub fn new(exit: Exit, doing: impl Into<String>, cause: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { exit, doing: doing.into(), cause: cause.to_string(), remedy: remedy.into() }
    }

    /// For an I/O error: the exit code follows from its kind.
    pub fn io(doing: impl Into<String>, cause: &std::io::Error, remedy: impl Into<String>) -> Self {
        use std::io::ErrorKind;
        let exit = match cause.kind() {
            ErrorKind::NotFound => Exit::NoInput,
            ErrorKind::PermissionDenied => Exit::NoPermission,
            ErrorKind::AlreadyExists => Exit::CannotCreate,
            _ => Exit::Io,
        };
        Self::new(exit, doing, cause, remedy)
    }

    /// The same with something more to do about it.
    #[must_use]
    pub fn or(self, remedy: &str) -> Self {
        Self { remedy: format!("{} {remedy}", self.remedy), ..self }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on stderr, after the program's name, and hands out the exit code.
    pub fn report(&self, program: &str) -> ExitCode {
        // Where stderr is closed the exit code still tells.
        let _ = writeln!(std::io::stderr(), "{program}: {self}");
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.doing, self.cause)?;
        if !self.remedy.is_empty() {
            write!(formatter, "\n  {}", self.remedy)?;
        }
        Ok(())
    }
}
