//! Ports for servers that a test starts, kills and starts again, and for addresses where nobody is to listen.
//!
//! A port that is found free and given back may be the next one that the system gives to another test. So it stays with
//! this process until that ends, as that of a socket that is bound and does not listen: the system gives it to nobody
//! who asks for any port, neither to listen nor to connect from; who names it may listen there, as long as it says
//! `SO_REUSEADDR`, as servers do; and where none does, connections are refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use tokio::net::TcpSocket;

/// A port of 127.0.0.1.
pub fn free_port() -> u16 {
    static KEPT: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = socket.local_addr().unwrap().port();
    KEPT.lock().unwrap().push(socket);
    port
}
