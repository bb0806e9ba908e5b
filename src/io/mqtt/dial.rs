//! Making a connection to a broker, and waiting before the next try.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::tokio_rustls::TlsConnector;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock::within;
use crate::io::Identity;
use crate::io::file::words;
use crate::io::props::Secret;
use crate::io::tls::{self, Peer, Tls};

use super::hello::{Greeting, Hello};
use super::wire::{Packet, Stream, Version, Wire};

/// Seconds after which the broker must have heard of us.
pub(super) const KEEP_ALIVE: u16 = 30;

/// How long the socket, and then the broker, may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long someone who drops a rule waits for the broker, which can be told later.
const FORGETTING: Duration = Duration::from_secs(2);

const BROKER: Peer = Peer { who: "the broker", address: "server", plain: "tcp://" };

/// How long the broker may be silent while something waits for it.
const SILENCE: Duration = Duration::from_secs(10);

/// What comes before the broker has been silent for too long: silent while this process could hear it. When the process was
/// stopped for a minute, or the machine slept, timers are due before the sockets are looked at, and a broker whose
/// confirmations lie there unread would be sent everything again.
pub(super) async fn unless_silent<T>(what: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    heard(SILENCE, what).await
}

async fn heard<T>(limit: Duration, what: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match within(limit, what).await {
        Some(done) => done.map_err(|error| lost(&error)),
        None => Err(format!("the broker has not answered for {} s", limit.as_secs_f64())),
    }
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

/// All that it takes to connect, again and again.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) address: Address,
    pub(super) version: Version,
    pub(super) client_id: String,
    /// The client id was made up and stands for this connection alone.
    pub(super) is_chance: bool,
    /// The broker keeps the session when we are away.
    pub(super) keeps_session: bool,
    /// MQTT 5: seconds for which it does.
    pub(super) session_expiry: u32,
    pub(super) receive_maximum: u16,
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) tls: Option<Tls>,
}

impl Address {
    /// From `tcp://host:1883` and its like; else says what was expected.
    pub(super) fn parse(text: &str) -> Result<Address, &'static str> {
        const EXPECTED: &str = "an address such as `tcp://host:1883` or `ssl://host:8883`";
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "tcp" | "mqtt" => false,
            "ssl" | "tls" | "mqtts" | "tcps" => true,
            "ws" | "wss" => return Err("an address by TCP such as `tcp://host:1883`, for there are no web sockets"),
            _ => return Err(EXPECTED),
        };
        let rest = rest.trim_end_matches('/');
        let default = if tls { 8883 } else { 1883 };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            None => default,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(EXPECTED)?,
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(EXPECTED);
        }
        Ok(Address { tls, host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "ssl" } else { "tcp" };
        let bracket = self.host.contains(':');
        let (open, close) = if bracket { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl Dialer {
    /// By what the broker knows one client from another.
    pub(super) fn identity(&self) -> Option<Identity> {
        let Dialer { address: Address { host, port, .. }, client_id, .. } = self;
        let host = match host.to_ascii_lowercase() {
            host if ["localhost", "::1"].contains(&host.as_str()) => "127.0.0.1".to_owned(),
            host => host,
        };
        let identity = Identity {
            key: format!("mqtt {host} {port} {client_id}"),
            name: format!("client id `{client_id}` at `{}`", self.address),
            property: "clientid",
            rivalry: "the broker takes the connection from the one when the other connects",
            lasts: self.keeps_session,
        };
        (!self.is_chance).then_some(identity)
    }

    /// Connects and waits for the broker's greeting. An error is one sentence that says what to check.
    pub(super) async fn dial(&self, topics: bool) -> Result<(Wire, Greeting), String> {
        self.connect(topics, !self.keeps_session).await.map_err(|why| format!("`{}`: {why}", self.address))
    }

    /// Makes the broker forget the session. An error is what is left, why, and how to end it.
    pub(super) async fn forget(&self) -> Result<(), String> {
        let connected = within(FORGETTING, self.connect(false, true)).await;
        let (mut wire, _) = connected.unwrap_or_else(|| Err("the broker does not answer".into())).map_err(|why| {
            let (id, address) = (&self.client_id, &self.address);
            let Address { host, port, .. } = address;
            format!(
                "the session `{id}` at `{address}` could not be ended, and the broker stores messages for it: {why}. To \
                 end it, connect once with this client id and a clean session, as \
                 `mosquitto_sub -h {host} -p {port} -i {id} -t none -E` does"
            )
        })?;
        wire.put_disconnect();
        let _ = timeout(PATIENCE, async { wire.flush().await.is_ok() && wire.shutdown().await.is_ok() }).await;
        Ok(())
    }

    async fn connect(&self, topics: bool, clean: bool) -> Result<(Wire, Greeting), String> {
        let Address { host, port, .. } = &self.address;
        let tcp = match timeout(PATIENCE, TcpStream::connect((host.as_str(), *port))).await {
            Err(_) => return Err("the broker does not answer; check `server` and the network".into()),
            Ok(Err(error)) => return Err(unreachable(&error)),
            Ok(Ok(tcp)) => tcp,
        };
        let _ = tcp.set_nodelay(true);
        match timeout(PATIENCE, self.greet(tcp, topics, clean)).await {
            Ok(greeted) => greeted,
            Err(_) => Err("the broker takes the connection and says nothing; check the port in `server`".into()),
        }
    }

    async fn greet(&self, tcp: TcpStream, topics: bool, clean: bool) -> Result<(Wire, Greeting), String> {
        let stream = match &self.tls {
            None => Stream::Tcp(tcp),
            Some(tls) => {
                let tls = tls.clone();
                let config = tokio::task::spawn_blocking(move || tls.config())
                    .await
                    .map_err(|_| "the certificates could not be read".to_owned())??;
                let host = &self.address.host;
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| format!("`{host}` is no host name that a certificate can have; check `server`"))?;
                let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
                Stream::Tls(Box::new(connected.map_err(|error| tls::explain(&error, host, &BROKER))?))
            }
        };
        let mut wire = Wire::new(stream, self.version, topics);
        wire.put_connect(&Hello {
            client_id: &self.client_id,
            clean,
            keep_alive: KEEP_ALIVE,
            login: (!self.username.is_empty()).then_some((&self.username, &self.password.0)),
            session_expiry: self.session_expiry,
            receive_maximum: self.receive_maximum,
        });
        // With TLS 1.3 a broker says only after the handshake that it does not take our certificate.
        let lost = |error: std::io::Error| match &self.tls {
            Some(_) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                tls::explain(&error, &self.address.host, &BROKER)
            }
            _ => "the broker closes the connection at once; check `clientid`, `username` and the broker's log".into(),
        };
        wire.flush().await.map_err(lost)?;
        loop {
            if let Some(packet) = wire.next()? {
                match packet {
                    Packet::Connected(greeting) => return Ok((wire, greeting?)),
                    _ => return Err("the broker sent something else than an answer to CONNECT".into()),
                }
            }
            wire.fill().await.map_err(lost)?;
        }
    }
}

fn unreachable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            "nothing listens there; check `server`, and that the broker is running".into()
        }
        _ => {
            let text = words(error);
            let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            format!("the broker cannot be reached ({text}); check `server` and the network")
        }
    }
}

/// What a lost connection is called.
pub(super) fn lost(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => {
            "the broker has closed the connection".into()
        }
        _ => format!("the connection to the broker is lost ({})", words(error)),
    }
}

/// What the reason code of a DISCONNECT means.
pub(super) fn closed(reason: u8, client_id: &str) -> String {
    match reason {
        0x8E => taken_over(client_id),
        0x8B => "the broker is shutting down".into(),
        0x87 => "the broker closes the connection: not authorized; check the rights of the user".into(),
        0x95 => "the broker closes the connection: a packet was too large".into(),
        0x97 => "the broker closes the connection: its quota is used up".into(),
        0 => "the broker has closed the connection".into(),
        code => format!("the broker closes the connection with reason {code:#04x}; check its log"),
    }
}

pub(super) fn taken_over(client_id: &str) -> String {
    format!("another client is probably using the client id `{client_id}`; give each its own `clientid`")
}

/// Pauses between tries: 0.1 s, doubled up to 10 s, each a little shorter or longer than that.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let full = 100u64.saturating_mul(1 << self.tries.min(10)).min(10_000);
        self.tries += 1;
        let chance = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
        // Three quarters to five quarters, so that a thousand clients do not come back at once.
        Duration::from_millis(full * (768 + 2 * chance) / 1024)
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_was_stopped_still_hears_what_was_said_meanwhile() {
        let limit = Duration::from_millis(100);
        let mut looked = 0;
        let answer = std::future::poll_fn(|_| {
            looked += 1;
            match looked {
                // Stopped for longer than the broker may be silent; the answer is seen only at the next look.
                1 => std::thread::sleep(2 * limit),
                _ => return std::task::Poll::Ready(Ok("confirmed")),
            }
            std::task::Poll::Pending
        });
        assert_eq!(heard(limit, answer).await, Ok("confirmed"));
        let silent = heard(limit, std::future::pending::<std::io::Result<()>>()).await;
        assert_eq!(silent, Err("the broker has not answered for 0.1 s".to_owned()));
    }

    #[test]
    fn addresses_have_schemes_and_ports() {
        for (text, shown) in [
            ("tcp://h:1", "tcp://h:1"),
            ("h", "tcp://h:1883"),
            ("h:7", "tcp://h:7"),
            ("mqtt://h/", "tcp://h:1883"),
            ("ssl://h", "ssl://h:8883"),
            ("MQTTS://h", "ssl://h:8883"),
            ("tcp://[::1]:2", "tcp://[::1]:2"),
            ("tls://[fe80::1]", "ssl://[fe80::1]:8883"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "tcp://", "http://h", "tcp://h:x", "tcp://h:0", "tcp://u@h", "ws://h"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_session_that_cannot_be_ended_is_named_with_the_way_to_end_it() {
        // Bound, and nobody listens.
        let nobody = tokio::net::TcpSocket::new_v4().unwrap();
        nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = nobody.local_addr().unwrap().port();
        let dialer = Dialer {
            address: Address { tls: false, host: "127.0.0.1".into(), port },
            version: Version::V4,
            client_id: "kuiper-r1".into(),
            is_chance: false,
            keeps_session: true,
            session_expiry: 0,
            receive_maximum: 10,
            username: String::new(),
            password: Secret::default(),
            tls: None,
        };
        let why = dialer.forget().await.unwrap_err();
        let session = format!("the session `kuiper-r1` at `tcp://127.0.0.1:{port}` could not be ended");
        assert!(why.starts_with(&session), "{why}");
        assert!(why.contains(&format!("`mosquitto_sub -h 127.0.0.1 -p {port} -i kuiper-r1 -t none -E`")), "{why}");
    }

    #[test]
    fn pauses_grow_to_ten_seconds_and_differ() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next().as_millis()).collect();
        assert!((75..=125).contains(&pauses[0]) && (600..=1000).contains(&pauses[3]), "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| (7_500..=12_500).contains(pause)), "{pauses:?}");
        assert!(pauses[10..].iter().any(|pause| *pause != pauses[10]));
        backoff.reset();
        assert!(backoff.next().as_millis() <= 125);
    }
}
