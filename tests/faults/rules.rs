//! The rules that run while faults happen, and what their results say.
//!
//! Every result names the numbers that it was made of, as **keys**: the number itself, or for the right side of the join the
//! number plus [`OTHER`]. So it can be told of every number whether it came out, and how often.

use serde_json::{Value as Json, json};

/// Keys of the second stream of the join begin here.
pub const OTHER: i64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each number is a row.
    Each,
    /// Each third one is.
    Third,
    /// Each is, but for those at which a function of a plugin panics.
    Guest,
    /// Windows of five seconds, each one row with its numbers, how many they are, and their sum.
    Window,
    /// Windows of five seconds, each number a row of its own, with the end of its window.
    Spread,
    /// Two streams, joined in windows of five seconds; what has no match comes out alone.
    Join,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Mqtt,
    File,
    Sql,
    Http,
    /// HTTP, with a queue on the disk in front.
    Queue,
}

#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub id: &'static str,
    pub kind: Kind,
    pub place: Place,
    /// It reads the stream that others read too.
    pub shared: bool,
    pub qos: u8,
}

const fn rule(id: &'static str, kind: Kind, place: Place, shared: bool) -> Rule {
    Rule { id, kind, place, shared, qos: 1 }
}

const fn strict(id: &'static str, kind: Kind, place: Place) -> Rule {
    Rule { qos: 2, ..rule(id, kind, place, false) }
}

/// The version of MQTT that the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Three,
    Five,
}

impl Version {
    pub fn name(self) -> &'static str {
        if self == Version::Five { "5" } else { "3.1.1" }
    }
}

pub const PASS: Rule = rule("pass", Kind::Each, Place::Mqtt, false);
pub const FILTER: Rule = rule("filter", Kind::Third, Place::File, false);
pub const GUEST: Rule = rule("guest", Kind::Guest, Place::Mqtt, false);
pub const WINDOW: Rule = rule("window", Kind::Window, Place::Mqtt, false);
pub const JOIN: Rule = rule("join", Kind::Join, Place::File, false);
pub const FAN_MQTT: Rule = rule("fan_mqtt", Kind::Each, Place::Mqtt, true);
pub const FAN_FILE: Rule = rule("fan_file", Kind::Each, Place::File, true);
pub const FAN_SQL: Rule = rule("fan_sql", Kind::Each, Place::Sql, true);
pub const FAN_HTTP: Rule = rule("fan_http", Kind::Each, Place::Http, true);
pub const FAN_QUEUE: Rule = rule("fan_queue", Kind::Each, Place::Queue, true);
pub const FAN_WINDOW: Rule = rule("fan_window", Kind::Window, Place::Mqtt, true);
pub const OWN_HTTP: Rule = rule("own_http", Kind::Each, Place::Http, false);
pub const OWN_SQL: Rule = rule("own_sql", Kind::Each, Place::Sql, false);
pub const OWN_QUEUE: Rule = rule("own_queue", Kind::Each, Place::Queue, false);
pub const WINDOW_HTTP: Rule = rule("window_http", Kind::Window, Place::Http, false);
pub const WINDOW_SQL: Rule = rule("window_sql", Kind::Spread, Place::Sql, false);
pub const WINDOW_QUEUE: Rule = rule("window_queue", Kind::Window, Place::Queue, false);
/// Without state, and with a journal all the same.
pub const STRICT_QUEUE: Rule = strict("strict_queue", Kind::Each, Place::Queue);

pub const LINES: Rule = strict("lines", Kind::Each, Place::File);
pub const WINDOWS: Rule = strict("windows", Kind::Window, Place::File);
pub const FAR: &[Rule] = &[
    strict("lines_mqtt", Kind::Each, Place::Mqtt),
    strict("windows_mqtt", Kind::Window, Place::Mqtt),
    strict("lines_http", Kind::Each, Place::Http),
    strict("lines_sql", Kind::Each, Place::Sql),
    strict("lines_queue", Kind::Each, Place::Queue),
];

/// Those whose files are damaged; the last has a queue.
pub const DAMAGED: &[Rule] =
    &[rule("kept", Kind::Window, Place::File, false), JOIN, rule("queued", Kind::Third, Place::Queue, false)];

/// All that need neither a database nor an HTTP server.
pub const PLAIN: &[Rule] = &[PASS, FILTER, WINDOW, JOIN, FAN_MQTT, FAN_FILE];

/// Each kind of rule whose stream no other rule reads, before each kind of sink that is not among the plain ones.
const OWN: &[Rule] = &[OWN_HTTP, OWN_SQL, OWN_QUEUE, WINDOW_HTTP, WINDOW_SQL, WINDOW_QUEUE];

/// The scenarios with the version of MQTT that the server speaks in them, and their rules.
const SCENES: &[(&str, Version, &[&[Rule]])] = &[
    ("kill_9", Version::Three, &[PLAIN, &[FAN_SQL, FAN_HTTP, FAN_QUEUE]]),
    ("kill_9_v5", Version::Five, &[PLAIN, &[FAN_WINDOW, FAN_QUEUE]]),
    ("kill_9_own", Version::Five, &[OWN]),
    ("queue_killed", Version::Five, &[&[WINDOW_QUEUE, OWN_QUEUE, STRICT_QUEUE]]),
    ("frozen", Version::Five, &[PLAIN]),
    ("clock_stepped", Version::Three, &[PLAIN]),
    ("ended", Version::Five, &[PLAIN, &[FAN_QUEUE]]),
    ("plugin", Version::Three, &[PLAIN, &[GUEST]]),
    ("broker_stopped", Version::Three, &[PLAIN]),
    ("broker_stopped_v5", Version::Five, &[PLAIN]),
    ("broker_forgets", Version::Three, &[PLAIN]),
    ("broker_forgets_v5", Version::Five, &[PLAIN]),
    ("database_killed", Version::Five, &[PLAIN, &[FAN_SQL]]),
    ("sink_refuses", Version::Three, &[PLAIN, &[FAN_HTTP, FAN_QUEUE]]),
    ("slow_sink", Version::Five, &[PLAIN, &[FAN_HTTP, FAN_QUEUE]]),
    ("cut_in_packet", Version::Three, &[PLAIN, &[FAN_WINDOW]]),
    ("cut_in_packet_v5", Version::Five, &[PLAIN, &[FAN_WINDOW]]),
    ("disk_full", Version::Five, &[PLAIN, &[OWN_QUEUE]]),
    ("rule_changed", Version::Five, &[PLAIN]),
    ("damaged", Version::Five, &[DAMAGED]),
    ("file_to_file", Version::Five, &[&[LINES, WINDOWS]]),
    ("file_to_far", Version::Five, &[FAR]),
    ("retained_to_file", Version::Five, &[&[LINES, WINDOWS]]),
    ("retained_to_far", Version::Five, &[FAR]),
];

/// Version and rules of a scenario.
pub fn scene(name: &str) -> Option<(Version, Vec<Rule>)> {
    let (_, version, rules) = SCENES.iter().find(|(scene, ..)| *scene == name)?;
    Some((*version, rules.concat()))
}

/// Where a stream of a rule gets its messages.
pub struct Input {
    pub stream: String,
    pub topic: &'static str,
    /// What is added to its numbers.
    pub offset: i64,
}

impl Rule {
    pub fn inputs(&self) -> Vec<Input> {
        let input = |stream: String, topic, offset| Input { stream, topic, offset };
        match self.kind {
            _ if self.shared => vec![input("common".into(), "numbers", 0)],
            Kind::Join => {
                vec![input("join_one".into(), "numbers", 0), input("join_two".into(), "twins", OTHER)]
            }
            _ => vec![input(format!("in_{}", self.id), "numbers", 0)],
        }
    }

    pub fn sql(&self) -> String {
        let from = &self.inputs()[0].stream;
        match self.kind {
            Kind::Each => format!("SELECT id FROM {from}"),
            Kind::Third => format!("SELECT id FROM {from} WHERE id % 3 = 0"),
            Kind::Guest => format!("SELECT id, crash(id) AS same FROM {from}"),
            Kind::Window => format!(
                "SELECT collect(id) AS ids, count(*) AS n, sum(id) AS total, window_end() AS till \
                 FROM {from} GROUP BY TUMBLINGWINDOW(ss, 5)"
            ),
            Kind::Spread => {
                format!("SELECT id, window_end() AS till FROM {from} GROUP BY id, TUMBLINGWINDOW(ss, 5)")
            }
            Kind::Join => "SELECT a.id AS one, b.id AS two FROM join_one AS a FULL JOIN join_two AS b ON a.id = b.id \
                           GROUP BY TUMBLINGWINDOW(ss, 5)"
                .into(),
        }
    }

    /// It has a journal: what its sinks have, as far as that is noted, does not come again, nor what is in its log.
    pub fn is_logged(&self) -> bool {
        self.qos > 1 || matches!(self.kind, Kind::Window | Kind::Spread | Kind::Join)
    }

    pub fn wants(&self, number: i64) -> bool {
        match self.kind {
            Kind::Third => number % 3 == 0,
            Kind::Guest => number % 500 != 250,
            _ => true,
        }
    }

    /// The keys in a result, or what is wrong with it.
    pub fn keys(&self, row: &str) -> Result<Vec<i64>, String> {
        let wrong = |what: &str| format!("{}: {what}: {}", self.id, row.chars().take(200).collect::<String>());
        let json: Json = serde_json::from_str(row).map_err(|error| wrong(&error.to_string()))?;
        let number = |value: &Json| value.as_i64().or_else(|| value.as_f64().map(|float| float as i64));
        match self.kind {
            Kind::Each | Kind::Third | Kind::Guest | Kind::Spread => {
                Ok(vec![number(&json["id"]).ok_or_else(|| wrong("no id"))?])
            }
            Kind::Window => {
                let ids: Option<Vec<i64>> = match &json["ids"] {
                    Json::Null => Some(Vec::new()),
                    Json::Array(ids) => ids.iter().map(number).collect(),
                    _ => None,
                };
                let ids = ids.ok_or_else(|| wrong("no list of ids"))?;
                let (count, sum) = (number(&json["n"]).unwrap_or(0), number(&json["total"]).unwrap_or(0));
                if count != ids.len() as i64 || sum != ids.iter().sum::<i64>() {
                    return Err(wrong("count or sum are not those of the ids"));
                }
                Ok(ids)
            }
            Kind::Join => {
                let (one, two) = (number(&json["one"]), number(&json["two"]));
                if one.is_some() && two.is_some() && one != two {
                    return Err(wrong("a pair of two numbers"));
                }
                let keys: Vec<i64> = one.into_iter().chain(two.map(|two| two + OTHER)).collect();
                if keys.is_empty() { Err(wrong("nothing in it")) } else { Ok(keys) }
            }
        }
    }

    /// The sink; `target` is where it leads.
    pub fn action(&self, target: &str, version: Version) -> Json {
        match self.place {
            Place::Mqtt => json!({"mqtt": {
                "server": target, "topic": format!("out/{}", self.id), "qos": 1, "sendSingle": true,
                "protocolVersion": version.name(),
            }}),
            Place::File => json!({"file": {"path": self.id, "fileType": "lines", "sendSingle": true}}),
            // A row of a window that is written again replaces itself.
            Place::Sql if self.kind == Kind::Spread => {
                json!({"mysql": {"url": target, "table": self.id, "fields": ["id", "till"], "keyField": "id"}})
            }
            Place::Sql if self.qos == 2 => {
                json!({"mysql": {"url": target, "table": self.id, "fields": ["id"], "keyField": "id"}})
            }
            Place::Sql => json!({"mysql": {"url": target, "table": self.id, "fields": ["id"]}}),
            Place::Http => {
                json!({"rest": {"url": target, "method": "post", "bodyType": "json", "sendSingle": true}})
            }
            Place::Queue => json!({"rest": {
                "url": target, "method": "post", "bodyType": "json", "sendSingle": true, "enableCache": true,
            }}),
        }
    }

    /// The table that it writes to.
    pub fn table(&self) -> String {
        let columns = match self.kind {
            Kind::Spread => "id BIGINT, till BIGINT, PRIMARY KEY (id, till)",
            _ if self.qos == 2 => "id BIGINT PRIMARY KEY",
            _ => "id BIGINT",
        };
        format!("CREATE TABLE test.{} ({columns})", self.id)
    }

    pub fn json(&self, target: &str, sql: &str, version: Version) -> Json {
        let options = match self.kind {
            // The join goes by the log of its inputs alone, the window by a log that is always short.
            Kind::Window => json!({"qos": self.qos, "checkpointInterval": "700ms"}),
            _ => json!({"qos": self.qos}),
        };
        json!({"id": self.id, "sql": sql, "actions": [self.action(target, version)], "options": options})
    }
}
