//! Addresses as ZeroMQ writes them, and the streams behind them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use kuiper_plugin::{Error, Result};

/// Where a socket binds, or connects to.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// The path of a socket.
    Ipc(String),
}

/// A connection.
pub enum Stream {
    Tcp(TcpStream),
    Ipc(UnixStream),
}

/// What accepts connections.
pub enum Listener {
    Tcp(TcpListener),
    Ipc(UnixListener, String),
}

impl Endpoint {
    /// Reads an address.
    pub fn read(text: &str) -> Result<Endpoint> {
        let wrong = |why: &str| {
            Error::never(format!(
                "property `server`: {why}; expected `tcp://host:port` or `ipc:///path`, found `{text}`"
            ))
        };
        match text.trim().split_once("://") {
            Some(("tcp", address)) => {
                let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("there is no port"))?;
                let port: u16 = port.parse().map_err(|_| wrong(&format!("`{port}` is no port")))?;
                if host.is_empty() {
                    return Err(wrong("there is no host"));
                }
                Ok(Endpoint::Tcp(format!("{}:{port}", if host == "*" { "0.0.0.0" } else { host })))
            }
            Some(("ipc", path)) if !path.is_empty() => Ok(Endpoint::Ipc(path.to_owned())),
            Some((other, _)) if other != "ipc" => Err(wrong(&format!("`{other}` is not known here"))),
            _ => Err(wrong("that is no address")),
        }
    }

    /// The address, as the user wrote it.
    pub fn shown(&self) -> String {
        match self {
            Endpoint::Tcp(address) => format!("tcp://{address}"),
            Endpoint::Ipc(path) => format!("ipc://{path}"),
        }
    }

    /// Connects, within this time.
    pub fn connect(&self, limit: Duration) -> io::Result<Stream> {
        match self {
            Endpoint::Tcp(address) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, limit) {
                        // Where nobody listens, a connection may meet itself.
                        Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {
                            last = io::ErrorKind::ConnectionRefused.into();
                        }
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Stream::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Endpoint::Ipc(path) => UnixStream::connect(path).map(Stream::Ipc),
        }
    }

    /// Listens. A socket that another process left behind is replaced, one that is in use is not.
    pub fn bind(&self) -> io::Result<Listener> {
        match self {
            Endpoint::Tcp(address) => TcpListener::bind(address).map(Listener::Tcp),
            Endpoint::Ipc(path) => {
                if UnixStream::connect(path).is_ok() {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
                }
                // Where nothing was left behind there is nothing to remove.
                let _ = fs::remove_file(path);
                Ok(Listener::Ipc(UnixListener::bind(path)?, path.clone()))
            }
        }
    }
}

impl Listener {
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Ipc(listener, _) => listener.accept().map(|(stream, _)| Stream::Ipc(stream)),
        }
    }

    /// A connection to itself, which wakes whoever waits in `accept`.
    pub fn wake(&self) {
        // What cannot be reached does not wait.
        match self {
            Listener::Tcp(listener) => {
                drop(listener.local_addr().map(|at| TcpStream::connect(("127.0.0.1", at.port()))))
            }
            Listener::Ipc(_, path) => drop(UnixStream::connect(path)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Ipc(_, path) = self {
            // Someone else may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

impl Stream {
    /// How long reading and writing may take.
    pub fn limit(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
            Stream::Ipc(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
        }
    }

    /// A second handle of the same connection.
    pub fn twin(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Ipc(stream) => Stream::Ipc(stream.try_clone()?),
        })
    }

    /// Ends the connection for all its handles.
    pub fn shut(&self) {
        // One that is gone is shut.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Both),
            Stream::Ipc(stream) => stream.shutdown(std::net::Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Ipc(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(from),
            Stream::Ipc(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |text: &str| Endpoint::read(text).map(|one| one.shown()).map_err(|error| error.to_string());
        assert_eq!(read("tcp://*:5563").unwrap(), "tcp://0.0.0.0:5563");
        assert_eq!(read("tcp://[::1]:1").unwrap(), "tcp://[::1]:1");
        assert_eq!(read(" ipc:///run/x ").unwrap(), "ipc:///run/x");
        for (text, why) in [
            ("localhost:5563", "that is no address"),
            ("tcp://localhost", "there is no port"),
            ("tcp://localhost:x", "`x` is no port"),
            ("tcp://:1", "there is no host"),
            ("udp://localhost:1", "`udp` is not known here"),
            ("ipc://", "that is no address"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.starts_with(&format!("property `server`: {why}; expected ")), "{told}");
        }
    }
}
