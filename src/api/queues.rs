use std::sync::Arc;

use axum::http::StatusCode;

use super::answer::{object, text};
use super::{Answer, Call, Refusal, Server};
use crate::rule::{Refused, queues};

/// Messages that one answer holds when the request does not say.
const USUAL: u64 = 100;

/// Works on the queues where it may block.
async fn blocking<T: Send + 'static>(
    server: Arc<Server>,
    work: impl FnOnce(&queues::Queues) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(move || work(&server.host().queues)).await;
    Ok(done.map_err(|_| Refusal::bad("the queue could not be read"))??)
}

pub(super) async fn list(call: Call) -> Answer {
    Ok(object(&blocking(call.server.clone(), |all| queues::list(all, None)).await?))
}

pub(super) async fn of_rule(call: Call) -> Answer {
    let rule = call.id(0)?;
    call.server.rules.status(&rule)?;
    Ok(object(&blocking(call.server.clone(), move |all| queues::list(all, Some(&rule))).await?))
}

fn number(call: &Call, name: &str, usual: u64) -> Result<u64, Refusal> {
    let wrong = |text: &str| Refusal::bad(format!("`{name}` must be a whole number, found `{text}`"));
    call.query(name).map_or(Ok(usual), |text| text.parse().map_err(|_| wrong(&text)))
}

/// `from`: the first sequence; `limit`: messages at most.
pub(super) async fn show(call: Call) -> Answer {
    let (rule, sink) = (call.id(0)?, call.param(1).to_owned());
    let (from, most) = (number(&call, "from", 0)?, number(&call, "limit", USUAL)?);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(object(&blocking(call.server.clone(), move |all| queues::show(all, &rule, &sink, from, most)).await?))
}

pub(super) async fn drop(call: Call) -> Answer {
    let (rule, sink) = (call.id(0)?, call.param(1).to_owned());
    Ok(text(StatusCode::OK, blocking(call.server.clone(), move |all| queues::clear(all, &rule, &sink)).await?))
}
