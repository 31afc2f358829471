//! The OpaqueString profile of names and passwords (RFC 8265 §4.2, RFC 8489 §9.2.2).

use std::borrow::Cow;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;

/// `text` as it is compared and hashed.
///
/// What the profile forbids (control characters, unassigned code points) stays as it is: clients that
/// know no profile sign with it all the same.
pub fn opaque_string(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    OpaqueString::enforce(text).unwrap_or(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        let all: String = (b' '..=b'~').map(char::from).collect();
        assert_eq!(opaque_string(&all), all);
    }

    #[test]
    fn spaces_are_mapped_and_characters_composed() {
        assert_eq!(opaque_string("a\u{3000}b"), "a b");
        assert_eq!(opaque_string("e\u{301}"), "\u{e9}");
        let matrix = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
        assert_eq!(opaque_string(matrix), matrix);
    }

    #[test]
    fn forbidden_text_stays_as_it_is() {
        for text in ["", "\0", "a\nb", "\u{7f}", "soft\u{ad}hyphen"] {
            assert_eq!(opaque_string(text), text);
        }
    }
}
