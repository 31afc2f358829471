//! What an Allocate request asks for beyond one relayed address: another family, an even port, a pair of
//! ports, the port that was reserved.

use super::request::Value;
use crate::rng::Rng;

/// What an Allocate request may ask for besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extra {
    /// ADDITIONAL-ADDRESS-FAMILY.
    pub(super) additional: Value<u8>,
    /// EVEN-PORT; whether with the R bit.
    pub(super) even_port: Value<bool>,
    /// RESERVATION-TOKEN.
    pub(super) token: Option<Vec<u8>>,
}

impl Extra {
    /// Mostly nothing, or one wish.
    pub(super) fn random(rng: &mut Rng, tokens: &[Vec<u8>]) -> Self {
        let mut extra = Self {
            additional: Value::Missing,
            even_port: Value::Missing,
            token: None,
        };
        match rng.below(10) {
            0 | 1 => extra.additional = Value::Is(2),
            2 => {
                extra.additional = Value::Is(2);
                extra.even_port = Value::Is(false);
            }
            3 => extra.even_port = Value::Is(false),
            4 | 5 => extra.even_port = Value::Is(true),
            6 | 7 if !tokens.is_empty() => {
                extra.token = Some(tokens[rng.below(tokens.len())].clone());
            }
            8 => extra.token = Some(b"no token".to_vec()),
            _ => {}
        }
        extra
    }

    /// Adds what contradicts itself or cannot be read.
    pub(super) fn contradict(&mut self, rng: &mut Rng) {
        match rng.below(5) {
            0 => self.additional = rng.pick(&[Value::Malformed, Value::Is(1), Value::Is(3)]),
            1 => self.even_port = Value::Malformed,
            2 => self.token = Some(vec![1, 2, 3]),
            3 => {
                self.additional = Value::Is(2);
                self.even_port = Value::Is(true);
            }
            _ => {
                self.even_port = Value::Is(rng.chance(50));
                self.token = Some(b"no token".to_vec());
            }
        }
    }
}
