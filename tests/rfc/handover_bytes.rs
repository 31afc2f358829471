//! The bytes of a handover: other versions, other shards, and bytes that nobody wrote.

use serde_json::{Value, json};
use turnstone::turn::{Flaw, Handover, HandoverError, Imported, Problem};

use crate::common::random::Random;
use crate::common::{World, additional_family, requested_transport, udp};
use crate::dialogue::{ask, client, peer, reaches, seconds};
use crate::mobility::{come, depart, elsewhere, mobile};
use turnstone::stun::Method;

/// A world with something of everything.
fn rich() -> World {
    let mut world = World::new(mobile());
    let attributes = [requested_transport(17), additional_family(2)];
    assert_eq!(ask(&mut world, Method::ALLOCATE, &attributes).code(), None);
    assert_eq!(world.permit(client(), peer()).code(), None);
    assert_eq!(world.bind_channel(client(), 0x4001, peer()).code(), None);
    let (_, ticket) = depart(&mut world, udp("203.0.113.20:1"));
    assert_eq!(come(&mut world, elsewhere(), &ticket).code(), None);
    crate::reservation::reserve(&mut world, udp("203.0.113.20:2"));
    world
}

fn fresh(old: &World) -> World {
    let mut group = World::successors(std::slice::from_ref(old), mobile(), 77);
    group.pop().unwrap()
}

/// The lines of a handover.
fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn bytes(lines: &[Value]) -> Vec<u8> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    lines.join("\n").into_bytes()
}

/// What is taken in when `change` has changed the lines.
fn changed(change: impl FnOnce(&mut Vec<Value>)) -> (World, Imported) {
    let old = rich();
    let mut all = lines(&old.export());
    change(&mut all);
    let mut new = fresh(&old);
    let imported = new.import(&bytes(&all));
    (new, imported)
}

/// Sets a field, which may be missing.
fn set(record: &mut Value, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = record.pointer_mut(parent).expect(pointer);
    match field.parse::<usize>() {
        Ok(place) => parent[place] = value,
        Err(_) => parent[field] = value,
    }
}

/// The line of the usual client's allocation.
fn usual(lines: &mut [Value]) -> (usize, &mut Value) {
    let mut all = (1..).zip(lines).skip(1);
    let place = all.find(|(_, line)| line["allocation"]["from"]["client"] == "203.0.113.7:4000");
    let (line, value) = place.unwrap();
    (line, &mut value["allocation"])
}

#[test]
fn all_of_it_is_taken_in() {
    let (_, imported) = changed(|_| {});
    let wanted = Imported {
        allocations: 3,
        reservations: 1,
        awaited: 1,
        problems: vec![],
    };
    assert_eq!(imported, wanted);
}

/// Another version may write more: what is not known is ignored.
#[test]
fn unknown_fields_are_ignored() {
    fn add(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.values_mut().for_each(add);
            // An enum has one field, its variant.
            if fields.len() > 1 {
                fields.insert("novelty".into(), json!({ "deep": [1, null] }));
            }
        }
        if let Value::Array(all) = value {
            all.iter_mut().for_each(add);
        }
    }
    let (mut new, imported) = changed(|lines| lines.iter_mut().for_each(add));
    assert_eq!((imported.allocations, imported.problems), (3, vec![]));
    assert!(reaches(&mut new, peer()));
}

/// An older version may write less: what can be missing has a default.
#[test]
fn missing_fields_have_defaults() {
    let (mut new, imported) = changed(|lines| {
        lines[0].as_object_mut().unwrap().remove("mobile_ids");
        let (_, usual) = usual(lines);
        let usual = usual.as_object_mut().unwrap();
        for field in ["permissions", "channels"] {
            usual.remove(field).unwrap();
        }
        let origin = usual["origin"].as_object_mut().unwrap();
        origin.retain(|field, _| ["transaction", "lifetime"].contains(&field.as_str()));
    });
    assert_eq!((imported.allocations, imported.problems), (3, vec![]));
    assert!(new.server.has_allocation(&client()) && !reaches(&mut new, peer()));
    new.pass(seconds(600));
    assert!(new.shared.is_idle());
}

/// A kind of record that only a newer version knows is told, by its line.
#[test]
fn unknown_records_are_told() {
    let (_, imported) = changed(|lines| lines.insert(2, json!({ "wormhole": {} })));
    let problem = Problem {
        line: 3,
        flaw: Flaw::Unreadable,
    };
    assert_eq!(
        (imported.allocations, imported.problems),
        (3, vec![problem])
    );
}

#[test]
fn a_newer_format_is_an_error_that_says_so() {
    let mut all = lines(&rich().export());
    all[0] = json!({ "format": 2, "all": "is different" });
    let error = Handover::from_bytes(&bytes(&all)).unwrap_err();
    assert_eq!(error, HandoverError::Format { found: 2, known: 1 });
    assert!(error.to_string().contains("format 2"), "{error}");
    for head in [&b""[..], b"\n", b"{}", b"[1]", b"\xFF", b"{\"format\":1}"] {
        let error = Handover::from_bytes(head).map(drop);
        assert_eq!(error, Err(HandoverError::Head));
    }
}

#[test]
fn another_shards_state_is_refused_and_changes_nothing() {
    let old = rich();
    let handover = Handover::from_bytes(&old.export()).unwrap();
    let mut group = World::group(mobile(), 2, 9);
    for (shard, world) in (0..).zip(&mut group) {
        let error = world.server.import(world.now, &handover);
        let (found, here) = ((0, 1), (shard, 2));
        assert_eq!(error, Err(HandoverError::Shard { found, here }));
        assert!(world.shared.is_idle() && world.server.poll_action().is_none());
    }
}

/// Each value that cannot be is told, with its line, and costs no more than what it belongs to.
#[test]
fn invalid_values_are_told() {
    let cases = [
        (
            "/from/client",
            json!("203.0.113.7:0"),
            Flaw::Invalid("from"),
        ),
        (
            "/from/client",
            json!("[::ffff:1.2.3.4]:5"),
            Flaw::Invalid("from"),
        ),
        (
            "/from/server",
            json!("[2001:db8::10]:3478"),
            Flaw::Invalid("from"),
        ),
        ("/from/server", json!("0.0.0.0:3478"), Flaw::Invalid("from")),
        ("/from/client", json!("203.0.113.20:1"), Flaw::Taken("from")),
        (
            "/owner/username",
            json!("a".repeat(509)),
            Flaw::Invalid("username"),
        ),
        (
            "/owner/proof/password/key",
            json!("AAAA"),
            Flaw::Invalid("proof"),
        ),
        (
            "/owner/proof",
            json!({ "token": "AAAA" }),
            Flaw::Invalid("proof"),
        ),
        (
            "/person",
            json!({ "session": "AAAA" }),
            Flaw::Invalid("person"),
        ),
        (
            "/person",
            json!({ "user": "a".repeat(509) }),
            Flaw::Invalid("person"),
        ),
        (
            "/origin/transaction",
            json!("AAAA"),
            Flaw::Invalid("transaction"),
        ),
        (
            "/origin/lifetime",
            json!(1_u64 << 32),
            Flaw::Invalid("lifetime"),
        ),
        ("/origin/reserved", json!("AAAA"), Flaw::Invalid("token")),
        ("/relays", json!([]), Flaw::Invalid("relays")),
        (
            "/relays/1/local",
            json!("192.0.2.10"),
            Flaw::Invalid("relays"),
        ),
        (
            "/relays/0/public",
            json!("192.0.2.10:0"),
            Flaw::Invalid("relays"),
        ),
        ("/relays/0/left", json!(u64::MAX), Flaw::Invalid("relays")),
    ];
    for (field, value, flaw) in cases {
        let mut line = 0;
        let (new, imported) = changed(|lines| {
            // The usual client's comes last, so that the others are there.
            let place = usual(lines).0 - 1;
            let usual_line = lines.remove(place);
            lines.push(usual_line);
            let (place, usual) = usual(lines);
            line = place;
            set(usual, field, value.clone());
        });
        let problems = vec![Problem { line, flaw }];
        assert_eq!(
            (imported.allocations, imported.problems),
            (2, problems),
            "{field}"
        );
        assert!(!new.server.has_allocation(&client()), "{field}");
    }
}

/// What is wrong with one of many costs that one only.
#[test]
fn invalid_parts_are_left_out() {
    let cases = [
        (
            "/permissions/0/left",
            json!(u64::MAX),
            Flaw::Invalid("permissions"),
        ),
        ("/permissions/0/peer", json!("127.0.0.1"), Flaw::Denied),
        ("/permissions/0/peer", json!("192.0.2.77"), Flaw::Denied),
        (
            "/channels/0/number",
            json!(0x3FFF),
            Flaw::Invalid("channels"),
        ),
        (
            "/channels/0/left",
            json!(u64::MAX),
            Flaw::Invalid("channels"),
        ),
    ];
    for (field, value, flaw) in cases {
        let mut line = 0;
        let (mut new, imported) = changed(|lines| {
            let (place, usual) = usual(lines);
            line = place;
            set(usual, field, value.clone());
        });
        let problems = vec![Problem { line, flaw }];
        assert_eq!(
            (imported.allocations, imported.problems),
            (3, problems),
            "{field}"
        );
        assert!(new.server.has_allocation(&client()));
        let permitted = field.starts_with("/channels");
        assert_eq!(reaches(&mut new, peer()), permitted, "{field}");
        new.pass(seconds(600));
        assert!(new.shared.is_idle(), "{field}");
    }
}

/// The same state twice is taken in once.
#[test]
fn what_is_there_already_is_told() {
    let old = rich();
    let exported = old.export();
    let mut new = fresh(&old);
    new.import(&exported);
    let handover = Handover::from_bytes(&exported).unwrap();
    let again = new.server.import(new.now, &handover).unwrap();
    assert_eq!(
        (again.allocations, again.reservations, again.awaited),
        (0, 0, 0)
    );
    assert_eq!(again.problems.len(), 5);
    new.pass(seconds(3600));
    assert!(new.shared.is_idle());
}

/// Whatever the bytes are, nothing panics, and what was taken in goes away again.
#[test]
fn hostile_bytes_do_no_harm() {
    let exported = rich().export();
    let mut random = Random(1);
    for round in 0..200 {
        let mut bytes = exported.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        let Ok(handover) = Handover::from_bytes(&bytes) else {
            continue;
        };
        let _ = (handover.sockets().count(), format!("{handover:?}"));
        let mut new = World::new(mobile());
        new.any_socket = true;
        if new.server.import(new.now, &handover).is_err() {
            continue;
        }
        new.settle();
        new.send(client(), b"\x40\x01\x00\x00");
        new.pass(seconds(1 << 33));
        assert!(
            new.relays.is_empty() && new.shared.is_idle(),
            "round {round}"
        );
        assert_eq!(new.server.poll_timeout(), None, "round {round}");
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(bytes.len());
    match random.below(5) {
        0 => bytes[place] ^= 1 << random.below(8),
        1 => bytes[place] = *random.pick(b"0123456789:.,[]{}\"\n-"),
        2 => drop(bytes.remove(place)),
        3 => bytes.truncate(place + 1),
        _ => {
            // A line twice, or one in the place of another.
            let mut all: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            let (from, to) = (random.below(all.len()), random.below(all.len()));
            all.insert(to, all[from]);
            *bytes = all.join(&b'\n');
        }
    }
}

/// Requirement S21: keys, tokens and tickets are not logged.
#[test]
fn secrets_never_show() {
    let old = rich();
    let exported = old.export();
    let handover = Handover::from_bytes(&exported).unwrap();
    let shown = format!("{handover:?}");
    assert_eq!(shown, "Handover { shard: 0, records: 5, .. }");
}
