//! Which streams may share a circuit: those of one [`Isolation`], and no others (design, section 6).
//!
//! The home connection has one, and each recipient has one. Whoever sees two circuits cannot tell by them that they come
//! from one client.

use std::fmt;

use data_encoding::HEXLOWER;
use rand_core::CryptoRngCore;

/// Streams that are opened with the same one may share a circuit; a stream with another never does.
#[derive(Clone)]
pub struct Isolation {
    username: String,
    password: String,
    #[cfg(feature = "tor")]
    token: arti_client::IsolationToken,
}

impl Isolation {
    /// One that nothing else shares.
    pub fn fresh(rng: &mut impl CryptoRngCore) -> Self {
        let mut word = || {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            HEXLOWER.encode(&bytes)
        };
        Self {
            username: word(),
            password: word(),
            #[cfg(feature = "tor")]
            token: arti_client::IsolationToken::new(),
        }
    }

    /// As a SOCKS username and password: by these a Tor proxy keeps circuits apart (`IsolateSOCKSAuth`).
    pub fn credentials(&self) -> (&str, &str) {
        (&self.username, &self.password)
    }

    /// As arti's token.
    #[cfg(feature = "tor")]
    pub fn token(&self) -> arti_client::IsolationToken {
        self.token
    }
}

impl fmt::Debug for Isolation {
    /// Without what it holds, which would tie log lines to circuits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Isolation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn no_two_are_alike_and_none_shows_itself() {
        let (one, other) = (Isolation::fresh(&mut OsRng), Isolation::fresh(&mut OsRng));
        assert_ne!(one.credentials().0, other.credentials().0);
        assert_ne!(one.credentials().1, other.credentials().1);
        #[cfg(feature = "tor")]
        assert_ne!(one.token(), other.token());
        assert_eq!(one.clone().credentials(), one.credentials());
        assert_eq!(format!("{one:?}"), "Isolation");
    }
}
