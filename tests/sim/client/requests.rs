//! How a client asks: rightly, and as no client should.

use turnstone::stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use turnstone::time::Instant;
use turnstone::turn::Family;

use super::{Client, Sent};
use crate::common::{
    Login, channel_data, channel_number, lifetime, requested_family, requested_transport,
    send_indication, xor_peer_address,
};
use crate::transaction::{Ask, Transaction};

type Attributes = Vec<(AttributeType, Vec<u8>)>;

impl Client {
    /// Sends a request, unless what it is for is gone, and waits for its response.
    pub(super) fn ask(&mut self, now: Instant, ask: Ask) {
        let id = self.transaction();
        let Some((method, attributes)) = self.spell(ask, id) else {
            return;
        };
        let message = self.request(id, method, &attributes, &self.login);
        let transport = self.plan.transport;
        let transaction = Transaction::new(now, id, ask, message.clone(), transport);
        self.transactions.push(transaction);
        self.put(message);
    }

    /// The method and attributes of a request.
    fn spell(&self, ask: Ask, id: TransactionId) -> Option<(Method, Attributes)> {
        let peer = |place: usize| {
            let peer = self.targets[place].peer?;
            Some(xor_peer_address(peer, id))
        };
        Some(match ask {
            Ask::Binding => (Method::BINDING, Vec::new()),
            Ask::Allocate => (Method::ALLOCATE, self.allocate()),
            Ask::Refresh(seconds) => (Method::REFRESH, vec![lifetime(seconds)]),
            Ask::Permit(place) => (Method::CREATE_PERMISSION, vec![peer(place)?]),
            Ask::Bind(place) => {
                let number = channel_number(self.targets[place].channel?);
                (Method::CHANNEL_BIND, vec![number, peer(place)?])
            }
        })
    }

    fn allocate(&self) -> Attributes {
        let mut attributes = vec![requested_transport(17), lifetime(self.plan.lifetime)];
        if self.plan.family == Family::V6 {
            attributes.push(requested_family(2));
        }
        attributes
    }

    /// A request that is signed as soon as the client knows realm and nonce.
    fn request(
        &self,
        id: TransactionId,
        method: Method,
        attributes: &Attributes,
        login: &Login,
    ) -> Vec<u8> {
        if let Some(nonce) = self.nonce.as_ref().filter(|_| method != Method::BINDING) {
            return login.sign(id, method, attributes, nonce);
        }
        let mut message = Vec::new();
        let mut builder = MessageBuilder::new(&mut message, Class::Request, method, id);
        for (kind, value) in attributes {
            builder.attribute(*kind, value);
        }
        message
    }

    /// Sends a message from the present address.
    pub(super) fn put(&mut self, message: Vec<u8>) {
        if self.rng.chance(10) {
            self.old.clone_from(&message);
        }
        self.out.push(Sent::Message(message));
    }

    /// Does what no client should, and does not care about the answer.
    pub(super) fn misbehave(&mut self) {
        let peer = self.plan.forbidden;
        let noise = self.rng.bytes(40);
        let id = self.transaction();
        let message = match self.rng.below(8) {
            0 => channel_data(0x4F00, &noise),
            1 => send_indication(peer, &noise),
            2 => noise,
            3 => self.old.clone(),
            4 => self.request(id, Method::ALLOCATE, &self.allocate(), &self.login),
            5 => self.request(id, Method::BINDING, &Vec::new(), &self.login),
            6 => {
                let other = Login::new("carol", "cat");
                self.request(id, Method::REFRESH, &vec![lifetime(0)], &other)
            }
            _ => {
                let attributes = vec![xor_peer_address(peer, id)];
                self.request(id, Method::CREATE_PERMISSION, &attributes, &self.login)
            }
        };
        self.put(message);
    }

    /// A channel number that the client has not used so far.
    pub(super) fn next_channel(&self) -> u16 {
        self.channels.last().map_or(0x4000, |last| last + 1)
    }

    fn transaction(&mut self) -> TransactionId {
        let bytes = self.rng.bytes(12);
        TransactionId(bytes.try_into().expect("twelve bytes"))
    }
}
