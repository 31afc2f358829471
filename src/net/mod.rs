//! Sockets, the poller and the clocks: all that touches the operating system on a packet's way.

mod buffer_sizes;
mod buffers;
mod client;
mod clock;
mod error;
mod fault;
mod inherited;
mod linux;
mod listen;
mod pair;
mod refusals;
mod relay;
mod route;
mod tcp_relay;
mod upstream;
mod vacancy;

pub use buffers::{Buffers, SLOTS, Span};
pub use client::{connect_stream, open_datagrams};
pub use clock::Clock;
pub use error::{BindCause, BindError, Buffer, BufferShortfall, Protocol};
pub use fault::Fault;
pub use inherited::Inherited;
pub use linux::{
    Account, BATCH, Epoll, Events, FormerUser, IcmpError, Interest, Interface, MOST_DESCRIPTORS,
    Outgoing, Readiness, ReceiveBatch, Received, SendBatch, UnixSocketFile, Waker, catch_interrupt,
    descriptor_limit, interfaces, next_icmp_error, raise_descriptor_limit, receive_descriptors,
    restrict_system_calls, send_descriptors, send_segments, take_in_trains, takes_in_trains,
    try_to_restrict_system_calls, with_private_files,
};
pub use listen::{
    BindOptions, BoundGroup, ListenerSockets, TcpListener, UdpListener, bind_group,
    bind_group_beside, prepare_connection,
};
pub use pair::{message_pair, stream_pair};
pub use relay::{RelayError, open_relay, relay_shortfalls, send_unfragmented};
pub use route::default_source;
pub use tcp_relay::{connect_from, connect_outcome, listen_for_peers};
pub use upstream::{connect_tcp, connect_unix};
