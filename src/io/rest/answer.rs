//! What an answer means for the message: whether it was taken, is refused for good, or is to be sent again, and when.

use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use serde_json::Value as Json;

use crate::clock::{Time, within};
use crate::diag::{Fault, words};
use crate::io::tls::{self, Peer};

/// The longest pause that a server may ask for.
const LONGEST: Duration = Duration::from_secs(3600);
/// Letters of an answer that are told.
const SHOWN: usize = 200;

const SERVER: Peer = Peer { who: "the server", address: "url", plain: "http://" };

/// The fault of a message that was answered by this status; nothing where it was taken. `what` is the request, and
/// `text` what the server says.
pub(super) fn judge(what: &str, status: StatusCode, location: Option<&str>, text: &str) -> Option<Fault> {
    if status.is_success() {
        return None;
    }
    let line: String =
        text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().chars().take(SHOWN).collect();
    let said = if line.is_empty() { String::new() } else { format!(": {line}") };
    if let Some(target) = location.filter(|_| status.is_redirection()) {
        return Some(Fault::refused(format!(
            "{what} is answered {status}, which points to `{target}`; write that address in `url`"
        )));
    }
    let told = format!("{what} is answered {status}{said}");
    Some(if is_later(status) { Fault::unreachable(told) } else { Fault::refused(told) })
}

/// The server may take the same request another time.
fn is_later(status: StatusCode) -> bool {
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || busy.contains(&status)
}

/// The fault of a message whose answer says in its member `code` how it was taken; nothing where all is well, or where
/// there is none.
pub(super) fn judge_code(what: &str, text: &str) -> Option<Fault> {
    let answer: Json = serde_json::from_str(text).ok()?;
    let all = match &answer {
        Json::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let codes = all.iter().filter(|one| one.is_object()).map(|one| one["code"].as_i64().unwrap_or_default());
    let code = codes.into_iter().find(|code| !(200..300).contains(code))?;
    let told = format!("{what} is answered with the code {code}");
    let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    Some(if status.is_some_and(is_later) { Fault::unreachable(told) } else { Fault::refused(told) })
}

/// How long a server asks to be left alone: seconds, or a date.
pub(super) fn pause(header: &str, now: Time) -> Option<Duration> {
    let asked = match header.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = rfc2822::parse(header.trim()).ok()?.timestamp().as_millisecond();
            Time(at).since(now)
        }
    };
    Some(asked.min(LONGEST)).filter(|asked| !asked.is_zero())
}

/// Said of a server that is too slow.
pub(super) const LATE: &str = "the server does not answer in time";

/// An answer, where it comes within the limit. The limit is not the client's own, which is due before the answer is read
/// when the process was stopped meanwhile: a row that the server has taken would be sent again.
pub(super) async fn in_time<T>(limit: Option<Duration>, answer: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => within(limit, answer).await,
        None => Some(answer.await),
    }
}

/// Why there was no answer, in words.
pub(super) fn no_answer(error: &reqwest::Error, host: &str) -> String {
    if error.is_timeout() {
        return LATE.into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        if let Some(found) = handshake(inner) {
            return tls::explain(found, host, &SERVER);
        }
        cause = inner;
    }
    words(cause)
}

/// The error of a handshake, which errors of the system wrap, some in one another.
fn handshake<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut found = error.downcast_ref::<std::io::Error>()?;
    loop {
        let inner = found.get_ref()?;
        if inner.is::<rustls::Error>() {
            return Some(found);
        }
        found = inner.downcast_ref::<std::io::Error>()?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::diag::Retry;

    use super::*;

    fn judged(code: u16) -> Option<Fault> {
        judge("`PUT http://h/`", StatusCode::from_u16(code).unwrap(), None, "\n  no such pump \nmore")
    }

    #[test]
    fn what_the_server_can_take_later_is_sent_again_and_nothing_else() {
        for (code, retry) in [
            (200, None),
            (202, None),
            (204, None),
            (304, Some(Retry::Never)),
            (400, Some(Retry::Never)),
            (401, Some(Retry::Never)),
            (404, Some(Retry::Never)),
            (408, Some(Retry::Later)),
            (409, Some(Retry::Never)),
            (413, Some(Retry::Never)),
            (422, Some(Retry::Never)),
            (425, Some(Retry::Later)),
            (429, Some(Retry::Later)),
            (500, Some(Retry::Later)),
            (503, Some(Retry::Later)),
        ] {
            assert_eq!(judged(code).map(|fault| fault.retry()), retry, "{code}");
        }
        assert_eq!(
            judged(422).unwrap().to_string(),
            "`PUT http://h/` is answered 422 Unprocessable Entity: no such pump"
        );
        let moved = judge("`GET http://h/`", StatusCode::FOUND, Some("/new"), "").unwrap();
        assert!(moved.to_string().ends_with("which points to `/new`; write that address in `url`"), "{moved}");
    }

    #[test]
    fn a_code_in_the_body_counts_like_a_status() {
        let judged = |text: &str| judge_code("it", text).map(|fault| fault.retry());
        for (text, retry) in [
            (r#"{"code": 200}"#, None),
            (r#"[{"code": 201}, {"code": 204}]"#, None),
            ("not json", None),
            (r#"{"code": 400}"#, Some(Retry::Never)),
            (r#"[{"code": 200}, {"code": 503}]"#, Some(Retry::Later)),
            (r#"{"ok": true}"#, Some(Retry::Never)),
            (r#"{"code": -1}"#, Some(Retry::Never)),
        ] {
            assert_eq!(judged(text), retry, "{text}");
        }
    }

    #[test]
    fn a_server_may_ask_to_be_left_alone() {
        let now = Time(784_111_777_000);
        for (header, seconds) in [
            ("2", Some(2)),
            ("0", None),
            ("99999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("soon", None),
        ] {
            assert_eq!(pause(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }
}
