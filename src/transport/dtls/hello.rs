//! What is read of a ClientHello before its client has proven its address (RFC 6347 §4.2.1, RFC 8446 §4.1.2).

/// Bytes of a plaintext record's header.
pub(super) const RECORD_HEADER: usize = 13;
/// Bytes of a handshake message's header.
pub(super) const HANDSHAKE_HEADER: usize = 12;

pub(super) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const DTLS_1_2: u16 = 0xFEFD;
const DTLS_1_3: u16 = 0xFEFC;
/// DTLS version numbers count down; everything below 0xFE00 is not one.
const DTLS_MAJOR: u16 = 0xFE00;

const SUPPORTED_GROUPS: u16 = 10;
const SUPPORTED_VERSIONS: u16 = 43;
const COOKIE: u16 = 44;
const KEY_SHARE: u16 = 51;

/// Which protocol a client is to be answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Dtls12,
    Dtls13,
    /// DTLS 1.0 and what else there may be.
    Other,
}

/// A ClientHello that came whole in one datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello<'d> {
    pub(super) version: Version,
    /// The number of its record, below 2^48.
    pub(super) record_number: u64,
    /// The number of its handshake message.
    pub(super) message_number: u16,
    pub(super) random: &'d [u8; 32],
    /// The cookie of DTLS 1.2, or of DTLS 1.3; empty when there is none.
    pub(super) cookie: &'d [u8],
    /// Two bytes each.
    pub(super) suites: &'d [u8],
    /// Two bytes each.
    pub(super) groups: &'d [u8],
    /// The entries of key_share.
    pub(super) key_shares: &'d [u8],
    /// Its record, with the header.
    pub(super) record: &'d [u8],
}

/// Whether `datagram` begins with the beginning of a ClientHello: it may draw an answer, and cost a
/// handshake.
pub fn is_hello(datagram: &[u8]) -> bool {
    let is_epoch_0 = datagram.get(3..5) == Some(&[0, 0]);
    datagram.first() == Some(&HANDSHAKE)
        && is_epoch_0
        && datagram.get(RECORD_HEADER) == Some(&CLIENT_HELLO)
}

impl<'d> Hello<'d> {
    /// The ClientHellos with which `datagram` begins, one after the other.
    pub(super) fn leading(datagram: &'d [u8]) -> impl Iterator<Item = Self> {
        let mut rest = datagram;
        std::iter::from_fn(move || {
            let hello = is_hello(rest).then(|| Self::parse(rest)).flatten()?;
            rest = &rest[hello.record.len()..];
            Some(hello)
        })
    }

    /// Reads the first record of `datagram`, for which [`is_hello`] holds. A ClientHello in fragments is
    /// none: to put it together would take memory for a stranger.
    pub(super) fn parse(datagram: &'d [u8]) -> Option<Self> {
        let (header, _) = datagram.split_first_chunk::<RECORD_HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let record = datagram.get(..RECORD_HEADER + length)?;
        let mut message = Reader(&record[RECORD_HEADER..]);
        let _kind = message.u8()?;
        let whole = message.u24()?;
        let message_number = message.u16()?;
        let (offset, fragment) = (message.u24()?, message.u24()?);
        if offset != 0 || fragment != whole {
            return None;
        }
        let record_number = header[5..11]
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        let body = Reader(message.take(whole)?);
        Self::parse_body(body, record, record_number, message_number)
    }

    fn parse_body(
        mut body: Reader<'d>,
        record: &'d [u8],
        record_number: u64,
        message_number: u16,
    ) -> Option<Self> {
        let version = body.u16()?;
        let random = body.take(32)?.first_chunk()?;
        let _session = body.short()?;
        let cookie = body.short()?;
        let suites = body.long()?;
        let _compression = body.short()?;
        let mut hello = Self {
            version: match version {
                DTLS_MAJOR..=DTLS_1_2 => Version::Dtls12,
                _ => Version::Other,
            },
            record_number,
            message_number,
            random,
            cookie,
            suites,
            groups: &[],
            key_shares: &[],
            record,
        };
        if !body.0.is_empty() {
            let mut extensions = Reader(body.long()?);
            while !extensions.0.is_empty() {
                let (kind, value) = (extensions.u16()?, extensions.long()?);
                hello.note(kind, value)?;
            }
        }
        Some(hello)
    }

    fn note(&mut self, kind: u16, value: &'d [u8]) -> Option<()> {
        let mut value = Reader(value);
        match kind {
            SUPPORTED_GROUPS => self.groups = value.long()?,
            SUPPORTED_VERSIONS => {
                let versions = value.short()?;
                if pairs(versions).any(|version| version == DTLS_1_3) {
                    self.version = Version::Dtls13;
                }
            }
            COOKIE => self.cookie = value.long()?,
            KEY_SHARE => self.key_shares = value.long()?,
            _ => {}
        }
        Some(())
    }

    /// The groups for which there is a key share.
    pub(super) fn shared_groups(&self) -> impl Iterator<Item = u16> + use<'d> {
        let mut entries = Reader(self.key_shares);
        std::iter::from_fn(move || {
            let group = entries.u16()?;
            entries.long()?;
            Some(group)
        })
    }
}

/// The numbers of two bytes in `list`.
pub(super) fn pairs(list: &[u8]) -> impl Iterator<Item = u16> {
    list.chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    fn take(&mut self, length: usize) -> Option<&'d [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u24(&mut self) -> Option<usize> {
        let bytes = self.take(3)?;
        Some(usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]))
    }

    /// A value with its length in one byte before it.
    fn short(&mut self) -> Option<&'d [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A value with its length in two bytes before it.
    fn long(&mut self) -> Option<&'d [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
