//! What a run is at.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::plan::Transport;

/// What a run is at, for whoever watches it from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    connections: AtomicU64,
    pub(super) allocations: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    stage: AtomicU8,
}

/// The part of a run that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Allocations are made.
    SetUp,
    /// The server is loaded.
    Load,
    /// Allocations are ended.
    Release,
}

impl Progress {
    /// Connections and sessions so far, where clients need any before they can ask for something.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Allocations (or first Binding transactions) so far.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Packets, requests or cycles so far: sent, and come.
    pub fn counts(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.sent), load(&self.received))
    }

    /// What is going on.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::SetUp,
            1 => Stage::Load,
            _ => Stage::Release,
        }
    }

    pub(super) fn connected(&self, transport: Transport) {
        if transport != Transport::Udp {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn packets(&self, sent: u64, received: u64) {
        if sent + received > 0 {
            self.sent.fetch_add(sent, Ordering::Relaxed);
            self.received.fetch_add(received, Ordering::Relaxed);
        }
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }
}
