//! Configuration keys of sources that came as plugins.

use kuiper::plugin::Kind;
use kuiper::rule::{Host, Setup};
use serde_json::json;

use super::made::{Home, count};

#[test]
fn a_configuration_key_of_a_guest_is_checked_by_it() {
    let home = Home::new();
    home.install(Kind::Sources, "count", "1.0.0", count());
    let data = home.data();
    drop(home.plugins);
    let setup = Setup {
        data: Some(data.clone()),
        plugins: None,
        policy: Default::default(),
        rule: Default::default(),
        sink: serde_json::Map::new(),
        timezone: "UTC".into(),
        ignore_case: false,
        props: Default::default(),
        secrets: Default::default(),
        isolation: Default::default(),
        layers: Default::default(),
        patrol: std::time::Duration::from_secs(10),
        root: data,
        private_net: true,
        connectors: Vec::new(),
    };
    let (host, told) = Host::open(setup).unwrap();
    assert_eq!(told, Vec::<String>::new());
    for (given, refused) in [
        (json!({"count": 5}), None),
        // What must be given may stand in the stream, and does not hide a mistake.
        (json!({"thread": true}), None),
        (json!({"thread": "yes"}), Some("property `thread`: expected true or false, found the text `yes`")),
        (json!({"thraed": true}), Some("property `thraed` is not known; did you mean `thread`?")),
        (json!({"count": 5, "merger": "x"}), Some("the `count` source cannot do what property `merger` asks for")),
    ] {
        let checked = host.check_conf_key("count", "k", given.as_object().unwrap());
        match refused {
            None => assert_eq!(checked, Ok(Vec::new()), "{given}"),
            Some(told) => assert!(checked.unwrap_err().to_string().contains(told), "{given}"),
        }
    }
    assert_eq!(host.schema(Kind::Sources, "count")["properties"]["thread"]["type"], "boolean");
}
