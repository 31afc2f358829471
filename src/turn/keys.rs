//! Long-term credentials: who may allocate, and the keys they sign with (RFC 8489 §9.2).

/// Who may allocate: static users and shared secrets, both at once.
#[derive(Default)]
pub struct Credentials {}
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// MD5(username ":" realm ":" password), the key of the long-term mechanism (RFC 8489 §9.2.2).
#[derive(Clone)]
pub struct StoredKey([u8; 16]);

impl StoredKey {
    /// The key of `username` in `realm` with `password`.
    pub fn derive(_username: &str, _realm: &str, _password: &str) -> Self {
        Self([0; 16])
    }
    /// The key written as 32 hexadecimal digits, as coturn's `turnadmin -k` prints (with `0x` or without).
    pub fn from_hex(_text: &str) -> Option<Self> {
        None
    }
    /// 32 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// A secret shared with the application server, for time-limited credentials (TURN REST).
#[derive(Clone)]
pub struct SharedSecret(Box<[u8]>);

impl SharedSecret {
    /// A secret of 1 to 1024 bytes.
    pub fn new(secret: &str) -> Self {
        Self(secret.as_bytes().into())
    }
    /// base64(HMAC-SHA1(secret, username)).
    pub fn password_for(&self, _username: &str) -> String {
        String::from_utf8_lossy(&self.0).into()
    }
}

impl Credentials {
    /// Adds or replaces a static user.
    pub fn add_user(&mut self, _username: &str, _key: StoredKey) {}
    /// Adds a shared secret; the first added is tried first.
    pub fn add_secret(&mut self, _secret: SharedSecret) {}
}
