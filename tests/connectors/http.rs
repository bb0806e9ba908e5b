//! A small HTTP server in the hands of a test: it keeps what it was asked, and answers as the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::tokio_rustls::TlsAcceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    /// Which connection it came by.
    pub line: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    /// No answer comes.
    hangs: bool,
    /// The connection is closed without one.
    cuts: bool,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: String::new(), hangs: false, cuts: false }
    }

    pub fn body(self, body: &str) -> Reply {
        Reply { body: body.to_owned(), ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn hang() -> Reply {
        Reply { hangs: true, ..Reply::status(200) }
    }

    pub fn cut() -> Reply {
        Reply { cuts: true, ..Reply::status(200) }
    }
}

type Answers = Arc<Mutex<dyn FnMut(&Request) -> Reply + Send>>;

/// A server; it ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
    scheme: &'static str,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(answers: impl FnMut(&Request) -> Reply + Send + 'static) -> Server {
        Server::at("127.0.0.1:0", None, answers).await
    }

    /// On a known port, or with a certificate.
    pub async fn at(
        address: &str,
        tls: Option<TlsAcceptor>,
        answers: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Request>>>::default();
        let (book, answers) = (asked.clone(), Arc::new(Mutex::new(answers)) as Answers);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(async move {
            let mut lines = tokio::task::JoinSet::new();
            for line in 0.. {
                let Ok((socket, _)) = listener.accept().await else { return };
                let (book, answers, tls) = (book.clone(), answers.clone(), tls.clone());
                lines.spawn(async move {
                    match tls {
                        None => serve(socket, line, &book, &answers).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => serve(socket, line, &book, &answers).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Server { address, asked, scheme, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    /// The bodies that came, in order.
    pub fn bodies(&self) -> Vec<String> {
        self.asked().iter().map(Request::text).collect()
    }

    /// Waits until it was asked so often.
    pub async fn until(&self, count: usize) -> Vec<Request> {
        let begun = Instant::now();
        while self.asked.lock().unwrap().len() < count {
            assert!(begun.elapsed() < Duration::from_secs(60), "only {:#?}", self.asked());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.asked()
    }
}

/// Answers what comes by one connection, until it ends.
async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    line: usize,
    book: &Mutex<Vec<Request>>,
    answers: &Answers,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            more(&mut socket, &mut buffer).await?;
        };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers: Vec<(String, String)> =
            headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
        assert!(headers.iter().all(|(name, _)| name != "transfer-encoding"), "a body without a length: {text}");
        while buffer.len() < head + length {
            more(&mut socket, &mut buffer).await?;
        }
        let body = buffer[head..head + length].to_vec();
        buffer.drain(..head + length);
        let request = Request { method, path, headers, body, at: Instant::now(), line };
        let reply = (answers.lock().unwrap())(&request);
        book.lock().unwrap().push(request);
        if reply.hangs {
            std::future::pending::<()>().await;
        }
        if reply.cuts {
            return None;
        }
        let mut out = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
        reply.headers.iter().for_each(|(name, value)| out += &format!("{name}: {value}\r\n"));
        out += "\r\n";
        out += &reply.body;
        socket.write_all(out.as_bytes()).await.ok()?;
        socket.flush().await.ok()?;
    }
}

async fn more(socket: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    match socket.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}
