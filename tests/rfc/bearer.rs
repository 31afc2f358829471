//! A client with an access token (RFC 7635).

use turnstone::stun::{Algorithm, AttributeType, Class, MessageBuilder, Method};
use turnstone::time::UnixTime;
use turnstone::turn::{AuthFailure, Counter, FiveTuple};

use crate::common::token::{
    MAC_KEY, NORTH, SERVER, UNION, north, north_key, oauth, seal, seal_at, union, union_key,
};
use crate::common::{REALM, Response, World, requested_transport, xor_peer_address};
use crate::dialogue::{Attributes, client, peer, world_with};

/// Who holds a token; each field can be set wrong.
#[derive(Clone)]
pub(crate) struct Bearer {
    pub(crate) from: FiveTuple,
    pub(crate) name: (AttributeType, Vec<u8>),
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) mac_key: Vec<u8>,
    pub(crate) integrity: Algorithm,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) more: Vec<(AttributeType, Vec<u8>)>,
}

impl Bearer {
    /// Of the usual token of [`NORTH`].
    pub(crate) fn north(lifetime: u32) -> Self {
        Self::new(NORTH, north(lifetime), MAC_KEY)
    }

    /// Of the usual token of [`UNION`].
    pub(crate) fn union(lifetime: u32) -> Self {
        Self::new(UNION, union(lifetime), MAC_KEY)
    }

    /// Of a token of [`UNION`] issued at `issued`.
    pub(crate) fn union_at(issued: UnixTime, lifetime: u32, mac_key: &[u8]) -> Self {
        let token = seal_at(&union_key(), mac_key, issued, lifetime, SERVER);
        Self::new(UNION, token, mac_key)
    }

    /// Of a token of [`NORTH`] issued at `issued`.
    pub(crate) fn at(issued: UnixTime, lifetime: u32) -> Self {
        let token = seal_at(&north_key(), MAC_KEY, issued, lifetime, SERVER);
        Self::new(NORTH, token, MAC_KEY)
    }

    /// Of a token of [`NORTH`] for an hour, with this `mac_key`.
    pub(crate) fn with_mac_key(mac_key: &[u8]) -> Self {
        Self::new(NORTH, seal(&north_key(), mac_key, 3600, SERVER), mac_key)
    }

    fn new(id: &str, token: Vec<u8>, mac_key: &[u8]) -> Self {
        Self {
            from: client(),
            name: (AttributeType::USERNAME, id.into()),
            token: Some(token),
            mac_key: mac_key.into(),
            integrity: Algorithm::Sha1,
            nonce: None,
            more: Vec::new(),
        }
    }

    pub(crate) fn without_token(&self) -> Self {
        Self {
            token: None,
            ..self.clone()
        }
    }

    pub(crate) fn with_nonce(self, nonce: Vec<u8>) -> Self {
        Self {
            nonce: Some(nonce),
            ..self
        }
    }

    pub(crate) fn request(
        &self,
        world: &mut World,
        method: Method,
        attributes: Attributes<'_>,
    ) -> Vec<u8> {
        let nonce = self.nonce.clone().unwrap_or_else(|| world.nonce(self.from));
        let transaction = world.transaction();
        let mut request = Vec::new();
        let mut builder = MessageBuilder::new(&mut request, Class::Request, method, transaction);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        builder
            .attribute(self.name.0, &self.name.1)
            .attribute(AttributeType::REALM, REALM.as_bytes())
            .attribute(AttributeType::NONCE, &nonce);
        if let Some(token) = &self.token {
            builder.attribute(AttributeType::ACCESS_TOKEN, token);
        }
        for (kind, value) in &self.more {
            builder.attribute(*kind, value);
        }
        builder.integrity(self.integrity, &self.mac_key);
        request
    }

    fn ask(&self, world: &mut World, method: Method, attributes: Attributes<'_>) -> Response {
        let request = self.request(world, method, attributes);
        world.send(self.from, &request).response()
    }

    pub(crate) fn allocate(&self, world: &mut World) -> Response {
        self.ask(world, Method::ALLOCATE, &[requested_transport(17)])
    }

    pub(crate) fn refresh(&self, world: &mut World, attributes: Attributes<'_>) -> Response {
        self.ask(world, Method::REFRESH, attributes)
    }

    /// Permits the usual peer.
    pub(crate) fn permit(&self, world: &mut World) -> Response {
        let peer = xor_peer_address(peer(), turnstone::stun::TransactionId([0; 12]));
        self.ask(world, Method::CREATE_PERMISSION, &[peer])
    }
}

/// A world that believes access tokens.
pub(crate) fn world_of_oauth() -> World {
    world_with(|policy| policy.oauth = Some(oauth()))
}

/// How many requests failed for `failure`.
pub(crate) fn failures(world: &World, failure: AuthFailure) -> u64 {
    world.server.stats().get(Counter::AuthFailures(failure))
}
