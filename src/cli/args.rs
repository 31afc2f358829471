//! Flags and subcommands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::bench::BenchArgs;
use crate::config::{DEFAULT_REALM, parse_duration};

const EXAMPLES: &str = "\
Examples:
  turnstone
      Listen on port 3478, make a random user and print what to paste into iceServers.
  turnstone --config /etc/turnstone/turnserver.toml
      Run what the file says.
  turnstone --external-ip 203.0.113.5 --user alice:correct-horse
      Run behind a 1:1 NAT with one user.
  turnstone check turnserver.toml
      Show everything that is wrong with the file.
  turnstone nat stun.example.org
      Tell how the NAT between here and that server behaves.
  turnstone bench relay turn.example.org --user alice --password correct-horse
      Load a server and tell what it delivers, how fast, and what it loses.

Every key of the file is described in turnserver.toml of the distribution.
Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// A STUN and TURN server for WebRTC.
///
/// Without a subcommand it serves until it is told to stop. Flags go over the file: --listen,
/// --external-ip and single values replace what it says; users, secrets and peer rules join it.
#[derive(Parser)]
#[command(name = "turnstone", version, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) flags: RunFlags,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    Bench(Box<BenchArgs>),
    Check(CheckArgs),
    Credential(CredentialArgs),
    /// Have a running server make no new allocations and end with the last one.
    Drain(SocketArgs),
    Key(KeyArgs),
    Nat(NatArgs),
    /// Have a running server read its configuration anew, and say what changed.
    ///
    /// When something is wrong with it, all problems are printed and nothing changes.
    Reload(SocketArgs),
    Upgrade(Box<UpgradeArgs>),
}

/// What a server is started with.
#[derive(Args, Default)]
pub(super) struct RunFlags {
    /// Read this TOML file; without it no file is read.
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Serve clients at this address and port, or at this port of all addresses; repeatable.
    /// Default: 3478.
    #[arg(long, value_name = "ADDR:PORT|PORT")]
    pub(super) listen: Vec<String>,

    /// Public address of the 1:1 NAT in front of this host, alone or with the local address it
    /// stands for; repeatable.
    #[arg(long, value_name = "IP[/LOCAL]")]
    pub(super) external_ip: Vec<String>,

    /// Let this user in; repeatable. Without a password a random one is made and printed. Other
    /// users of this machine can see the command line: passwords to keep belong in the file.
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    pub(super) user: Vec<String>,

    /// Let in whoever holds time-limited credentials of this shared secret, 1 to 1024 bytes;
    /// repeatable. Better in the environment, where other users of this machine cannot see it.
    #[arg(
        long,
        env = "TURNSTONE_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub(super) secret: Vec<String>,

    /// Realm of all users, 1 to 127 characters. Default: turnstone.
    #[arg(long, value_name = "REALM")]
    pub(super) realm: Option<String>,

    /// Relay to peers in this network though it is refused by default; repeatable.
    #[arg(long, value_name = "CIDR")]
    pub(super) allow_peer: Vec<String>,

    /// Refuse peers in this network; repeatable. The most specific rule wins, deny wins a tie.
    #[arg(long, value_name = "CIDR")]
    pub(super) deny_peer: Vec<String>,

    /// Worker threads, 1 to 1024. Default: as many as there are cores.
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<String>,

    /// Serve metrics and health over HTTP at this address, or not at all. Default: 127.0.0.1:9641.
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub(super) metrics: Option<String>,

    /// Least severe level to log: error, warn, info, debug or trace. Default: info.
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,

    /// What a log line looks like: human or json. Default: human.
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<String>,
}

/// Show everything that is wrong with a configuration file, and start nothing.
#[derive(Args)]
pub(super) struct CheckArgs {
    /// The file to check.
    #[arg(default_value = "turnserver.toml")]
    pub(super) file: PathBuf,

    /// Say also what a reload would change in the running server, and which file it reads.
    #[arg(long)]
    pub(super) running: bool,

    /// The control socket of that server. Default: that of the file, or /run/turnstone/control.sock.
    #[arg(long, value_name = "PATH", requires = "running")]
    pub(super) socket: Option<PathBuf>,
}

/// Put this program in the place of a running server without a lost call.
///
/// Give it the flags that the server was started with. It takes over the listening sockets and the
/// allocations of clients over UDP; the old process stays for its TCP, TLS and DTLS clients until they
/// have left, or [drain] upgrade_limit has passed. When anything is wrong, the old one goes on as it was.
#[derive(Args)]
pub(super) struct UpgradeArgs {
    #[command(flatten)]
    pub(super) flags: RunFlags,

    /// The control socket of the running server. Default: that of the file, or
    /// /run/turnstone/control.sock.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,

    /// Be the new server, in place of starting it and returning when it serves.
    #[arg(long)]
    pub(super) foreground: bool,

    /// Only have the running server read its configuration anew if it was started from this very file.
    #[arg(long)]
    pub(super) or_reload: bool,

    /// Start the server and end.
    #[arg(long, hide = true)]
    pub(super) detach: bool,

    /// Be the server that this process started, and tell whoever is at the other end of standard input.
    #[arg(long, hide = true, value_name = "PID", requires = "foreground")]
    pub(super) detached_by: Option<u32>,
}

/// How to reach a running server: by its control socket.
#[derive(Args)]
pub(super) struct SocketArgs {
    /// The control socket of the server. Default: that of the file, or /run/turnstone/control.sock.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,

    /// The configuration file of the server, for the name of its socket.
    #[arg(long, short, value_name = "FILE", conflicts_with = "socket")]
    pub(super) config: Option<PathBuf>,
}

/// Print credentials and a ready iceServers JSON for a WebRTC application.
///
/// With a shared secret (--secret, TURNSTONE_SECRET or of the file) they are time-limited. A static
/// user of the file is printed with its password, unless --ttl or --secret ask otherwise. With --oauth
/// they are an access token (RFC 7635) instead, as an authorization server makes them: for tests.
#[derive(Args, Default)]
pub(super) struct CredentialArgs {
    /// Whom the credentials are for. With --oauth: the id of the key to seal the token with; default
    /// the first one of the file.
    #[arg(long, value_name = "NAME", required_unless_present = "oauth")]
    pub(super) user: Option<String>,

    /// How long they are good: seconds, or a number with s, m, h or d, up to 365d. Default: 1h.
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(super) ttl: Option<Duration>,

    /// The shared secret of the server.
    #[arg(
        long,
        env = "TURNSTONE_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub(super) secret: Option<String>,

    /// The configuration file of the server. Default without a secret: turnserver.toml in the
    /// working directory, if it is there.
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Name or address under which clients reach the server. Default: what the file says.
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<String>,

    /// Make an access token with a key of the file.
    #[arg(long)]
    pub(super) oauth: bool,

    /// With --oauth: the key in base64 in place of one of the file; it needs --user and --server-name.
    #[arg(long, value_name = "KEY", requires = "oauth")]
    pub(super) oauth_key: Option<String>,

    /// With --oauth-key: what the server calls itself, oauth_server_name in its file.
    #[arg(long, value_name = "NAME", requires = "oauth_key")]
    pub(super) server_name: Option<String>,

    /// Print one JSON object: username, password, expires (Unix seconds) and iceServers; with --oauth
    /// in place of the password the credential of an RTCIceServer: macKey (base64url) and accessToken.
    #[arg(long)]
    pub(super) json: bool,
}

impl CredentialArgs {
    const DEFAULT_TTL: Duration = Duration::from_secs(3600);

    /// How long they are good.
    pub(super) fn lifetime(&self) -> Duration {
        self.ttl.unwrap_or(Self::DEFAULT_TTL)
    }
}

/// Print a user for the configuration file with a stored key in place of the password.
#[derive(Args)]
pub(super) struct KeyArgs {
    /// Name of the user, 1 to 508 bytes.
    #[arg(long, value_name = "NAME")]
    pub(super) user: String,

    /// Realm of the server; a stored key is good in this one only.
    #[arg(long, default_value = DEFAULT_REALM, value_name = "REALM")]
    pub(super) realm: String,

    /// The password. Without it, it is read as one line from standard input, where other users of
    /// this machine cannot see it.
    #[arg(long, value_name = "PASSWORD")]
    pub(super) password: Option<String>,
}

/// Tell how the NAT between here and a STUN server behaves, by RFC 5780.
///
/// Says how the NAT maps and filters (endpoint-independent, address-dependent or
/// address-and-port-dependent), whether it hairpins, and what follows for WebRTC. The server needs a
/// second address; Turnstone has it with [nat_discovery] in its file. Fails when nothing answers, or
/// when the server cannot tell everything.
#[derive(Args)]
pub(super) struct NatArgs {
    /// The server: a name or address, with a port unless it is 3478.
    #[arg(value_name = "SERVER[:PORT]", default_value = "127.0.0.1")]
    pub(super) server: String,

    /// Give a request up after this time: seconds, or a number with s or m, up to 1m. Default: 39.5 s,
    /// as RFC 8489 has it; silence of a NAT is taken for an answer earlier when the server is near.
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    pub(super) timeout: Option<Duration>,

    /// Print one JSON object: server, alternate, local, mapped, nat, mapping, filtering and
    /// hairpinning; null is not known.
    #[arg(long)]
    pub(super) json: bool,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if (1..=60).contains(&timeout.as_secs()) {
        Ok(timeout)
    } else {
        Err(format!("{text:?} is out of range; write 1s to 1m"))
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    const YEAR: u64 = 365 * 24 * 3600;
    let ttl = parse_duration(text)?;
    if (1..=YEAR).contains(&ttl.as_secs()) {
        Ok(ttl)
    } else {
        Err(format!("{text:?} is out of range; write 1s to 365d"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_every_flag_with_a_sentence() {
        for flag in Cli::command().get_arguments() {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{}", flag.get_id());
        }
    }

    #[test]
    fn a_ttl_is_between_a_second_and_a_year() {
        assert_eq!(parse_ttl("1h"), Ok(Duration::from_secs(3600)));
        for text in ["0", "366d", "soon"] {
            assert!(parse_ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_repeat() {
        let cli = Cli::try_parse_from(["turnstone", "--listen", "1", "--listen", "2"]).unwrap();
        assert_eq!(cli.flags.listen, ["1", "2"]);
    }
}
