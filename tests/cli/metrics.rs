//! The port of the metrics, as settings and the environment say it.

use super::*;

/// A server with variables of its own.
fn start(folder: TempDir, address: &str, variables: &[(&str, &str)]) -> Server {
    let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    let mut command = kuiper(folder.path(), &["serve", "--listen", address]);
    let child = command.envs(variables.iter().copied()).stderr(log).spawn().unwrap();
    wait_for("the server to answer", || TcpStream::connect(address).is_ok());
    Server { child, url: format!("http://{address}"), folder }
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

/// The answer as a whole.
fn get(port: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: kuiper\r\n\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}

#[test]
fn metrics_have_a_port_of_their_own() {
    let (address, own) = (free_address(), free_address());
    let on = [("KUIPER__BASIC__PROMETHEUS", "true"), ("KUIPER__BASIC__PROMETHEUSPORT", port(&own))];
    let server = start(TempDir::new().unwrap(), &address, &on);
    let log = || fs::read_to_string(server.folder.path().join("log")).unwrap();
    let told = format!("Serving prometheus metrics on port http://localhost:{}/metrics", port(&own));
    wait_for("the port to be told", || log().contains(&told));
    let answer = get(port(&own), "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\n# TYPE process_open_fds gauge\nprocess_open_fds "), "{answer}");
    // It manages nothing, and REST does not tell them.
    for (port, path) in [(port(&own), "/rules"), (port(&own), "/"), (port(&address), "/metrics")] {
        assert!(get(port, path).starts_with("HTTP/1.1 404 Not Found\r\n"), "{port} {path}");
    }

    let folder = TempDir::new().unwrap();
    for (number, parts) in [
        (port(&own), [format!("0.0.0.0:{} is in use", port(&own)), "`basic.prometheusPort`".to_owned()]),
        ("0", ["KUIPER__BASIC__PROMETHEUSPORT".to_owned(), "`0`, expected a port, 1 to 65535".to_owned()]),
        ("-3", ["`basic.prometheusPort`".to_owned(), "`-3`, expected a port".to_owned()]),
    ] {
        let mut command = kuiper(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
        let command = command.env("KUIPER__BASIC__PROMETHEUS", "true").env("KUIPER__BASIC__PROMETHEUSPORT", number);
        let said = said(command.output().unwrap());
        assert_eq!((said.status, said.err.lines().count()), (2, 1), "{}", said.err);
        assert!(parts.iter().all(|part| said.err.contains(part)), "{}", said.err);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn metrics_stand_on_the_port_of_rest_where_it_is_the_same() {
    let address = free_address();
    let same = [("KUIPER__BASIC__PROMETHEUSPORT", port(&address))];
    let _server = start(TempDir::new().unwrap(), &address, &same);
    let answer = get(port(&address), "/metrics");
    assert!(answer.contains("kuiper_rule_count{status=\"running\"} 0\n"), "{answer}");
}
