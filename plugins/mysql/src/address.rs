//! Where the server is: Go's data source names and URLs, read into one [`Address`].
//!
//! `user:password@tcp(host:3306)/database?param=value`, `user@unix(/run/mysqld/mysqld.sock)/database`, and
//! `mysql://user:password@host:3306/database?param=value`. In the first, user and password stand as they are; in the second they are
//! percent-encoded. Parameters of Go's driver that say how Go decodes answers have no meaning here and are accepted.

use std::path::PathBuf;
use std::time::Duration;

use kuiper_plugin::{Error, Result};
use mysql_async::{Opts, OptsBuilder, SslOpts};

/// A server, a database, and how to talk to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    pub user: Option<String>,
    pub password: Option<String>,
    pub peer: Peer,
    pub database: String,
    pub tls: Tls,
    /// The server's certificate authority, where it is none of the public ones.
    pub authority: Option<PathBuf>,
    pub connect_limit: Duration,
    /// For one collect.
    pub collect_limit: Duration,
    pub collation: Option<String>,
    /// System variables, set for each connection.
    pub variables: Vec<(String, String)>,
}

/// The other end of the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    Tcp(String, u16),
    Socket(String),
}

/// As in Go's parameter `tls`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tls {
    Off,
    On,
    /// On, whatever certificate the server has.
    Unchecked,
    /// On, where the server can; whatever certificate it has.
    Preferred,
}

const PORT: u16 = 3306;

/// Parameters of Go's driver about its own inner life.
const IGNORED: &[&str] = &[
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "rejectReadOnly",
    "serverPubKey",
    "timeTruncate",
];

impl Address {
    /// Reads either form.
    pub fn read(text: &str) -> Result<Address> {
        let text = text.trim();
        let read = match text.split_once("://") {
            Some(("mysql" | "mariadb", rest)) => Address::from_url(rest),
            Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Err(format!("`{scheme}://` is no MySQL server"))
            }
            _ => Address::from_dsn(text),
        };
        read.map_err(|wrong| {
            let forms = "`user:password@tcp(host:3306)/database` or `mysql://user:password@host:3306/database`";
            Error::never(format!("property `url`: {wrong}; expected {forms}"))
        })
    }

    fn from_dsn(text: &str) -> std::result::Result<Address, String> {
        // The slash behind the bracket ends the address, or else the last one: passwords and socket paths may hold some.
        let end = text.rfind(")/").map(|bracket| bracket + 1).or_else(|| text.rfind('/'));
        let end = end.ok_or("there is no `/` in front of the database")?;
        let (server, rest) = (&text[..end], &text[end + 1..]);
        let (database, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, network) = match server.rsplit_once('@') {
            Some((login, network)) => (Some(login), network),
            None => (None, server),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (given(user), given(password)),
            None => (None, None),
        };
        let peer = match network.split_once('(') {
            Some((net, address)) => {
                let address = address.strip_suffix(')').ok_or_else(|| format!("`{network}` has no closing bracket"))?;
                match net {
                    "tcp" | "tcp4" | "tcp6" | "" => tcp(address)?,
                    "unix" => Peer::Socket(address.to_owned()),
                    other => return Err(format!("`{other}` is neither `tcp` nor `unix`")),
                }
            }
            None => match network {
                "" | "tcp" => tcp("")?,
                "unix" => Peer::Socket("/tmp/mysql.sock".to_owned()),
                other => return Err(format!("`{other}` should be `tcp({other})`")),
            },
        };
        Address::new(user, password, peer, decoded(database)?, parameters)
    }

    fn from_url(rest: &str) -> std::result::Result<Address, String> {
        let (before, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (server, database) = before.split_once('/').unwrap_or((before, ""));
        let (login, host) = match server.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, server),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (given(&decoded(user)?), given(&decoded(password)?)),
            None => (None, None),
        };
        Address::new(user, password, tcp(&decoded(host)?)?, decoded(database)?, parameters)
    }

    fn new(
        user: Option<String>,
        password: Option<String>,
        peer: Peer,
        database: String,
        parameters: &str,
    ) -> std::result::Result<Address, String> {
        if database.is_empty() {
            return Err("the database is missing".to_owned());
        }
        let mut address = Address {
            user,
            password,
            peer,
            database,
            tls: Tls::Off,
            authority: None,
            connect_limit: Duration::from_secs(10),
            collect_limit: Duration::from_secs(60),
            collation: None,
            variables: Vec::new(),
        };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            address.set(name, decoded(value)?)?;
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: String) -> std::result::Result<(), String> {
        let wrong = |expected: &str| format!("parameter `{name}` must be {expected}, found `{value}`");
        let limit = || seconds(&value).ok_or_else(|| wrong("a duration such as `30s`"));
        match name {
            "tls" => {
                self.tls = match value.as_str() {
                    "true" => Tls::On,
                    "false" => Tls::Off,
                    "skip-verify" => Tls::Unchecked,
                    "preferred" => Tls::Preferred,
                    _ => return Err(wrong("`true`, `false`, `skip-verify` or `preferred`")),
                };
            }
            "tlsCa" => self.authority = Some(PathBuf::from(value)),
            "socket" => self.peer = Peer::Socket(value),
            "timeout" => self.connect_limit = limit()?,
            "readTimeout" | "writeTimeout" => self.collect_limit = limit()?,
            "collation" if is_word(&value) => self.collation = Some(value),
            "collation" => return Err(wrong("the name of a collation")),
            _ if IGNORED.contains(&name) => {}
            _ if is_word(name) => self.variables.push((name.to_owned(), value)),
            _ => return Err(format!("`{name}` is no parameter")),
        }
        Ok(())
    }

    /// The address as it may be shown: without the password.
    pub fn shown(&self) -> String {
        match &self.peer {
            Peer::Tcp(host, port) => format!("{host}:{port}/{}", self.database),
            Peer::Socket(path) => format!("{path}/{}", self.database),
        }
    }

    /// What a connection is opened with.
    pub fn options(&self, tls: bool) -> Opts {
        let mut options = OptsBuilder::default()
            .user(self.user.clone())
            .pass(self.password.clone())
            .db_name(Some(self.database.clone()))
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .stmt_cache_size(64);
        options = match &self.peer {
            Peer::Tcp(host, port) => options.ip_or_hostname(host.clone()).tcp_port(*port),
            Peer::Socket(path) => options.socket(Some(path.clone())).prefer_socket(true),
        };
        if tls {
            let mut ssl = SslOpts::default();
            if let Some(authority) = &self.authority {
                ssl = ssl.with_root_certs(vec![authority.clone().into()]);
            }
            if self.tls != Tls::On {
                ssl = ssl.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
            }
            options = options.ssl_opts(ssl);
        }
        options.into()
    }

    /// Statements that each connection begins with: text is UTF-8, and instants are written in UTC.
    pub fn greetings(&self) -> Vec<String> {
        let names = match &self.collation {
            Some(collation) => format!("SET NAMES utf8mb4 COLLATE {collation}"),
            None => "SET NAMES utf8mb4".to_owned(),
        };
        let variables = self.variables.iter().map(|(name, value)| format!("SET {name} = {value}"));
        [names, "SET time_zone = '+00:00'".to_owned()].into_iter().chain(variables).collect()
    }
}

fn given(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
}

/// `host`, `host:port`, `[::1]:port`, `:port`, or nothing.
fn tcp(text: &str) -> std::result::Result<Peer, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| format!("`{port}` is no port"))?,
        None => PORT,
    };
    Ok(Peer::Tcp(if host.is_empty() { "127.0.0.1".to_owned() } else { host.to_owned() }, port))
}

fn decoded(text: &str) -> std::result::Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return Err(format!("`{text}` holds a `%` that is not followed by two hexadecimal digits")),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is not UTF-8"))
}

/// `30s`, `500ms`, `1m30s`; a duration of zero is none, as Go's driver has it.
fn seconds(text: &str) -> Option<Duration> {
    const FOREVER: Duration = Duration::from_secs(365 * 86_400);
    let mut rest = text;
    let mut all = Duration::ZERO;
    if rest == "0" {
        return Some(FOREVER);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let number: f64 = rest[..end].parse().ok()?;
        let after = &rest[end..];
        let next = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let unit = match &after[..next] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        all += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = &after[next..];
    }
    Some(if all.is_zero() { FOREVER } else { all })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_of(text: &str) -> (Option<String>, Option<String>, String, u16, String) {
        let address = Address::read(text).unwrap();
        match address.peer {
            Peer::Tcp(host, port) => (address.user, address.password, host, port, address.database),
            Peer::Socket(path) => panic!("{path} is a socket"),
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn both_forms_say_the_same() {
        let expected = (some("user"), some("test"), "localhost".to_owned(), 3306, "database".to_owned());
        for text in [
            "user:test@tcp(localhost:3306)/database",
            "user:test@tcp(localhost)/database?parseTime=true&loc=Local&charset=utf8mb4",
            "mysql://user:test@localhost:3306/database",
            "mysql://user:test@localhost/database?timeout=5s",
        ] {
            assert_eq!(tcp_of(text), expected, "{text}");
        }
    }

    #[test]
    fn passwords_may_hold_anything() {
        for (text, password) in [
            ("u:p@ss:w/rd?@tcp(h:1)/d", "p@ss:w/rd?"),
            ("u:a(b)c@tcp(h)/d?timeout=1s", "a(b)c"),
            ("u:100%@tcp(h)/d", "100%"),
            ("mysql://u:p%40ss%2F@h/d", "p@ss/"),
        ] {
            assert_eq!(tcp_of(text).1, some(password), "{text}");
        }
    }

    #[test]
    fn parts_may_be_left_out() {
        assert_eq!(tcp_of("/d"), (None, None, "127.0.0.1".to_owned(), 3306, "d".to_owned()));
        assert_eq!(tcp_of("u@/d").0, some("u"));
        assert_eq!(tcp_of("u@tcp([::1]:3307)/d").2, "::1");
        assert_eq!(tcp_of("u@tcp([::1]:3307)/d").3, 3307);
        assert_eq!(tcp_of("mysql://h/d%20e").4, "d e");
    }

    #[test]
    fn sockets() {
        for text in ["u:p@unix(/run/mysqld/my.sock)/d?tls=false", "mysql://u:p@localhost/d?socket=/run/mysqld/my.sock"]
        {
            let address = Address::read(text).unwrap();
            assert_eq!(address.peer, Peer::Socket("/run/mysqld/my.sock".to_owned()));
            assert_eq!((address.password, address.database.as_str()), (some("p"), "d"));
        }
    }

    #[test]
    fn parameters() {
        let text = "u@tcp(h)/d?timeout=1500ms&readTimeout=0&tls=skip-verify&collation=utf8mb4_bin&sql_mode=%27ANSI%27";
        let address = Address::read(text).unwrap();
        assert_eq!((address.connect_limit, address.tls), (Duration::from_millis(1500), Tls::Unchecked));
        assert!(address.collect_limit > Duration::from_secs(86_400));
        assert_eq!(
            address.greetings(),
            ["SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET time_zone = '+00:00'", "SET sql_mode = 'ANSI'"]
        );
    }

    #[test]
    fn wrong_addresses_are_told() {
        for (text, wrong) in [
            ("localhost", "there is no `/` in front of the database"),
            ("u@tcp(h)/", "the database is missing"),
            ("u@localhost:3306/d", "`localhost:3306` should be `tcp(localhost:3306)`"),
            ("u@tcp(h:x)/d", "`x` is no port"),
            ("u@udp(h)/d", "`udp` is neither `tcp` nor `unix`"),
            ("postgres://h/d", "`postgres://` is no MySQL server"),
            (
                "u@tcp(h)/d?tls=maybe",
                "parameter `tls` must be `true`, `false`, `skip-verify` or `preferred`, found `maybe`",
            ),
        ] {
            let told = Address::read(text).unwrap_err().to_string();
            assert!(told.starts_with(&format!("property `url`: {wrong}; expected `user:")), "{told}");
        }
    }
}
