//! Credentials that are handed out: time-limited ones, random ones, access tokens, and the `iceServers`
//! around them.

mod access_token;
mod ice;
mod random;
mod time_limited;

pub use access_token::MintedToken;
pub use ice::{Offer, Reach, authority, ice_servers};
pub use random::{random_password, random_username};
pub use time_limited::TimeLimited;
