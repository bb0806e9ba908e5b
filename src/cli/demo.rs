//! `kuiper serve --demo`: what there is to see without a broker, a file or a second thought.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;

use super::print::say;
use crate::api::Server;

/// Simulated thermometers; `hot` lets a part of the rows through, `average` gathers all.
const STREAM: &str = r#"CREATE STREAM demo (device STRING, temperature FLOAT, humidity BIGINT)
    WITH (TYPE="simulator", CONF_KEY="demo", FORMAT="json")"#;
const HOT: &str = "SELECT device, temperature FROM demo WHERE temperature > 28";
const AVERAGE: &str = "SELECT device, round(avg(temperature), 1) AS average, count(*) AS readings FROM demo \
    GROUP BY device, TUMBLINGWINDOW(ss, 5)";

/// Defines and starts it all, and tells the user what to look at.
pub(super) async fn begin(server: &Arc<Server>, address: SocketAddr) -> Result<(), String> {
    let readings = [
        ("attic", 27.4, 51),
        ("cellar", 14.2, 78),
        ("attic", 28.3, 50),
        ("kitchen", 22.8, 44),
        ("attic", 29.1, 49),
        ("cellar", 14.3, 79),
        ("kitchen", 23.5, 46),
    ];
    let data: Vec<_> = readings
        .iter()
        .map(|(device, temperature, humidity)| {
            json!({"device": device, "temperature": temperature, "humidity": humidity})
        })
        .collect();
    let source = json!({"data": data, "interval": "400ms", "loop": true});
    server.define(STREAM, "simulator", "demo", source)?;
    for (id, sql) in [("hot", HOT), ("average", AVERAGE)] {
        let rule = json!({
            "id": id,
            "sql": sql,
            "actions": [{"stdout": {"label": format!("{id:<8} "), "sendSingle": true}}],
        });
        server.rules.create(rule.to_string()).await.map_err(|refused| refused.to_string())?;
    }
    let program = std::env::args().next().unwrap_or_else(|| "kuiper".to_owned());
    let remote = match address.port() {
        9081 if address.ip().is_loopback() => String::new(),
        _ => format!(" --server http://{address}"),
    };
    say(format!(
        "A simulated stream and two rules are running; nothing is kept after Ctrl-C.

  hot      {HOT}
  average  {AVERAGE}

Try in another terminal:

  {program} rule list{remote}
  {program} rule status hot{remote}
  {program} stream describe demo{remote}
"
    ));
    Ok(())
}
