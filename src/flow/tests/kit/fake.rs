use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::data::Value;
use crate::diag::{Fault, Result};
use crate::io::{Content, Link, Parcel, Report, Sink, Stopped};

/// What a sink does with a parcel.
pub enum Does {
    Take,
    Fail(Fault),
    Hang,
    Panic,
}

/// A sink in the hands of a test.
#[derive(Clone)]
pub struct Fake(Arc<Inner>);

type OnParcel = Box<dyn FnMut(&str) -> Does + Send>;
type OnConnect = Box<dyn FnMut() -> Result<()> + Send>;

struct Inner {
    took: Mutex<Vec<String>>,
    on_parcel: Mutex<OnParcel>,
    on_connect: Mutex<OnConnect>,
    /// Deliveries wait while it is false.
    open: watch::Sender<bool>,
    connects: AtomicUsize,
    closes: AtomicUsize,
    hangs_at_close: bool,
    /// The first so many connects never return.
    hanging_connects: usize,
    returns_from_idle: bool,
    /// It says where it stands, and takes back what came after.
    takes_back: bool,
    /// It does not say where it stands while this is false.
    says: watch::Sender<bool>,
}

pub fn sink() -> Fake {
    sink_that(|_| Does::Take)
}

pub fn sink_that(does: impl FnMut(&str) -> Does + Send + 'static) -> Fake {
    fake(|inner| inner.on_parcel = Mutex::new(Box::new(does)))
}

pub fn sink_connecting(does: impl FnMut() -> Result<()> + Send + 'static) -> Fake {
    fake(|inner| inner.on_connect = Mutex::new(Box::new(does)))
}

pub fn sink_that_never_closes() -> Fake {
    fake(|inner| inner.hangs_at_close = true)
}

pub fn sink_that_connects_only_after(hanging: usize) -> Fake {
    fake(|inner| inner.hanging_connects = hanging)
}

/// A connector that has nothing to keep alive, and returns where it must wait.
pub fn sink_that_returns_from_idle() -> Fake {
    fake(|inner| inner.returns_from_idle = true)
}

pub fn sink_that_takes_back() -> Fake {
    fake(|inner| inner.takes_back = true)
}

fn fake(change: impl FnOnce(&mut Inner)) -> Fake {
    let mut inner = Inner {
        took: Mutex::default(),
        on_parcel: Mutex::new(Box::new(|_| Does::Take)),
        on_connect: Mutex::new(Box::new(|| Ok(()))),
        open: watch::Sender::new(true),
        connects: AtomicUsize::new(0),
        closes: AtomicUsize::new(0),
        hangs_at_close: false,
        hanging_connects: 0,
        returns_from_idle: false,
        takes_back: false,
        says: watch::Sender::new(true),
    };
    change(&mut inner);
    Fake(Arc::new(inner))
}

impl Fake {
    pub fn shut(self) -> Fake {
        self.0.open.send_replace(false);
        self
    }

    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Whether it says where it stands when it is asked; otherwise it is silent until it does.
    pub fn set_says(&self, says: bool) {
        self.0.says.send_replace(says);
    }

    /// The messages that it confirmed, in order.
    pub fn took(&self) -> Vec<String> {
        self.0.took.lock().unwrap().clone()
    }

    pub fn connects(&self) -> usize {
        self.0.connects.load(Ordering::SeqCst)
    }

    pub fn closes(&self) -> usize {
        self.0.closes.load(Ordering::SeqCst)
    }
}

pub struct FakeSink(pub Fake);

#[async_trait::async_trait]
impl Sink for FakeSink {
    async fn connect(&mut self, report: Report) -> Result<()> {
        if self.0.0.connects.fetch_add(1, Ordering::SeqCst) < self.0.0.hanging_connects {
            std::future::pending::<()>().await;
        }
        let result = (self.0.0.on_connect.lock().unwrap())();
        if result.is_ok() {
            report.set(Link::Connected);
        }
        result
    }

    async fn deliver(&mut self, parcels: &[Parcel]) -> Result<(), Stopped> {
        let inner = &self.0.0;
        let mut open = inner.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        for (delivered, parcel) in parcels.iter().enumerate() {
            let text = match &parcel.content {
                Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Content::Rows(rows) => format!("{rows:?}"),
            };
            let does = (inner.on_parcel.lock().unwrap())(&text);
            match does {
                Does::Take => inner.took.lock().unwrap().push(text),
                Does::Fail(fault) => return Err(Stopped { delivered, fault }),
                Does::Hang => std::future::pending().await,
                Does::Panic => panic!("no more room for {text}"),
            }
        }
        Ok(())
    }

    async fn idle(&mut self) {
        if !self.0.0.returns_from_idle {
            std::future::pending().await
        }
    }

    async fn position(&mut self) -> Result<Option<Value>> {
        let inner = &self.0.0;
        let mut says = inner.says.subscribe();
        says.wait_for(|says| *says).await.unwrap();
        Ok(inner.takes_back.then(|| Value::Int(inner.took.lock().unwrap().len() as i64)))
    }

    async fn resume(&mut self, position: &Value) -> Result<()> {
        self.0.0.took.lock().unwrap().truncate(position.as_i64().unwrap() as usize);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.0.0.closes.fetch_add(1, Ordering::SeqCst);
        if self.0.0.hangs_at_close {
            std::future::pending().await
        }
        Ok(())
    }
}
