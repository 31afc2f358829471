//! The letters of control to a shard; the shard looks when its waker rings.

use std::sync::Arc;

use crate::turn::Policy;

/// What control says to a shard.
#[derive(Debug)]
pub(super) enum Message {
    SetPolicy(Arc<Policy>),
    Stop,
}
