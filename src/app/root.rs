//! Which directory a program works on.

use std::env;
use std::path::PathBuf;

use super::failure::{Exit, Failure};
use crate::client::root::Root;

/// The environment variable that names the root where `--root` does not.
pub const ROOT_VARIABLE: &str = "CHATTERBOX_ROOT";

const DEFAULT_ROOT: &str = ".chatterbox";

/// The root that a program is about: `--root`, else `CHATTERBOX_ROOT`, else `~/.chatterbox`. Made absolute, so that the
/// paths we print mean the same elsewhere.
///
/// # Errors
/// [`Exit::Usage`] where there is no home directory to look in.
pub fn root(given: Option<PathBuf>) -> Result<Root, Failure> {
    let set = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = given
        .or_else(|| set(ROOT_VARIABLE))
        .or_else(|| env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(DEFAULT_ROOT)));
    let remedy = "Name it with --root DIR or set CHATTERBOX_ROOT.";
    let path = path.ok_or_else(|| {
        Failure::new(Exit::Usage, "finding the directory", "there is no home directory to look in", remedy)
    })?;
    let path =
        std::path::absolute(path).map_err(|error| Failure::new(Exit::Usage, "finding the directory", error, remedy))?;
    Ok(Root::new(path))
}
