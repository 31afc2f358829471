//! What `turnstone nat` found, for people and for programs.

use serde_json::json;

use crate::probe::{Behaviour, Findings};

/// One JSON object; what is not known is null.
pub(super) fn json(findings: &Findings) -> String {
    let label = |behaviour: Option<Behaviour>| behaviour.map(Behaviour::label);
    let text = |address: std::net::SocketAddr| address.to_string();
    json!({
        "server": text(findings.server),
        "alternate": findings.other.map(text),
        "local": text(findings.local),
        "mapped": text(findings.mapped),
        "nat": findings.is_behind_nat(),
        "mapping": label(findings.mapping),
        "filtering": label(findings.filtering),
        "hairpinning": findings.hairpinning,
    })
    .to_string()
}

/// One line for each thing, and what follows from it.
pub(super) fn words(findings: &Findings) -> String {
    let nat = if findings.is_behind_nat() {
        "behind a NAT"
    } else {
        "no NAT"
    };
    let mut lines = vec![
        format!("server:      {}", findings.server),
        format!("local:       {}", findings.local),
        format!("mapped:      {} ({nat})", findings.mapped),
    ];
    if findings.is_behind_nat() {
        let mapping = line(findings.mapping, mapping_means);
        lines.push(format!("mapping:     {mapping}"));
    }
    let filtering = line(findings.filtering, filtering_means);
    lines.push(format!("filtering:   {filtering}"));
    if let Some(hairpins) = findings.hairpinning {
        lines.push(format!("hairpinning: {}", hairpinning_means(hairpins)));
    }
    if let Some(verdict) = verdict(findings) {
        lines.push(String::new());
        lines.push(verdict.to_owned());
    }
    lines.join("\n")
}

fn line(behaviour: Option<Behaviour>, means: fn(Behaviour) -> &'static str) -> String {
    behaviour.map_or("not known".to_owned(), |behaviour| {
        format!("{behaviour} ({})", means(behaviour))
    })
}

const fn mapping_means(mapping: Behaviour) -> &'static str {
    match mapping {
        Behaviour::EndpointIndependent => "everybody sees the same address and port",
        Behaviour::AddressDependent => "each remote address sees another port",
        Behaviour::AddressAndPortDependent => {
            "each remote address and port sees another port; \"symmetric\""
        }
    }
}

const fn filtering_means(filtering: Behaviour) -> &'static str {
    match filtering {
        Behaviour::EndpointIndependent => "packets are let in from everybody",
        Behaviour::AddressDependent => "packets are let in from addresses that were sent to",
        Behaviour::AddressAndPortDependent => {
            "packets are let in from addresses and ports that were sent to"
        }
    }
}

const fn hairpinning_means(hairpins: bool) -> &'static str {
    if hairpins {
        "yes (two hosts behind the NAT reach each other by its outside)"
    } else {
        "no (two hosts behind the NAT do not reach each other by its outside)"
    }
}

/// What it means for calls between browsers.
fn verdict(findings: &Findings) -> Option<&'static str> {
    Some(match (findings.mapping?, findings.filtering?) {
        (Behaviour::EndpointIndependent, Behaviour::EndpointIndependent) => {
            "Direct connections succeed with nearly every peer."
        }
        (Behaviour::EndpointIndependent, _) => {
            "Direct connections succeed, unless the peer is behind a NAT whose mapping is not \
             endpoint-independent: then a TURN relay is needed."
        }
        (_, _) => {
            "Direct connections succeed only with peers that let packets in from everywhere or from \
             the address that was sent to: for all others a TURN relay is needed."
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        Findings {
            server: "192.0.2.10:3478".parse().unwrap(),
            other: Some("192.0.2.11:3479".parse().unwrap()),
            local: "10.0.0.2:4000".parse().unwrap(),
            mapped: "203.0.113.1:40000".parse().unwrap(),
            mapping: Some(Behaviour::AddressAndPortDependent),
            filtering: Some(Behaviour::AddressDependent),
            hairpinning: Some(false),
        }
    }

    #[test]
    fn words_name_each_behaviour_and_what_follows() {
        let text = words(&findings());
        for part in [
            "mapped:      203.0.113.1:40000 (behind a NAT)",
            "mapping:     address-and-port-dependent (",
            "filtering:   address-dependent (",
            "hairpinning: no (",
            "a TURN relay is needed",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn without_a_nat_there_is_nothing_to_map() {
        let findings = Findings {
            mapped: findings().local,
            hairpinning: None,
            ..findings()
        };
        let text = words(&findings);
        assert!(text.contains("(no NAT)"), "{text}");
        assert!(!text.contains("mapping:") && !text.contains("hairpinning:"));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let findings = Findings {
            other: None,
            mapping: None,
            filtering: None,
            ..findings()
        };
        let value: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(value["mapping"], json!(null));
        assert_eq!(value["nat"], json!(true));
        assert!(words(&findings).contains("filtering:   not known"));
    }
}
