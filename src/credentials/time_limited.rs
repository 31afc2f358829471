//! Credentials that a shared secret vouches for until a time (TURN REST).

use std::fmt;
use std::time::Duration;

use crate::time::UnixTime;
use crate::turn::SharedSecret;

/// A username that carries its expiry, and the password that goes with it.
#[derive(Clone, PartialEq, Eq)]
pub struct TimeLimited {
    /// Expiry in Unix seconds, a colon, the user.
    pub username: String,
    /// base64(HMAC-SHA1(secret, username)).
    pub password: String,
    /// From this second on the credentials are refused.
    pub expires: UnixTime,
}

impl TimeLimited {
    /// Credentials of `user` that `secret` vouches for from `now` on for `ttl`, in whole seconds.
    pub fn mint(secret: &SharedSecret, user: &str, now: UnixTime, ttl: Duration) -> Self {
        let expires = UnixTime(now.0.saturating_add(ttl.as_secs()));
        let username = format!("{}:{user}", expires.0);
        Self {
            password: secret.password_for(&username),
            username,
            expires,
        }
    }
}

impl fmt::Debug for TimeLimited {
    /// Everything but the password (requirement S21).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeLimited")
            .field("username", &self.username)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_username_carries_the_expiry() {
        let secret = SharedSecret::new("north-wind-and-sun");
        let ttl = Duration::from_secs(3600);
        let minted = TimeLimited::mint(&secret, "alice", UnixTime(1_700_000_000), ttl);
        assert_eq!(minted.username, "1700003600:alice");
        assert_eq!(minted.expires, UnixTime(1_700_003_600));
        assert_eq!(minted.password, secret.password_for("1700003600:alice"));
    }

    #[test]
    fn debug_shows_no_password() {
        let secret = SharedSecret::new("north-wind-and-sun");
        let minted = TimeLimited::mint(&secret, "alice", UnixTime(0), Duration::from_secs(1));
        assert!(!format!("{minted:?}").contains(&minted.password));
    }
}
