//! CONNECT and SUBSCRIBE, and what brokers answer to them; put together and taken apart by rumqttc.

use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::wire::{Frame, Garbage, LARGEST, Packet, Version, frame, put_varint};

/// What CONNECT says.
pub(super) struct Hello<'a> {
    pub(super) client_id: &'a str,
    pub(super) clean: bool,
    /// Seconds.
    pub(super) keep_alive: u16,
    pub(super) login: Option<(&'a str, &'a str)>,
    /// MQTT 5: seconds.
    pub(super) session_expiry: u32,
    /// MQTT 5.
    pub(super) receive_maximum: u16,
}

/// The answer to CONNECT.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Greeting {
    /// The broker knew the client's session.
    pub(super) session: bool,
    /// Messages of QoS 1 and 2 that it takes before the first is acknowledged.
    pub(super) receive_maximum: u16,
    /// The largest packet that it takes.
    pub(super) largest: usize,
    /// Seconds of keep-alive that it wants instead of ours.
    pub(super) keep_alive: Option<u16>,
}

const REFUSES: &str = "the broker refuses the connection:";
const LOGIN: &str = "not authorized; check `username` and `password`";

pub(super) fn answer_v4(packet: &mut BytesMut) -> Result<Option<Packet>, Garbage> {
    match v4::Packet::read(packet, LARGEST) {
        Ok(v4::Packet::ConnAck(found)) if found.code == v4::ConnectReturnCode::Success => {
            let greeting = Greeting {
                session: found.session_present,
                receive_maximum: u16::MAX,
                largest: LARGEST,
                keep_alive: None,
            };
            Ok(Some(Packet::Connected(Ok(greeting))))
        }
        Ok(v4::Packet::ConnAck(found)) => {
            let why = match found.code {
                v4::ConnectReturnCode::RefusedProtocolVersion => "its protocol version; check `protocolVersion`",
                v4::ConnectReturnCode::BadClientId => "its client id; check `clientid`",
                v4::ConnectReturnCode::BadUserNamePassword | v4::ConnectReturnCode::NotAuthorized => LOGIN,
                _ => "it for now; check the broker",
            };
            Ok(Some(Packet::Connected(Err(format!("{REFUSES} {why}")))))
        }
        Ok(v4::Packet::SubAck(found)) => {
            let granted = found.return_codes.into_iter().map(|code| match code {
                v4::SubscribeReasonCode::Success(qos) => Ok(qos as u8),
                v4::SubscribeReasonCode::Failure => Err("check the rights of the user".to_owned()),
            });
            Ok(Some(Packet::Subscribed(granted.collect())))
        }
        _ => Err(Garbage),
    }
}

pub(super) fn answer_v5(packet: &mut BytesMut) -> Result<Option<Packet>, Garbage> {
    match v5::Packet::read(packet, None) {
        Ok(v5::Packet::ConnAck(found)) => {
            let properties = found.properties;
            let said = properties.as_ref().and_then(|all| all.reason_string.clone());
            let why = match found.code {
                v5::ConnectReturnCode::Success => {
                    let all = properties.as_ref();
                    let greeting = Greeting {
                        session: found.session_present,
                        receive_maximum: all.and_then(|all| all.receive_max).unwrap_or(u16::MAX),
                        largest: all.and_then(|all| all.max_packet_size).map_or(LARGEST, |most| most as usize),
                        keep_alive: all.and_then(|all| all.server_keep_alive),
                    };
                    return Ok(Some(Packet::Connected(Ok(greeting))));
                }
                v5::ConnectReturnCode::UnsupportedProtocolVersion => "its protocol version; check `protocolVersion`",
                v5::ConnectReturnCode::ClientIdentifierNotValid => "its client id; check `clientid`",
                v5::ConnectReturnCode::BadUserNamePassword | v5::ConnectReturnCode::NotAuthorized => LOGIN,
                v5::ConnectReturnCode::Banned => "it, for it is banned; check the broker's rules",
                _ => "it for now; check the broker",
            };
            let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
            Ok(Some(Packet::Connected(Err(format!("{REFUSES} {why}{said}")))))
        }
        Ok(v5::Packet::SubAck(found)) => {
            let granted = found.return_codes.into_iter().map(|code| match code {
                v5::SubscribeReasonCode::Success(qos) => Ok(qos as u8),
                v5::SubscribeReasonCode::WildcardSubscriptionsNotSupported => Err("it takes no wildcards".to_owned()),
                v5::SubscribeReasonCode::SharedSubscriptionsNotSupported => {
                    Err("it takes no shared subscriptions".to_owned())
                }
                v5::SubscribeReasonCode::QuotaExceeded => Err("its quota is used up".to_owned()),
                _ => Err("check the rights of the user".to_owned()),
            });
            Ok(Some(Packet::Subscribed(granted.collect())))
        }
        _ => Err(Garbage),
    }
}

pub(super) fn put_connect(out: &mut BytesMut, version: Version, hello: &Hello<'_>) {
    let (id, login) = (hello.client_id, hello.login);
    if version == Version::V5 {
        let mut properties = v5::ConnectProperties::new();
        properties.session_expiry_interval = (!hello.clean).then_some(hello.session_expiry);
        properties.receive_maximum = Some(hello.receive_maximum);
        let connect = v5::Connect {
            keep_alive: hello.keep_alive,
            client_id: id.to_owned(),
            clean_start: hello.clean,
            properties: Some(properties),
        };
        let login = login.map(|(user, password)| v5::Login::new(user, password));
        // The packet has no limit, so writing it cannot fail.
        let _ = v5::Packet::Connect(connect, None, login).write(out, None);
        return;
    }
    let mut connect = v4::Connect::new(id);
    connect.keep_alive = hello.keep_alive;
    connect.clean_session = hello.clean;
    connect.login = login.map(|(user, password)| v4::Login::new(user, password));
    let mut packet = BytesMut::new();
    let _ = v4::Packet::Connect(connect).write(&mut packet, usize::MAX);
    if version == Version::V4 {
        return out.extend_from_slice(&packet);
    }
    // MQTT 3.1 differs by its name and level alone.
    let Ok(Frame::Whole { head, .. }) = frame(&packet) else { return };
    let rest = &packet[head + 7..];
    out.put_u8(0x10);
    put_varint(out, 9 + rest.len());
    out.extend_from_slice(b"\0\x06MQIsdp\x03");
    out.extend_from_slice(rest);
}

pub(super) fn put_subscribe(out: &mut BytesMut, version: Version, filters: &[String], qos: u8) {
    if version == Version::V5 {
        let filters = filters.iter().map(|path| v5::Filter {
            path: path.clone(),
            qos: rumqttc::v5::mqttbytes::qos(qos).unwrap_or_default(),
            // Retained messages come once, not again after each connection.
            retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
            ..Default::default()
        });
        let mut subscribe = v5::Subscribe::new_many(filters, None);
        subscribe.pkid = 1;
        let _ = v5::Packet::Subscribe(subscribe).write(out, None);
    } else {
        let qos = rumqttc::qos(qos).unwrap_or(rumqttc::QoS::AtMostOnce);
        let filters = filters.iter().map(|path| v4::SubscribeFilter { path: path.clone(), qos });
        let mut subscribe = v4::Subscribe::new_many(filters);
        subscribe.pkid = 1;
        let _ = v4::Packet::Subscribe(subscribe).write(out, usize::MAX);
    }
}
