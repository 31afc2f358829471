//! Messages of every kind, and what a fuzzer makes of them.

use std::fs;
use std::path::Path;

use crate::common::random::Random;

/// The committed corpus of packets.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    seeds_in(&["message", "channel_data"])
}

/// The committed corpus in `folders`.
pub(crate) fn seeds_in(folders: &[&str]) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(corpus.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A seed with some changes: bits, bytes, lengths, pieces cut out, copied or put in, or a wholly
/// random input.
pub(crate) fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if random.once_in(50) {
        return random.bytes(100);
    }
    let mut input = random.pick(seeds).clone();
    for _ in 0..=random.below(3) {
        change(&mut input, seeds, random);
    }
    if random.once_in(2) {
        mend_length(&mut input);
    }
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    if input.is_empty() {
        return input.extend(random.bytes(40));
    }
    let place = random.below(input.len());
    match random.below(8) {
        0 => input[place] ^= 1 << random.below(8),
        1 => input[place] = *random.pick(&[0, 1, 3, 4, 0x7F, 0x80, 0xFF]),
        2 => input[place] = random.byte(),
        3 => input.truncate(place),
        4 => drop(input.drain(place..(place + random.below(8)).min(input.len()))),
        5 => drop(input.splice(place..place, random.bytes(8))),
        6 => splice(input, place & !3, random.pick::<Vec<u8>>(seeds)),
        _ => input.extend(random.bytes(12)),
    }
}

/// Puts the attributes of `other` behind the first `place` bytes.
fn splice(input: &mut Vec<u8>, place: usize, other: &[u8]) {
    input.truncate(place);
    input.extend_from_slice(other.get(20..).unwrap_or_default());
}

/// Makes the length field right, so that the change is looked at and not the length.
fn mend_length(input: &mut Vec<u8>) {
    input.truncate(input.len() & !3);
    if let (true, Ok(length)) = (
        input.len() >= 20,
        u16::try_from(input.len().saturating_sub(20)),
    ) {
        input[2..4].copy_from_slice(&length.to_be_bytes());
    }
}
