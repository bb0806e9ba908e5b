use bytes::Bytes;
use tokio::sync::watch;

use crate::clock::Time;
use crate::data::Value;
use crate::diag::Result;
use crate::io::{End, Inlet, Link, Message, Payload, Report, Source, SourcePlan};

/// A source of numbered rows that can seek: it gives them one by one, up to as many as the test allows, and goes on from
/// the number that it is told.
pub fn numbers(allowed: &watch::Sender<u64>) -> SourcePlan {
    let allowed = allowed.clone();
    let open = move || Ok(Box::new(Numbers { next: 1, allowed: allowed.subscribe() }) as Box<dyn Source>);
    SourcePlan { open: Box::new(open), gives_rows: false, seeks: true, warnings: Vec::new(), identity: None }
}

struct Numbers {
    next: u64,
    allowed: watch::Receiver<u64>,
}

#[async_trait::async_trait]
impl Source for Numbers {
    async fn run(&mut self, inlet: Inlet, report: Report) -> Result<End> {
        report.set(Link::Connected);
        loop {
            let next = self.next;
            tokio::select! {
                allowed = self.allowed.wait_for(|allowed| *allowed >= next) => drop(allowed.unwrap()),
                () = inlet.closed() => return Ok(End::Closed),
            }
            let payload = Payload::Bytes(Bytes::from(format!("{{\"a\":{next}}}")));
            let message = Message { payload, time: Time(0), meta: None, ack: None, delivery: None };
            self.next += 1;
            if inlet.send_at(vec![message], Some(Value::Int(next as i64))).await.is_err() {
                return Ok(End::Closed);
            }
        }
    }

    async fn seek(&mut self, position: &Value) -> Result<()> {
        self.next = position.as_i64().unwrap() as u64 + 1;
        Ok(())
    }
}
