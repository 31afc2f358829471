//! Any datagrams of one DTLS client: nothing panics, in the library either, and no answer to a stranger
//! is longer than what it answers.

use std::cell::Cell;
use std::panic::{set_hook, take_hook};
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use turnstone::time::Instant;
use turnstone::transport::{DtlsIdentity, DtlsLimits, DtlsOutput, DtlsSessions};
use turnstone::turn::{FiveTuple, Transport};

thread_local! {
    /// A mistake in the library ends one session only, and would not be seen otherwise.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// One input: datagrams, each behind its length in two bytes. Panics when a rule does not hold.
#[expect(unreachable_pub, reason = "a fuzzer calls it from a crate of its own")]
pub fn target(data: &[u8]) {
    count_panics();
    let before = PANICS.get();
    let mut sessions = sessions();
    let mut now = Instant::ZERO + Duration::from_secs(100);
    let mut rest = data;
    while let Some((length, bytes)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(bytes.len());
        let (datagram, after) = bytes.split_at(length);
        rest = after;
        let is_stranger = sessions.is_empty();
        sessions.receive(now, client(), datagram);
        let sent = drain(&mut sessions);
        let is_bounded = !is_stranger || !sessions.is_empty() || sent <= length;
        assert!(is_bounded, "{sent} bytes for {length}");
    }
    for _ in 0..15 {
        now = now + Duration::from_secs(1);
        sessions.handle_timeout(now);
        drain(&mut sessions);
    }
    assert_eq!(sessions.handshaking(), 0, "a handshake without an end");
    assert_eq!(PANICS.get(), before, "a panic");
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}

/// Its cookies are those that the committed inputs return.
fn sessions() -> DtlsSessions {
    static IDENTITY: OnceLock<Arc<DtlsIdentity>> = OnceLock::new();
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    let limits = DtlsLimits {
        half_open: 4,
        sessions: 4,
        sessions_per_source: 4,
        idle_after: Duration::from_secs(60),
    };
    let identity = Arc::clone(IDENTITY.get_or_init(identity));
    let origin = *ORIGIN.get_or_init(std::time::Instant::now);
    DtlsSessions::new(limits, Some(identity), [7; 32], origin, Arc::default())
}

fn identity() -> Arc<DtlsIdentity> {
    let made = rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]);
    let made = made.expect("a certificate");
    let chain = [&made.cert.der()[..]];
    let identity = DtlsIdentity::new(chain, &made.signing_key.serialize_der());
    Arc::new(identity.expect("a good key"))
}

fn client() -> FiveTuple {
    FiveTuple {
        transport: Transport::Dtls,
        client: ([192, 0, 2, 1], 4000).into(),
        server: ([198, 51, 100, 1], 3478).into(),
    }
}

/// Bytes that were sent.
fn drain(sessions: &mut DtlsSessions) -> usize {
    let mut sent = 0;
    while let Some(output) = sessions.poll() {
        if let DtlsOutput::Send { bytes, .. } = output {
            sent += bytes.len();
        }
    }
    sent
}
