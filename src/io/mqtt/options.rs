//! Options of the source and the sink, and what they mean: where to connect, as whom, and how.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use crate::diag::Diagnostic;
use crate::io::Env;
use crate::io::memory::valid_filter;
use crate::io::props::{self, Names, Secret};
use crate::io::tls::{Tls, TlsOptions};

use super::dial::{Address, Dialer};
use super::wire::Version;

pub(super) const SOURCE: Names = Names::source(
    "the `mqtt` source",
    &["bufferLength", "clientStatePath", "kubeedgeModelFile", "kubeedgeVersion", "renegotiationSupport"],
);
pub(super) const SINK: Names = Names::sink(
    "the `mqtt` sink",
    &["clientStatePath", "kubeedgeModelFile", "kubeedgeVersion", "renegotiationSupport"],
);

/// The most messages of QoS 1 or 2 that a broker which speaks MQTT 5 may send before the first is acknowledged.
pub(super) const RECEIVE_MAXIMUM: u16 = 1000;

/// Options of the connection to a broker.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Broker {
    /// Address: `tcp://host:1883`, or `ssl://host:8883` for TLS.
    server: String,
    /// `3.1`, `3.1.1` or `5`.
    protocol_version: String,
    /// Client id. Default: made from the rule's name where the broker has to know the client again, else random.
    clientid: String,
    /// User name.
    username: String,
    /// Password.
    password: Secret,
    /// Keep the session at the broker, so that it stores messages of QoS 1 and 2 while the client is away.
    enable_client_session: bool,
    /// MQTT 5: seconds for which the broker keeps a session that is not connected.
    session_expiry_interval_seconds: Option<u32>,
    #[serde(flatten)]
    tls: TlsOptions,
}

/// Options of the `mqtt` source.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SourceOptions {
    /// Topic filters, separated by commas: `+` stands for one level, `#` for all levels from there on.
    datasource: String,
    /// Quality of service of the subscription: 0, 1 or 2.
    qos: u8,
    /// Base64 of a message that ends the stream.
    eof_message: String,
    #[serde(flatten)]
    broker: Broker,
}

/// Options of the `mqtt` sink.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SinkOptions {
    /// Topic; may hold a template, no wildcards.
    pub(super) topic: String,
    /// Quality of service: 0, 1 or 2.
    pub(super) qos: u8,
    /// The broker keeps the last message of a topic for those who subscribe later.
    pub(super) retained: bool,
    /// MQTT 5: user properties of each message; the values may hold templates.
    pub(super) properties: std::collections::BTreeMap<String, String>,
    #[serde(flatten)]
    broker: Broker,
}

/// What a source is to do.
pub(super) struct Subscription {
    pub(super) filters: Vec<String>,
    pub(super) qos: u8,
    pub(super) end: Option<Bytes>,
    pub(super) dialer: Dialer,
}

impl SourceOptions {
    /// `wants_acks`: the broker must know the client again, to give it what it has not acknowledged.
    pub(super) fn check(
        self,
        env: &Env,
        stream: &str,
        wants_acks: bool,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Subscription, Diagnostic> {
        let filters: Vec<String> =
            self.datasource.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        if filters.is_empty() {
            return Err(props::missing(&SOURCE, "datasource", "`DATASOURCE=\"sensors/+/data\"`"));
        }
        if let Some(bad) = filters.iter().find(|filter| !valid_filter(plain(filter))) {
            let expected = "topics in which `+` and `#` stand alone between slashes, `#` at the end";
            return Err(props::wrong(&SOURCE, "datasource", format_args!("`{bad}`"), expected));
        }
        check_qos(&SOURCE, self.qos)?;
        let end = (!self.eof_message.is_empty()).then(|| BASE64.decode(&self.eof_message)).transpose();
        let end = end.map_err(|_| {
            props::wrong(&SOURCE, "eofMessage", format_args!("`{}`", self.eof_message), "a message in base64")
        })?;
        let keeps = self.broker.enable_client_session || (wants_acks && self.qos > 0);
        // Neither two servers nor two sources of one rule may take the connection from one another, and two streams of
        // one topic may stand in a rule.
        let place = crc32fast::hash(format!("{} {} {stream}", self.broker.server, self.datasource).as_bytes());
        let stable = format!("kuiper-{}-{}-source-{place:08x}", env.instance, env.owner);
        let dialer = self.broker.dialer(&SOURCE, env, keeps, &stable, warnings)?;
        Ok(Subscription { filters, qos: self.qos, end: end.map(Bytes::from), dialer })
    }
}

impl SinkOptions {
    pub(super) fn check(&self, env: &Env, warnings: &mut Vec<Diagnostic>) -> Result<Dialer, Diagnostic> {
        if self.topic.is_empty() {
            return Err(props::missing(&SINK, "topic", "`\"topic\": \"alerts\"`"));
        }
        if !self.topic.contains("{{") && self.topic.contains(['+', '#']) {
            return Err(props::wrong(&SINK, "topic", format_args!("`{}`", self.topic), "a topic without wildcards"));
        }
        check_qos(&SINK, self.qos)?;
        let place = crc32fast::hash(format!("{} {}", self.broker.server, self.topic).as_bytes());
        let stable = format!("kuiper-{}-{}-sink-{place:08x}", env.instance, env.owner);
        let dialer = self.broker.clone().dialer(&SINK, env, self.broker.enable_client_session, &stable, warnings)?;
        if dialer.version != Version::V5 && !self.properties.is_empty() {
            let text = "property `properties` of the `mqtt` sink has no effect before MQTT 5";
            warnings.push(Diagnostic::warning("K0621", text).help("set `\"protocolVersion\": \"5\"`"));
        }
        Ok(dialer)
    }
}

fn check_qos(names: &Names, qos: u8) -> Result<(), Diagnostic> {
    if qos <= 2 { Ok(()) } else { Err(props::wrong(names, "qos", qos, "0, 1 or 2")) }
}

/// The topic filter of a shared subscription, without `$share/GROUP/`.
fn plain(filter: &str) -> &str {
    match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) if !group.is_empty() => filter,
        _ => filter,
    }
}

impl Broker {
    fn dialer(
        self,
        names: &Names,
        env: &Env,
        keeps_session: bool,
        stable_id: &str,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Dialer, Diagnostic> {
        if self.server.is_empty() {
            return Err(props::missing(names, "server", "`tcp://127.0.0.1:1883`"));
        }
        let address = Address::parse(&self.server)
            .map_err(|expected| props::wrong(names, "server", format_args!("`{}`", self.server), expected))?;
        let version = match self.protocol_version.as_str() {
            "3.1" => Version::V31,
            "" | "3.1.1" | "4" => Version::V4,
            "5" | "5.0" => Version::V5,
            other => {
                return Err(props::wrong(names, "protocolVersion", format_args!("`{other}`"), "`3.1`, `3.1.1` or `5`"));
            }
        };
        if self.username.is_empty() && !self.password.0.is_empty() {
            return Err(props::missing(names, "username", "`username: user`, as `password` is given"));
        }
        let tls = self.tls(names, env, &address, warnings)?;
        let client_id = match self.clientid.as_str() {
            "" if keeps_session => stable_id.to_owned(),
            "" => format!("kuiper-{}", uuid::Uuid::new_v4().simple()),
            given => given.to_owned(),
        };
        Ok(Dialer {
            address,
            version,
            client_id,
            is_chance: self.clientid.is_empty() && !keeps_session,
            keeps_session,
            session_expiry: self.session_expiry_interval_seconds.unwrap_or(86_400),
            receive_maximum: RECEIVE_MAXIMUM,
            username: self.username,
            password: self.password,
            tls,
        })
    }

    fn tls(
        &self,
        names: &Names,
        env: &Env,
        address: &Address,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Option<Tls>, Diagnostic> {
        if !address.tls {
            if self.tls.is_set() {
                let text = format!("properties for TLS of {} have no effect with `{}`", names.of, self.server);
                warnings.push(Diagnostic::warning("K0621", text).help("use `ssl://` to connect by TLS"));
            }
            return Ok(None);
        }
        self.tls.check(names, env, warnings).map(Some)
    }
}

pub(super) fn read_source(
    map: &Map<String, serde_json::Value>,
) -> Result<(SourceOptions, Vec<Diagnostic>), Diagnostic> {
    props::read(map, &SOURCE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::io::tests::env;

    use super::*;

    fn source(props: Json, wants_acks: bool) -> Result<(Subscription, Vec<String>), String> {
        source_of("s", props, wants_acks)
    }

    fn source_of(stream: &str, props: Json, wants_acks: bool) -> Result<(Subscription, Vec<String>), String> {
        let mut full = json!({"datasource": "a", "server": "tcp://h"});
        full.as_object_mut().unwrap().extend(props.as_object().unwrap().clone());
        let (options, mut warnings) = read_source(full.as_object().unwrap()).map_err(|error| error.to_string())?;
        let found = options.check(&env("/root"), stream, wants_acks, &mut warnings);
        let found = found.map_err(|error| error.to_string())?;
        Ok((found, warnings.into_iter().map(|warning| warning.message).collect()))
    }

    #[test]
    fn topics_are_split_and_trimmed() {
        let (found, _) = source(json!({"datasource": " a/+ , b/#,$share/g/c "}), false).unwrap();
        assert_eq!(found.filters, ["a/+", "b/#", "$share/g/c"]);
    }

    #[test]
    fn the_client_is_known_again_only_where_that_matters() {
        let id = |props, acks| source(props, acks).unwrap().0.dialer.client_id;
        assert_eq!(id(json!({"qos": 1}), true), id(json!({"qos": 1}), true));
        assert!(id(json!({"qos": 1}), true).starts_with("kuiper-here-me-source-"));
        assert_ne!(id(json!({"qos": 1}), true), id(json!({"qos": 1, "datasource": "b"}), true));
        let of = |stream| source_of(stream, json!({"qos": 1}), true).unwrap().0.dialer.client_id;
        assert_ne!(of("one"), of("two"), "two streams of one topic in a rule");
        assert_ne!(id(json!({"qos": 0}), true), id(json!({"qos": 0}), true));
        assert_ne!(id(json!({"qos": 1}), false), id(json!({"qos": 1}), false));
        assert_eq!(id(json!({"clientId": "mine"}), false), "mine");
        assert!(source(json!({"enableClientSession": true}), false).unwrap().0.dialer.keeps_session);
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for (props, text) in [
            (json!({"qos": 3}), "property `qos` of the `mqtt` source must be 0, 1 or 2, found 3"),
            (json!({"qos": "1"}), "property `qos` of the `mqtt` source must be a whole number, found the text `1`"),
            (json!({"datasource": "a/#/b"}), "found `a/#/b`"),
            (json!({"datasource": " , "}), "needs the property `datasource`"),
            (json!({"server": ""}), "needs the property `server`"),
            (json!({"server": "http://h"}), "`tcp://host:1883`"),
            (json!({"protocolVersion": "2"}), "must be `3.1`, `3.1.1` or `5`, found `2`"),
            (json!({"eofMessage": "!"}), "must be a message in base64"),
            (json!({"password": "x"}), "needs the property `username`"),
            (json!({"server": "ssl://h", "certificationPath": "a"}), "needs the property `privateKeyPath`"),
            (json!({"server": "ssl://h", "rootCARaw": "!"}), "must be base64 of a PEM text"),
            (json!({"certficationRaw": "x"}), "did you mean `certificationRaw`?"),
            (json!({"connectionSelector": "x"}), "cannot do what property `connectionSelector` asks for"),
            (json!({"sever": "x"}), "did you mean `server`?"),
        ] {
            let error = source(props, false).err().unwrap();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn what_has_no_effect_is_a_warning() {
        for (props, text) in [
            (json!({"kubeedgeVersion": "x"}), "property `kubeedgeVersion` of the `mqtt` source has no effect"),
            (json!({"rootCaPath": "x"}), "properties for TLS of the `mqtt` source have no effect with `tcp://h`"),
            (
                json!({"server": "ssl://h", "tlsMinVersion": "tls1.0"}),
                "property `tlsMinVersion` of the `mqtt` source is `tls1.0`; `tls1.2` is used",
            ),
        ] {
            assert_eq!(source(props, false).unwrap().1, [text]);
        }
    }
}
