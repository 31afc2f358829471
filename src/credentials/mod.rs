//! Credentials that are handed out: time-limited ones, random ones, and the `iceServers` around them.

mod ice;
mod random;
mod time_limited;

pub use ice::{Offer, Reach, authority, ice_servers};
pub use random::{random_password, random_username};
pub use time_limited::TimeLimited;
