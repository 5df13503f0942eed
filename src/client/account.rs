//! Our own account: its keys (`config.pb`) and its signed profile (`profile.pb`).

use std::path::PathBuf;

use rand_core::CryptoRngCore;
use thiserror::Error;

use super::root::Root;
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::crypto::dh::SecretKey;
use crate::crypto::sign::SigningKey;
use crate::disk::atomic::{self, AtomicError};
use crate::wire::Malformed;
use crate::wire::address::ServerAddress;
use crate::wire::profile::{Profile, SignedProfile};
use crate::wire::state::AccountKeys;

/// Who we are.
#[derive(Clone, Debug)]
pub struct Account {
    /// Our long-term secrets.
    pub keys: AccountKeys,
    /// What our card says.
    pub profile: SignedProfile,
}

/// Making an account failed.
#[derive(Debug, Error)]
pub enum CreateError {
    /// There is one already.
    #[error("{} is there already: this root has an account", .0.display())]
    Exists(PathBuf),
    /// The name is not one.
    #[error("{0}")]
    Name(#[from] Malformed),
    /// The disk did not take it.
    #[error("{0}")]
    Disk(#[from] AtomicError),
}

/// Signing a profile anew failed.
#[derive(Debug, Error)]
pub enum RenewError {
    /// The account cannot be read.
    #[error("{0}")]
    State(#[from] StateError),
    /// The new profile would be none.
    #[error("{0}")]
    Profile(#[from] Malformed),
    /// The disk did not take it.
    #[error("{0}")]
    Disk(#[from] AtomicError),
}

impl Account {
    /// Makes a root with an account in it. `config.pb` is written last and never replaced: a root without it is no
    /// account, so that an attempt that was interrupted is simply made again. `settings` becomes `chatterbox.toml`.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(
        root: &Root,
        name: &str,
        server: ServerAddress,
        settings: &str,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Self, CreateError> {
        if root.disk().stat(&root.config()).is_ok() {
            return Err(CreateError::Exists(root.config()));
        }
        let keys = AccountKeys {
            signing: SigningKey::random(rng),
            auth: SecretKey::random(rng),
            transport: SecretKey::random(rng),
        };
        let profile =
            Profile { name: name.to_owned(), server, account: keys.account(), identity: keys.identity(), version: 1 };
        let profile = SignedProfile::sign(profile, &keys.signing)?;
        make_directories(root)?;
        let scratch = root.tmp("chatterbox");
        atomic::replace(root.disk(), &scratch, &root.settings(), settings.as_bytes())?;
        atomic::replace(root.disk(), &scratch, &root.profile(), profile.as_bytes())?;
        atomic::create_new(root.disk(), &scratch, &root.config(), &keys.to_bytes()).map_err(|error| match error {
            AtomicError::AlreadyExists { path } => CreateError::Exists(path),
            other => other.into(),
        })?;
        Ok(Self { keys, profile })
    }

    /// Signs the profile anew with the same keys and the next version, and puts it in place of the old one: with another
    /// server, or saying the same.
    ///
    /// # Errors
    /// [`RenewError`]; the old profile stands.
    pub fn renew(root: &Root, server: Option<ServerAddress>) -> Result<Self, RenewError> {
        let Self { keys, profile } = Self::load(root)?;
        let old = profile.profile().clone();
        let next = old.version.checked_add(1).ok_or(Malformed::new("profile version", "it cannot rise further"))?;
        // By the clock, so that it is above those that others have even where a restored backup has forgotten them.
        let version = next.max(Timestamp::now().seconds());
        let server = server.unwrap_or_else(|| old.server.clone());
        let profile = SignedProfile::sign(Profile { server, version, ..old }, &keys.signing)?;
        let scratch = root.tmp("chatterbox");
        atomic::make_private_directory(root.disk(), &scratch)?;
        atomic::replace(root.disk(), &scratch, &root.profile(), profile.as_bytes())?;
        Ok(Self { keys, profile })
    }

    /// Reads the account of a root.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(root: &Root) -> Result<Self, StateError> {
        let path = root.config();
        let bytes = state::read(root.disk(), &path)?;
        let keys = AccountKeys::from_bytes(&bytes).map_err(|error| StateError::malformed(&path, error))?;
        let profile = load_profile(root)?;
        if *profile.identity() != keys.identity() || profile.profile().account != keys.account() {
            let problem = Malformed::new("profile.pb", "it belongs to other keys than config.pb holds");
            return Err(StateError::malformed(&root.profile(), problem));
        }
        Ok(Self { keys, profile })
    }
}

/// Reads only the public half, as the command line needs it.
///
/// # Errors
/// [`StateError`], naming the file.
pub fn load_profile(root: &Root) -> Result<SignedProfile, StateError> {
    let path = root.profile();
    let bytes = state::read(root.disk(), &path)?;
    SignedProfile::from_bytes(&bytes).map_err(|error| StateError::malformed(&path, error))
}

/// Directories into which the daemon only puts what a person is to read.
const WAITED_FOR_BY_NOTHING: [&str; 2] = ["alerts", "requests"];

/// Makes what is missing of a root's directories, mode 0700. Where a file has the name of one that nothing else waits for, it
/// stays: `status` says so.
///
/// # Errors
/// [`AtomicError`].
pub fn make_directories(root: &Root) -> Result<(), AtomicError> {
    atomic::make_private_directory(root.disk(), root.path())?;
    let make = |name: &&str| match atomic::make_private_directory(root.disk(), &root.join(name)) {
        Err(AtomicError::Io { cause, .. }) if WAITED_FOR_BY_NOTHING.contains(name) && atomic::is_in_the_way(&cause) => {
            Ok(())
        }
        made => made,
    };
    Root::DIRECTORIES.iter().try_for_each(make)
}
