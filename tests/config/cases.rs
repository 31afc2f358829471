//! One bad file for each kind of problem.

/// A file and the whole of what is said about it, without the name of the file.
pub(crate) const CASES: &[(&str, &[&str])] = &[
    (
        "[auth]\nrelm = \"x\"",
        &[r#"2: unknown key "relm" in [auth]; did you mean "realm"?"#],
    ),
    (
        "[auth]\nports = \"1-2\"",
        &[r#"2: unknown key "ports" in [auth]; it belongs in [relay]"#],
    ),
    (
        "[log]\ncolour = true",
        &[r#"2: unknown key "colour" in [log]; the keys here are level, format"#],
    ),
    (
        "[lifetime]",
        &[r#"1: unknown section "lifetime"; did you mean [lifetimes]?"#],
    ),
    (
        "realm = \"x\"",
        &[r#"1: key "realm" stands outside of all sections; it belongs in [auth]"#],
    ),
    (
        "auth = 1",
        &["1: auth: found a whole number, expected a section; write [auth]"],
    ),
    (
        "[auth]\nusers = 1",
        &["2: auth.users: found a whole number, expected tables; write [[auth.users]]"],
    ),
    (
        "[server]\nlisten = \"0.0.0.0:1\"",
        &[r#"2: server.listen: found a string, expected an array of strings: ["...", "..."]"#],
    ),
    (
        "[server]\nlisten = []",
        &[
            "2: server.listen: no address to listen on; leave the key out for port 3478 of all addresses",
        ],
    ),
    (
        "[server]\nlisten = [\"0.0.0.0\"]",
        &[r#"2: server.listen[0]: "0.0.0.0" has no port; write "0.0.0.0:3478""#],
    ),
    (
        "[server]\nlisten = [\n\"[::]:1\",\n\"host:1\"]",
        &[
            r#"4: server.listen[1]: "host:1" is not an address and port; write "0.0.0.0:3478" or "[::]:3478""#,
        ],
    ),
    (
        "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
        &["2: server.listen[1]: 127.0.0.1:1 stands twice in server.listen; leave one"],
    ),
    (
        "[server]\nlisten = [\"224.0.0.1:1\"]",
        &[
            r#"2: server.listen[0]: "224.0.0.1:1" is a group address; write the address of one host"#,
        ],
    ),
    (
        "[server]\nlisten = [\"[::ffff:10.0.0.1]:1\"]",
        &[
            r#"2: server.listen[0]: "[::ffff:10.0.0.1]:1" is an IPv4 address in IPv6 clothes; write 10.0.0.1 instead"#,
        ],
    ),
    (
        "[server]\nudp = false\ntcp = false",
        &["2: server.udp: neither UDP nor TCP is served; set udp or tcp to true"],
    ),
    (
        "[server]\nudp = 1",
        &["2: server.udp: found a whole number, expected true or false"],
    ),
    (
        "[server]\nworkers = 0",
        &["2: server.workers: 0 is out of range; write 1 to 1024"],
    ),
    (
        "[server]\nworkers = -1",
        &["2: server.workers: -1 is negative; write a positive number"],
    ),
    (
        "[server]\nworkers = 1.5",
        &["2: server.workers: found a fraction, expected a whole number"],
    ),
    (
        "[process]\nuser = \"\"\nseccomp = \"yes\"",
        &[
            r#"2: process.user: "" is no user; name one, or leave the key out"#,
            "3: process.seccomp: found a string, expected true or false",
        ],
    ),
    (
        "[auth]\nrealm = \"\"",
        &["2: auth.realm: the realm has 0 characters; write 1 to 127 (RFC 8489 §14.9)"],
    ),
    (
        "[auth]\nrealm = \"a\\nb\"",
        &["2: auth.realm: the realm contains a control character; leave it out"],
    ),
    (
        "[auth]\nsecrets = [\"\"]",
        &["2: auth.secrets[0]: the secret is empty; make one with: openssl rand -base64 32"],
    ),
    (
        "[auth]\nsecrets = [7]",
        &["2: auth.secrets[0]: found a whole number, expected a string"],
    ),
    (
        "[auth]\nsecrets_files = [\"/does/not/exist\"]",
        &["2: auth.secrets_files[0]: /does/not/exist: no such file; create it or name another"],
    ),
    (
        "[auth]\noauth_server_name = \"turn.example.org\"",
        &[
            "2: auth.oauth_server_name: no access token can be believed without a key; add [[auth.oauth_keys]], or leave the name out",
        ],
    ),
    (
        "[auth]\noauth_server_name = \"\"\n[[auth.oauth_keys]]\nid = \"\"\nkey = \"a2tra2tra2tra2tra2traw==\"\nalgorithm = \"A128GCM\"",
        &[
            "2: auth.oauth_server_name: the name has 0 bytes; write 1 to 255",
            "4: auth.oauth_keys[0].id: the id is empty; write 1 to 508 bytes",
        ],
    ),
    (
        "[auth]\noauth_server_name = \"a\\nb\"\n[[auth.oauth_keys]]\nid = \"a\\u0000\"\nkey = \"hush\"",
        &[
            "2: auth.oauth_server_name: the name contains a control character; leave it out",
            "4: auth.oauth_keys[0].id: the id contains a NUL character; leave it out",
            "5: auth.oauth_keys[0].key: the key has 3 bytes, A256GCM takes 32; make one with: openssl rand -base64 32",
        ],
    ),
    (
        "[[auth.oauth_keys]]\nid = \"a\"\nkey = \"a2tra2tra2tra2tra2traw==\"\nalgorithm = \"A128GCM\"",
        &[
            r#"1: auth.oauth_keys[0]: tokens are made for a server by name; add to [auth]: oauth_server_name = "...""#,
        ],
    ),
    (
        "[auth]\noauth_server_name = \"s\"\n[[auth.oauth_keys]]\n[[auth.oauth_keys]]\nid = \"b\"\nkey = \"not base 64\"\n[[auth.oauth_keys]]\nid = \"c\"\nkey = \"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\"\nalgorithm = \"A128GCM\"",
        &[
            r#"3: auth.oauth_keys[0]: the key has no id; add: id = "...""#,
            r#"3: auth.oauth_keys[0]: the key is not there; add: key = "...""#,
            "6: auth.oauth_keys[1].key: the key is not base64; make one with: openssl rand -base64 32",
            "9: auth.oauth_keys[2].key: the key has 32 bytes, A128GCM takes 16; make one with: openssl rand -base64 16",
        ],
    ),
    (
        "[auth]\noauth_server_name = \"s\"\n[[auth.oauth_keys]]\nid = \"a\"\nkey = \"a2tra2tra2tra2tra2traw==\"\nalgorithm = \"A128CBC\"",
        &[
            r#"6: auth.oauth_keys[0].algorithm: "A128CBC" seals no access token; write "A256GCM" or "A128GCM" (RFC 7635 §4.1.1)"#,
        ],
    ),
    (
        "[auth]\noauth_server_name = \"s\"\n[[auth.oauth_keys]]\nid = \"a\"\nkey = \"a2tra2tra2tra2tra2traw==\"\nalgorithm = \"A128GCM\"\n[[auth.oauth_keys]]\nid = \"a\"\nkey = \"a2tra2tra2tra2tra2traw==\"\nalgorithm = \"A128GCM\"",
        &[r#"8: auth.oauth_keys[1].id: a second key "a"; leave one of them"#],
    ),
    (
        "[[auth.users]]\npassword = \"b\"",
        &[r#"1: auth.users[0]: the user has no name; add: name = "...""#],
    ),
    (
        "[[auth.users]]\nname = \"\"\npassword = \"b\"",
        &["2: auth.users[0].name: the name is empty; write 1 to 508 bytes"],
    ),
    (
        "[[auth.users]]\nname = \"a\\u0000\"\npassword = \"b\"",
        &["2: auth.users[0].name: the name contains a NUL character; leave it out"],
    ),
    (
        "[[auth.users]]\nname = \"a\"",
        &["1: auth.users[0]: the user has neither password nor key; add one of the two"],
    ),
    (
        "[[auth.users]]\nname = \"a\"\npassword = \"\"",
        &["3: auth.users[0].password: the password has 0 bytes; write 1 to 1024"],
    ),
    (
        "[[auth.users]]\nname = \"a\"\nkey = \"0xyz\"",
        &[
            "3: auth.users[0].key: not a stored key, which is 32 hexadecimal digits; make one with: turnstone key --user NAME",
        ],
    ),
    (
        "[[auth.users]]\nname = \"a\"\nkey_sha256 = \"00\"",
        &[
            "3: auth.users[0].key_sha256: not a stored key, which is 64 hexadecimal digits; make one with: turnstone key --user NAME",
        ],
    ),
    (
        "[auth]\nalgorithms = []",
        &["2: auth.algorithms: nobody can sign in; write at least one algorithm"],
    ),
    (
        "[auth]\nalgorithms = [\"md5\", \"MD5\", \"SHA-1\"]",
        &[
            r#"2: auth.algorithms[2]: "SHA-1" is no password algorithm; write "SHA-256" or "MD5""#,
            "2: auth.algorithms[1]: MD5 stands there twice; leave one",
        ],
    ),
    (
        "[auth]\nalgorithms = [\"SHA-256\"]\n[[auth.users]]\nname = \"a\"\nkey = \"00112233445566778899aabbccddeeff\"",
        &[
            r#"2: auth.algorithms[0]: the user "a" has no key for SHA-256; make one with: turnstone key --user NAME"#,
        ],
    ),
    (
        "[auth]\nuserhash = true\nsecrets = [\"north-wind-and-sun\"]",
        &[
            "2: auth.userhash: names of time-limited credentials cannot be found by their hash; leave userhash out, or the secrets",
        ],
    ),
    (
        "[[auth.users]]\nname = \"a\"\npassword = \"b\"\nkey = \"00\"",
        &["4: auth.users[0].key: the user has a password as well; leave one of the two"],
    ),
    (
        "[[auth.users]]\nname = \"a\"\npassword = \"b\"\n[[auth.users]]\nname = \"a\"\npassword = \"c\"",
        &[r#"5: auth.users[1].name: a second user "a"; leave one of them"#],
    ),
    (
        "[auth]\nsecrets = [\"north-wind-and-sun\"]\n[[auth.users]]\nname = \"1234567890:a\"\npassword = \"b\"",
        &[
            r#"4: auth.users[0].name: "1234567890:a" reads as a time-limited username, which the secrets speak for; begin it with a letter"#,
        ],
    ),
    (
        "[[auth.users]]\nname = \"a\"\npasword = \"b\"",
        &[
            "1: auth.users[0]: the user has neither password nor key; add one of the two",
            r#"3: unknown key "pasword" in [auth.users]; did you mean "password"?"#,
        ],
    ),
    (
        "[relay]\naddresses = [\"0.0.0.0\"]",
        &[
            r#"2: relay.addresses[0]: "0.0.0.0" names no address; leave the list empty to relay from the address that the client reached"#,
        ],
    ),
    (
        "[relay]\naddresses = [\"ff02::1\"]",
        &[r#"2: relay.addresses[0]: "ff02::1" is a group address; write the address of one host"#],
    ),
    (
        "[relay]\naddresses = [\"192.0.2.1\", \"192.0.2.1\"]",
        &["2: relay.addresses[1]: 192.0.2.1 stands twice in relay.addresses; leave one"],
    ),
    (
        "[relay]\nexternal = [\"x\"]",
        &[
            r#"2: relay.external[0]: "x" is not an IP address; write one like "203.0.113.5" or "2001:db8::5""#,
        ],
    ),
    (
        "[relay]\nexternal = [\"203.0.113.5/::1\"]",
        &[
            r#"2: relay.external[0]: "203.0.113.5/::1" mixes IPv4 and IPv6; a NAT maps within one family: write "PUBLIC/LOCAL" of one"#,
        ],
    ),
    (
        "[relay]\nexternal = [\"203.0.113.5\", \"203.0.113.6\"]",
        &["2: relay.external[1]: a second public address for every local address; leave one"],
    ),
    (
        "[relay]\nexternal = [\"203.0.113.5/10.0.0.1\", \"203.0.113.6/10.0.0.1\"]",
        &["2: relay.external[1]: a second public address for 10.0.0.1; leave one"],
    ),
    (
        "[relay]\nports = \"6000-5000\"",
        &[r#"2: relay.ports: 6000 is over 5000; write "5000-6000""#],
    ),
    (
        "[relay]\nports = \"1000-5000\"",
        &["2: relay.ports: port 1000 is reserved for services; begin at 1024 or above"],
    ),
    (
        "[relay]\nports = 5000",
        &["2: relay.ports: found a whole number, expected a string"],
    ),
    (
        "[server]\nworkers = 4\n[relay]\nports = \"5000-5006\"",
        &["4: relay.ports: 7 ports for 4 workers; widen the range to 8 or set fewer workers"],
    ),
    (
        "[relay]\nipv4 = false\nipv6 = false",
        &["2: relay.ipv4: neither IPv4 nor IPv6 is relayed; set ipv4 or ipv6 to true"],
    ),
    (
        "[relay]\nipv6 = false\naddresses = [\"2001:db8::1\"]",
        &["2: relay.ipv6: switches off the family of 2001:db8::1 in relay.addresses; remove one"],
    ),
    (
        "[peers]\nallow = [\"10.1.2.3/8\"]",
        &[r#"2: peers.allow[0]: "10.1.2.3/8" has bits set behind the prefix; write "10.0.0.0/8""#],
    ),
    (
        "[peers]\ndeny = [\"2001:db8::1/32\"]",
        &[
            r#"2: peers.deny[0]: "2001:db8::1/32" has bits set behind the prefix; write "2001:db8::/32""#,
        ],
    ),
    (
        "[peers]\ndeny = [\"10.0.0.0/33\"]",
        &[
            r#"2: peers.deny[0]: "10.0.0.0/33" has a wrong prefix length; write 0 to 32 behind an IPv4 address, 0 to 128 behind an IPv6 one"#,
        ],
    ),
    (
        "[peers]\ndeny = [\"all\"]",
        &[
            r#"2: peers.deny[0]: "all" is not a network; write one like "10.0.0.0/8", or one address"#,
        ],
    ),
    (
        "[lifetimes]\nnonce = \"2h\"",
        &["2: lifetimes.nonce: 2h is out of range; write 1s to 1h"],
    ),
    (
        "[lifetimes]\nchannel = 0",
        &["2: lifetimes.channel: 0 is out of range; write 1s to 1h"],
    ),
    (
        "[lifetimes]\nallocation = \"soon\"",
        &[r#"2: lifetimes.allocation: "soon" is not a time; write seconds, or "90s", "10m", "1h""#],
    ),
    (
        "[lifetimes]\nallocation = \"2h\"",
        &[
            "2: lifetimes.allocation: allocation (2h) is over allocation_max (1h); set allocation_max to 2h or more",
        ],
    ),
    (
        "[lifetimes]\nallocation_max = 60",
        &[
            "2: lifetimes.allocation_max: allocation (10m) is over allocation_max (1m); set allocation_max to 10m or more",
        ],
    ),
    (
        "[limits]\nallocations_per_user = 0",
        &["2: limits.allocations_per_user: 0 is out of range; write 1 to 4294967295"],
    ),
    (
        "[limits]\nreflection_bytes_per_second = \"4MB\"",
        &[
            r#"2: limits.reflection_bytes_per_second: "4MB" is not a size; write bytes, or "64KiB", "4MiB""#,
        ],
    ),
    (
        "[bandwidth]\ntotal = \"2Mb\"",
        &[
            r#"2: bandwidth.total: "2Mb" is not a bandwidth; write bits per second, or "500kbit", "2Mbit""#,
        ],
    ),
    (
        "[bandwidth]\ntotal = 7999",
        &["2: bandwidth.total: 7999 is out of range; write 8kbit to 1000Gbit"],
    ),
    (
        "[limits]\nallocations = 99999999999999999999999",
        &["2: limits.allocations: 18446744073709551615 is out of range; write 0 to 4294967295"],
    ),
    (
        "[streams]\nmedia_age = \"5ms\"",
        &["2: streams.media_age: 5ms is out of range; write 10ms to 10s"],
    ),
    (
        "[streams]\nmedia_age = \"1m\"",
        &[r#"2: streams.media_age: "1m" is not a time; write "300ms" or "2s""#],
    ),
    (
        "[streams]\nproxy_protocol_from = [\"10.0.0.1/8\", \"10.0.0.1\", \"10.0.0.1\"]",
        &[
            r#"2: streams.proxy_protocol_from[0]: "10.0.0.1/8" has bits set behind the prefix; write "10.0.0.0/8""#,
            "2: streams.proxy_protocol_from[2]: 10.0.0.1/32 stands twice in streams.proxy_protocol_from; leave one",
        ],
    ),
    (
        "[upstream]",
        &["1: upstream: found a table, expected tables; write [[upstream]]"],
    ),
    (
        "[[upstream]]\ntls = \"off\"\nplain = true\nport = 1",
        &[
            "1: upstream[0]: says not where to; add: to = \"127.0.0.1:8080\"",
            r#"4: unknown key "port" in [upstream]; the keys here are server_names, to, tls, plain, http2, proxy_protocol, connect_timeout, idle_after"#,
        ],
    ),
    (
        "[[upstream]]\nto = \"web:80\"\ntls = \"on\"\nserver_names = [\"192.0.2.1\"]",
        &[
            r#"2: upstream[0].to: "web:80" is neither address and port nor Unix socket; write "127.0.0.1:8080" or "unix:/run/web.sock""#,
            r#"3: upstream[0].tls: "on" is not known; write terminate, pass or off"#,
            r#"4: upstream[0].server_names[0]: "192.0.2.1" is an address, which clients never send; write a name"#,
        ],
    ),
    (
        "[[upstream]]\nto = \"127.0.0.1:3478\"\ntls = \"off\"\nplain = true",
        &[
            "2: upstream[0].to: is where clients are served, so that connections would come back; name the web server's own port",
        ],
    ),
    (
        "[[upstream]]\nto = \"127.0.0.1:1\"",
        &[
            r#"1: upstream[0]: TLS can end here only with a certificate; add [tls] with one, or set tls to "pass" or "off""#,
        ],
    ),
    (
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"pass\"\nhttp2 = true",
        &[
            r#"3: upstream[0].tls: TLS is passed on by name, and there is none; add: server_names = ["www.example.org"]"#,
            r#"4: upstream[0].http2: is offered in TLS that ends here; leave it out, or set tls to "terminate""#,
        ],
    ),
    (
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"off\"\nserver_names = [\"a.example\"]",
        &[
            r#"3: upstream[0].tls: nothing goes there; set plain to true, or tls to "terminate" or "pass""#,
            r#"4: upstream[0].server_names: only TLS connections have a name; leave it out, or tls = "off""#,
        ],
    ),
    (
        "[server]\ntcp = false\n[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"off\"\nplain = true",
        &[
            "6: upstream[0].plain: no connection comes without TLS; set server.tcp to true, or plain to false",
        ],
    ),
    (
        "[[upstream]]\nto = \"127.0.0.1:1\"\ntls = \"pass\"\nserver_names = [\"a.example\"]\nplain = true\n\
         [[upstream]]\nto = \"127.0.0.1:2\"\ntls = \"pass\"\nserver_names = [\"A.example.\"]\nplain = true",
        &[
            "9: upstream[1].server_names[0]: a.example stands there twice; leave one",
            "10: upstream[1].plain: a second upstream for plain connections; leave one",
        ],
    ),
    (
        "[buffers]\nrelay = \"1GiB\"",
        &["2: buffers.relay: 1GiB is out of range; write 64KiB to 64MiB"],
    ),
    (
        "[metrics]\nlisten = \"127.0.0.1\"",
        &[r#"2: metrics.listen: "127.0.0.1" has no port; write "127.0.0.1:9641" or "off""#],
    ),
    (
        "[metrics]\nlisten = \"yes\"",
        &[
            r#"2: metrics.listen: "yes" is not an address and port; write "127.0.0.1:9641" or "off""#,
        ],
    ),
    (
        "[metrics]\nlisten = \"127.0.0.1:3478\"",
        &[
            "2: metrics.listen: 127.0.0.1:3478 is where clients are served over TCP; take another port",
        ],
    ),
    (
        "[nat_discovery]\nalternate_address = \"192.0.2.11\"",
        &[
            r#"2: nat_discovery.alternate_address: needs another single IPv4 address in server.listen, and clients reach all of them now; write: listen = ["ADDRESS:3478"]"#,
        ],
    ),
    (
        "[server]\nlisten = [\"192.0.2.11:3478\"]\n[nat_discovery]\nalternate_address = \"192.0.2.11\"",
        &[
            r#"4: nat_discovery.alternate_address: needs another single IPv4 address in server.listen; write: listen = ["ADDRESS:3478"]"#,
        ],
    ),
    (
        "[nat_discovery]\nalternate_port = 3479",
        &[
            "2: nat_discovery.alternate_port: says nothing without alternate_address; add the second address of this host",
        ],
    ),
    (
        "[server]\nlisten = [\"192.0.2.10:3479\"]\n[nat_discovery]\nalternate_address = \"192.0.2.11\"",
        &[
            "4: nat_discovery.alternate_address: 192.0.2.10:3479 has the alternate port already; set alternate_port to another",
        ],
    ),
    (
        "[server]\nlisten = [\"192.0.2.10:0\"]\n[nat_discovery]\nalternate_address = \"192.0.2.11\"",
        &[
            "4: nat_discovery.alternate_address: 192.0.2.10:0 in server.listen names no port; write one",
        ],
    ),
    (
        "[server]\nudp = false\nlisten = [\"192.0.2.10:3478\"]\n[nat_discovery]\nalternate_address = \"192.0.2.11\"",
        &[
            "5: nat_discovery.alternate_address: works over UDP only; set server.udp to true, or leave it out",
        ],
    ),
    (
        "[server]\nlisten = [\"192.0.2.10:3478\"]\n[relay]\nexternal = [\"203.0.113.5\"]\n[nat_discovery]\nalternate_address = \"192.0.2.11\"",
        &[
            r#"6: nat_discovery.alternate_address: relay.external shows 192.0.2.10 and 192.0.2.11 as one address; name both: external = ["PUBLIC/192.0.2.10", "PUBLIC/192.0.2.11"]"#,
        ],
    ),
    (
        "[nat_discovery]\nalternate_address = \"0.0.0.0\"",
        &[
            r#"2: nat_discovery.alternate_address: "0.0.0.0" names no address; write the address itself"#,
        ],
    ),
    (
        "[redirect]\nservers = [\"198.51.100.7\"]",
        &[
            r#"2: redirect.servers[0]: "198.51.100.7" is not an address and port; write "198.51.100.7:3478" or "[2001:db8::7]:3478""#,
        ],
    ),
    (
        "[redirect]\nservers = [\"0.0.0.0:3478\", \"198.51.100.7:0\"]",
        &[
            r#"2: redirect.servers[0]: "0.0.0.0:3478" names no server; write its address and port"#,
            r#"2: redirect.servers[1]: "198.51.100.7:0" names no server; write its address and port"#,
        ],
    ),
    (
        "[redirect]\nservers = [\"198.51.100.7:1\", \"198.51.100.7:1\"]",
        &["2: redirect.servers[1]: 198.51.100.7:1 stands twice in redirect.servers; leave one"],
    ),
    (
        "[server]\nlisten = [\"198.51.100.7:3478\"]\n[redirect]\nservers = [\"198.51.100.7:3478\"]",
        &[
            "4: redirect.servers[0]: 198.51.100.7:3478 is where this server listens; name another server",
        ],
    ),
    (
        "[redirect]\nservers = [\"198.51.100.7:3478\"]\ndomain = \"turn2.example.org\"",
        &[
            "3: redirect.domain: is for clients over TLS and says nothing without tls_servers; add them",
        ],
    ),
    (
        "[redirect]\ntls_servers = [\"198.51.100.7:5349\"]\ndomain = \"-turn2.example\"",
        &[
            r#"3: redirect.domain: "-turn2.example" is not a domain name; write one like "turn2.example.org""#,
        ],
    ),
    (
        "[log]\nlevel = \"loud\"",
        &[r#"2: log.level: "loud" is not a level; write error, warn, info, debug or trace"#],
    ),
    (
        "[log]\nformat = \"xml\"",
        &[r#"2: log.format: "xml" is not a format; write human or json"#],
    ),
    (
        "[server]\nudp = \ntcp = 3",
        &[
            "2:7: not TOML here: string values must be quoted, expected literal string",
            "3: server.tcp: found a whole number, expected true or false",
        ],
    ),
    (
        "[log]\nlevel = \"info\"\nlevel = \"warn\"",
        &["3:1: not TOML here: duplicate key"],
    ),
    (
        "[tls]\nlisten = [\"0.0.0.0:5349\"]",
        &[
            "2: tls.listen: TLS needs a certificate; add a section [[tls.certificates]] with chain and key",
        ],
    ),
    (
        "[tls]\nchain = \"a\"",
        &[r#"2: unknown key "chain" in [tls]; it belongs in [tls.certificates]"#],
    ),
    (
        "[tls]\nkey = \"a\"",
        &[r#"2: unknown key "key" in [tls]; it belongs in [tls.certificates]"#],
    ),
    (
        "[[tls.certificates]]\nchain = 7",
        &[
            r#"1: tls.certificates[0]: the certificate has no key; add: key = "FILE""#,
            "2: tls.certificates[0].chain: found a whole number, expected a string",
        ],
    ),
    (
        "[[tls.certificates]]\nchain = \"/does/not/exist\"\nkey = \"/nor/this\"",
        &[
            "2: tls.certificates[0].chain: /does/not/exist: no such file; create it or name another",
            "3: tls.certificates[0].key: /nor/this: no such file; create it or name another",
        ],
    ),
];
