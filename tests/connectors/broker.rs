//! A mosquitto of its own on a free port, and a wire to it that can be cut.

#[path = "../served/port.rs"]
// Each helper that gives ports to servers has it.
#[allow(clippy::duplicate_mod)]
mod port;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use port::free_port;

/// How long a test waits for what must come, on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Broker {
    pub folder: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Broker {
    /// Starts one that takes anyone, with more lines of configuration.
    pub fn start(config: &str) -> Broker {
        Broker::with(|_| format!("allow_anonymous true\n{config}"))
    }

    /// Starts one whose configuration may name files of its folder. It queues without a limit.
    pub fn with(config: impl FnOnce(&Path) -> String) -> Broker {
        Broker::listening(|folder| format!("max_queued_messages 0\nset_tcp_nodelay true\n{}", config(folder)))
    }

    /// Starts one with the limits that mosquitto has by default. It tells how it is doing once a second.
    pub fn by_default() -> Broker {
        Broker::listening(|_| "allow_anonymous true\nsys_interval 1".into())
    }

    fn listening(config: impl FnOnce(&Path) -> String) -> Broker {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = config(folder.path());
        let text = format!("listener {port} 127.0.0.1\nlog_type none\npersistence false\n{config}\n");
        std::fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let mut broker = Broker { folder, port, child: None };
        broker.again();
        broker
    }

    /// Starts it again on the same port.
    pub fn again(&mut self) {
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto must be installed");
        self.child = Some(child);
        let since = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(!ended && since.elapsed() < PATIENCE, "mosquitto does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A way to a broker that can be cut: whoever is connected loses the connection and may come back.
pub struct Cut {
    port: u16,
    /// Bytes that went to the broker.
    passed: Arc<AtomicU64>,
    lines: Arc<Mutex<Vec<JoinHandle<()>>>>,
    accept: JoinHandle<()>,
    away: Arc<AtomicBool>,
}

impl Cut {
    pub async fn before(port: u16) -> Cut {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let lines: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let passed: Arc<AtomicU64> = Arc::default();
        let away: Arc<AtomicBool> = Arc::default();
        let accept = tokio::spawn({
            let (lines, passed, away) = (lines.clone(), passed.clone(), away.clone());
            async move {
                while let Ok((near, _)) = listener.accept().await {
                    if away.load(Ordering::Acquire) {
                        continue;
                    }
                    let passed = passed.clone();
                    let line = tokio::spawn(async move {
                        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                        let back = AtomicU64::new(0);
                        tokio::join!(copy(near_read, far_write, &passed), copy(far_read, near_write, &back));
                    });
                    lines.lock().unwrap().push(line);
                }
            }
        });
        Cut { port: own, passed, lines, accept, away }
    }

    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// While it is away, whoever is connected loses the connection, and whoever comes is sent off.
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
        if away {
            self.cut();
        }
    }

    pub fn cut(&self) {
        self.lines.lock().unwrap().drain(..).for_each(|line| line.abort());
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passed: &AtomicU64) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length) = from.read(&mut bytes).await
        && length > 0
        && to.write_all(&bytes[..length]).await.is_ok()
    {
        passed.fetch_add(length as u64, Ordering::AcqRel);
    }
    let _ = to.shutdown().await;
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.accept.abort();
        self.cut();
    }
}
