//! Where the kernel does not cut trains into datagrams, so that nothing is sent twice for long.

use std::hash::BuildHasher;
use std::io;
use std::net::IpAddr;

use foldhash::fast::FixedState;

/// Places that are remembered; a later one takes the place of an earlier one.
const PLACES: usize = 64;
/// So many datagrams that could have been in a train go alone before one is tried again: routes change.
const REST: u32 = 4096;
/// So many refusals without a train that was cut between them are more than single places'.
const ALL: u32 = 64;
/// Every path carries datagrams of so many bytes: `EINVAL` for shorter ones is about something else.
const SHORT: usize = 1200;

/// One place to which long enough trains are not cut.
#[derive(Clone, Copy, Debug)]
struct Place {
    to: IpAddr,
    /// The shortest datagrams that were refused, in bytes.
    segment: usize,
    /// Datagrams that still go alone.
    rest: u32,
}

/// What the kernel refused to cut.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    places: [Option<Place>; PLACES],
    /// Nothing was ever refused: the usual case, which costs one comparison.
    none: bool,
    /// The kernel cuts for nobody.
    never: bool,
    /// Refusals in a row that were not about the length.
    row: u32,
    /// Datagrams to anywhere that still go alone.
    rest: u32,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            places: [None; PLACES],
            none: true,
            never: false,
            row: 0,
            rest: 0,
        }
    }
}

impl Refusals {
    /// Whether a train of datagrams of `segment` bytes to `to` is worth the attempt.
    pub(super) fn allow(&mut self, to: IpAddr, segment: usize) -> bool {
        self.none || self.look_up(to, segment)
    }

    fn look_up(&mut self, to: IpAddr, segment: usize) -> bool {
        if self.never {
            return false;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        let place = &mut self.places[index(to)];
        let Some(known) = place.as_mut().filter(|known| known.to == to) else {
            return true;
        };
        if segment < known.segment {
            return true;
        }
        known.rest -= 1;
        if known.rest == 0 {
            *place = None;
        }
        false
    }

    /// Notes that trains were cut.
    pub(super) fn note_success(&mut self) {
        self.row = 0;
    }

    /// Notes that a train of datagrams of `segment` bytes to `to` was refused by `error`; `known` finds out
    /// whether the kernel knows of trains at all.
    pub(super) fn note(
        &mut self,
        to: IpAddr,
        segment: usize,
        error: &io::Error,
        known: impl FnOnce() -> bool,
    ) {
        if self.none && !known() {
            self.never = true;
            tracing::info!(
                "this kernel has no UDP_SEGMENT: bursts of datagrams are sent one by one"
            );
        } else if self.none {
            tracing::debug!(segment, %error, "a burst was sent as single datagrams; others may be");
        }
        self.none = false;
        match error.raw_os_error() {
            // Longer ones do not fit either. Whoever sends chooses the length, so it tells of this place only.
            Some(libc::EMSGSIZE) => self.remember(to, segment),
            Some(libc::EINVAL) if segment > SHORT => self.remember(to, segment),
            // It is about these datagrams: others of any length may go to the same place.
            Some(libc::EINVAL) => {}
            _ => {
                self.remember(to, 0);
                self.count_in_row();
            }
        }
    }

    /// No trains of datagrams of `segment` bytes or more to `to` for a while.
    fn remember(&mut self, to: IpAddr, segment: usize) {
        let place = &mut self.places[index(to)];
        let known = place.filter(|known| known.to == to);
        *place = Some(Place {
            to,
            segment: known.map_or(segment, |known| known.segment.min(segment)),
            rest: REST,
        });
    }

    fn count_in_row(&mut self) {
        self.row += 1;
        if self.row >= ALL {
            self.row = 0;
            self.rest = REST;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "less than PLACES")]
fn index(to: IpAddr) -> usize {
    (FixedState::default().hash_one(to) % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(refusals: &mut Refusals, to: &str, segment: usize, code: i32, knows: bool) {
        let error = io::Error::from_raw_os_error(code);
        refusals.note(to.parse().unwrap(), segment, &error, || knows);
    }

    fn allows(refusals: &mut Refusals, to: &str, segment: usize) -> bool {
        refusals.allow(to.parse().unwrap(), segment)
    }

    #[test]
    fn what_is_as_long_as_the_refused_does_not_go_there_again() {
        let mut refusals = Refusals::default();
        assert!(allows(&mut refusals, "192.0.2.1", 1300));
        refuse(&mut refusals, "192.0.2.1", 1300, libc::EMSGSIZE, true);
        assert!(!allows(&mut refusals, "192.0.2.1", 1300));
        assert!(!allows(&mut refusals, "192.0.2.1", 1400));
        assert!(allows(&mut refusals, "192.0.2.1", 1299));
        assert!(allows(&mut refusals, "192.0.2.2", 1400));
        refuse(&mut refusals, "192.0.2.1", 1450, libc::EMSGSIZE, true);
        assert!(!allows(&mut refusals, "192.0.2.1", 1300));
    }

    #[test]
    fn what_is_too_long_for_its_way_holds_for_no_other_place() {
        for code in [libc::EMSGSIZE, libc::EINVAL] {
            let mut refusals = Refusals::default();
            for i in 0..2 * ALL {
                refuse(&mut refusals, &format!("192.0.2.{i}"), 1472, code, true);
            }
            assert!(!allows(&mut refusals, "192.0.2.127", 1472));
            assert!(allows(&mut refusals, "198.51.100.1", 1472));
        }
    }

    #[test]
    fn short_datagrams_that_are_invalid_hold_for_no_others() {
        let mut refusals = Refusals::default();
        for segment in (1..=SHORT).rev() {
            refuse(&mut refusals, "192.0.2.1", segment, libc::EINVAL, true);
        }
        assert!(allows(&mut refusals, "192.0.2.1", 1));
        assert!(allows(&mut refusals, "198.51.100.1", 1));
        refuse(&mut refusals, "192.0.2.1", SHORT + 1, libc::EINVAL, true);
        assert!(allows(&mut refusals, "192.0.2.1", SHORT));
        assert!(!allows(&mut refusals, "192.0.2.1", SHORT + 1));
    }

    #[test]
    fn an_interface_that_cannot_cut_gets_no_trains_at_all() {
        let mut refusals = Refusals::default();
        refuse(&mut refusals, "2001:db8::1", 1300, libc::EIO, true);
        assert!(!allows(&mut refusals, "2001:db8::1", 1));
        assert!(allows(&mut refusals, "2001:db8::2", 1));
    }

    #[test]
    fn it_is_tried_again_after_a_while() {
        let mut refusals = Refusals::default();
        refuse(&mut refusals, "192.0.2.1", 1300, libc::EMSGSIZE, true);
        let refused = |_: &u32| !allows(&mut refusals, "192.0.2.1", 1300);
        assert_eq!((0..2 * REST).take_while(refused).count(), REST as usize);
    }

    #[test]
    fn a_kernel_without_trains_is_asked_once() {
        let mut refusals = Refusals::default();
        refuse(&mut refusals, "192.0.2.1", 1300, libc::EINVAL, false);
        for _ in 0..3 * REST {
            assert!(!allows(&mut refusals, "192.0.2.2", 1));
        }
    }

    #[test]
    fn many_refusals_in_a_row_hold_for_all_places_for_a_while() {
        for succeeds in [false, true] {
            let mut refusals = Refusals::default();
            for i in 0..ALL {
                if succeeds && i == ALL / 2 {
                    refusals.note_success();
                }
                refuse(&mut refusals, &format!("192.0.2.{i}"), 100, libc::EIO, true);
            }
            assert_eq!(allows(&mut refusals, "198.51.100.1", 100), succeeds);
        }
    }
}
