//! Whether relays can be bound where the configuration says.

use std::net::SocketAddr;

use super::error::StartError;
use crate::config::Config;
use crate::net;

/// Binds a relay socket on each configured address and lets go again: a wrong one would refuse every
/// allocation.
pub(super) fn try_relay_addresses(config: &Config) -> Result<(), StartError> {
    for address in &config.relay.addresses {
        net::open_relay(SocketAddr::new(*address, 0), config.buffers.relay)
            .map_err(|error| StartError::Relay(*address, error))?;
    }
    Ok(())
}
