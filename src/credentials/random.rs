//! Credentials that nobody chose.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Letters and digits that are not mistaken for one another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// `turn-` and four random letters or digits: a name to tell users apart, not to keep them out.
///
/// # Errors
/// The operating system has no random bytes to give.
pub fn random_username() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)?;
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte % 32)]);
    Ok(format!(
        "turn-{}",
        bytes.map(letter).iter().collect::<String>()
    ))
}

/// 144 random bits as 24 characters of base64url.
///
/// # Errors
/// The operating system has no random bytes to give.
pub fn random_password() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_differ() {
        let password = random_password().unwrap();
        assert_eq!(password.len(), 24);
        assert_ne!(password, random_password().unwrap());
        assert!(
            password
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
    }

    #[test]
    fn usernames_can_be_typed() {
        let name = random_username().unwrap();
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("turn-"));
    }
}
