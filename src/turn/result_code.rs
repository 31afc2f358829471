//! What a request comes to, as a metric label.

/// The result of a request: success or one of the error codes that this server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultCode(u16);

impl ResultCode {
    /// A success response.
    pub const SUCCESS: Self = Self(0);
    /// Success, then every error code that the server sends.
    pub const ALL: &'static [Self] = &[
        Self::SUCCESS,
        Self(300),
        Self(400),
        Self(401),
        Self(403),
        Self(405),
        Self(420),
        Self(437),
        Self(438),
        Self(440),
        Self(441),
        Self(442),
        Self(443),
        Self(446),
        Self(447),
        Self(486),
        Self(500),
        Self(508),
    ];

    /// The result of an error response with `code`; codes that this server never sends count as 500.
    pub fn error(code: u16) -> Self {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.0 == code)
            .unwrap_or(Self(500))
    }

    /// The metric label: `success` or the number.
    pub fn label(self) -> String {
        if self == Self::SUCCESS {
            "success".into()
        } else {
            self.0.to_string()
        }
    }

    pub(super) fn place(self) -> usize {
        Self::ALL
            .iter()
            .position(|known| *known == self)
            .unwrap_or(0)
    }
}
