//! The token that headers carry: fetched by one request, renewed by another or by the same.
//!
//! The answer of a login is a JSON object; its members stand in for `{{.name}}` in the headers of the sink and in the
//! request that renews it. A token is renewed when half of its time is over.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json};

use crate::clock::Time;
use crate::diag::{Diagnostic, Fault, Result};

use super::answer;
use super::options::{SINK, check_url, headers, parsed, wrong};
use crate::io::props;

/// Options of the login.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Oauth {
    /// The request that gets a token.
    access: Option<Access>,
    /// The request that renews it; without one the first is sent again.
    refresh: Option<Refresh>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
struct Access {
    /// Address of the request, a POST.
    url: String,
    /// Body of the request.
    body: String,
    /// Headers of the request.
    headers: BTreeMap<String, String>,
    /// Seconds for which a token holds, or `{{.name}}` of the member of the answer that says so.
    #[serde(deserialize_with = "text_or_number")]
    expire: String,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
struct Refresh {
    /// Address of the request, a POST.
    url: String,
    /// Headers of the request; may hold `{{.name}}` of the answer before.
    headers: BTreeMap<String, String>,
    /// Body of the request; may hold `{{.name}}` of the answer before.
    body: String,
}

fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<String, D::Error> {
    Ok(match Json::deserialize(from)? {
        Json::String(text) => text,
        Json::Null => String::new(),
        other => other.to_string(),
    })
}

/// How to log in.
#[derive(Clone)]
pub(super) struct Login {
    access: Ask,
    refresh: Option<Ask>,
    expire: String,
}

/// One request for a token.
#[derive(Clone)]
struct Ask {
    url: String,
    /// It may be one of this machine or of a private network.
    private: bool,
    headers: Vec<(HeaderName, String, String)>,
    body: String,
}

/// What a login was answered.
pub(super) struct Token {
    members: Map<String, Json>,
    at: Time,
    holds: Option<Duration>,
}

/// Whether a property of the sink is filled from the answer of a login, and so not from the row.
pub fn is_of_login(props: &Map<String, Json>, path: &str) -> bool {
    let has = |name: &str| props.iter().any(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null());
    let above = path.split('.').next().unwrap_or_default();
    above.eq_ignore_ascii_case("oauth") || above.eq_ignore_ascii_case("headers") && has("oauth")
}

impl Oauth {
    /// Nothing where it has no address, as clients write it that do not use it.
    pub(super) fn check(
        self,
        of_sink: &BTreeMap<String, String>,
        private: bool,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Option<Login>, Diagnostic> {
        let Some(access) = self.access else {
            return Err(props::missing(
                &SINK,
                "oauth.access",
                "`\"oauth\": {\"access\": {\"url\": \"http://host/token\"}}`",
            ));
        };
        let mut idle = |name: &str| {
            let text = format!("property `{name}` of the `rest` sink has no effect without a `url`");
            warnings.push(Diagnostic::warning("K0621", text));
        };
        if access.url.is_empty() {
            idle("oauth.access");
            return Ok(None);
        }
        check_url("oauth.access.url", &access.url, private)?;
        for (name, value) in of_sink {
            check_slots(&format!("headers.{name}"), value)?;
        }
        let refresh = match self.refresh {
            Some(refresh) if refresh.url.is_empty() => {
                idle("oauth.refresh");
                None
            }
            Some(Refresh { url, headers: given, body }) => {
                check_url("oauth.refresh.url", &url, private)?;
                check_slots("oauth.refresh.body", &body)?;
                for (name, value) in &given {
                    check_slots(&format!("oauth.refresh.headers.{name}"), value)?;
                }
                Some(Ask { url, private, headers: headers("oauth.refresh.headers", &given)?, body })
            }
            None => None,
        };
        check_slots("oauth.access.expire", &access.expire)?;
        if !access.expire.is_empty() && !access.expire.contains("{{") && access.expire.parse::<u64>().is_err() {
            return Err(wrong("oauth.access.expire", &access.expire, "a number of seconds"));
        }
        let headers = headers("oauth.access.headers", &access.headers)?;
        let ask = Ask { url: access.url, private, headers, body: access.body };
        Ok(Some(Login { access: ask, refresh, expire: access.expire }))
    }
}

impl Login {
    pub(super) fn urls(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.access).chain(&self.refresh).map(|ask| ask.url.as_str())
    }

    /// Gets a token, or renews the last one. A login that fails is worth another try: passwords are mended elsewhere.
    /// Each request may take as long as the limit says.
    pub(super) async fn get(
        &self,
        client: &Client,
        limit: Option<Duration>,
        last: Option<Token>,
        now: Time,
    ) -> Result<Token> {
        if let (Some(refresh), Some(last)) = (&self.refresh, last) {
            // A renewal that is refused is one that came too late.
            if let Ok(new) = refresh.send(client, limit, &last.members, now).await {
                let mut members = last.members;
                members.extend(new.into_iter().filter(|(_, value)| !value.is_null()));
                return self.token(members, now);
            }
        }
        let members = self.access.send(client, limit, &Map::new(), now).await?;
        self.token(members, now)
    }

    fn token(&self, members: Map<String, Json>, at: Time) -> Result<Token> {
        let mut token = Token { members, at, holds: None };
        if !self.expire.is_empty() {
            let seconds = token.fill(&self.expire)?;
            let seconds = seconds.parse::<u64>().map_err(|_| {
                Fault::unreachable(format!(
                    "the login says that its token holds `{seconds}`, which is no number of seconds"
                ))
            })?;
            token.holds = Some(Duration::from_secs(seconds));
        }
        Ok(token)
    }
}

impl Ask {
    async fn send(
        &self,
        client: &Client,
        limit: Option<Duration>,
        members: &Map<String, Json>,
        now: Time,
    ) -> Result<Map<String, Json>> {
        let token = Token { members: members.clone(), at: now, holds: None };
        let away = |text: String| Fault::unreachable(format!("the login at `{}`: {text}", self.url));
        let url: Url = parsed(&self.url, self.private).map_err(away)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, _, value) in &self.headers {
            headers.insert(name.clone(), header(&token.fill(value)?)?);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let request = client.post(url).headers(headers).body(token.fill(&self.body)?);
        let answer = async {
            let response = request.send().await?;
            let status = response.status();
            response.text().await.map(|text| (status, text))
        };
        let answer = answer::in_time(limit, answer).await.ok_or_else(|| away(answer::LATE.into()))?;
        let (status, text) = answer.map_err(|error| away(answer::no_answer(&error, &host)))?;
        if let Some(fault) = answer::judge("it", status, None, &text) {
            return Err(away(fault.to_string()));
        }
        match serde_json::from_str(&text) {
            Ok(Json::Object(members)) => Ok(members),
            _ => Err(away("the answer is no JSON object".into())),
        }
    }
}

impl Token {
    /// Half of its time is over.
    pub(super) fn is_old(&self, now: Time) -> bool {
        self.holds.is_some_and(|holds| now.since(self.at) * 2 > holds)
    }

    /// A text with the members in it.
    pub(super) fn fill(&self, template: &str) -> Result<String> {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, path, after)) = slot(rest) {
            out.push_str(before);
            let mut value = None;
            for (n, name) in path.split('.').enumerate() {
                value = if n == 0 { self.members.get(name) } else { value.and_then(|inner: &Json| inner.get(name)) };
            }
            match value {
                Some(Json::String(text)) => out.push_str(text),
                Some(Json::Null) | None => {
                    return Err(Fault::unreachable(format!("the answer of the login has no member `{path}`")));
                }
                Some(other) => out.push_str(&other.to_string()),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// What stands before the first `{{.name}}`, the name, and what stands behind.
fn slot(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (inner, after) = rest.split_once("}}")?;
    Some((before, inner.trim().strip_prefix('.')?, after))
}

/// Templates over the answer of a login are names alone.
fn check_slots(name: &str, text: &str) -> Result<(), Diagnostic> {
    let mut rest = text;
    while let Some((_, path, after)) = slot(rest) {
        let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !path.split('.').all(is_name) {
            break;
        }
        rest = after;
    }
    if rest.contains("{{") {
        return Err(wrong(name, text, "text with `{{.name}}` for members of the login's answer"));
    }
    Ok(())
}

/// A value of a header; the error does not show it.
pub(super) fn header(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value)
        .map_err(|_| Fault::refused("the value of a header has a line end or a control character in it"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(json: Json) -> Map<String, Json> {
        json.as_object().unwrap().clone()
    }

    fn token(json: Json) -> Token {
        Token { members: members(json), at: Time(0), holds: Some(Duration::from_secs(10)) }
    }

    #[test]
    fn members_stand_in_for_their_names() {
        let token = token(json!({"a": "x", "n": 5, "in": {"b": true}}));
        assert_eq!(token.fill("{{.a}}-{{ .n }}/{{.in.b}}.").unwrap(), "x-5/true.");
        assert_eq!(token.fill("plain").unwrap(), "plain");
        for missing in ["{{.z}}", "{{.in.z}}", "{{.n.z}}"] {
            assert!(token.fill(missing).unwrap_err().to_string().contains("has no member `"));
        }
    }

    #[test]
    fn a_token_is_old_when_half_of_its_time_is_over() {
        let token = token(json!({}));
        assert!(!token.is_old(Time(5_000)) && token.is_old(Time(5_001)));
        assert!(!Token { holds: None, ..token }.is_old(Time(1 << 40)));
    }

    #[test]
    fn other_templates_are_refused() {
        for (text, good) in [
            ("Bearer {{.token}}", true),
            ("{{ .a.b }}{{.c}}", true),
            ("plain }}", true),
            ("{{token}}", false),
            ("{{.a | upper}}", false),
            ("{{.a", false),
            ("{{if .a}}", false),
        ] {
            assert_eq!(check_slots("x", text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn headers_are_of_the_login_only_where_there_is_one() {
        let (with, without) = (members(json!({"OAuth": {}})), members(json!({"oauth": null})));
        for (props, path, is) in [
            (&with, "headers.Authorization", true),
            (&with, "oauth.refresh.body", true),
            (&with, "url", false),
            (&without, "headers.Authorization", false),
            (&without, "oauth.refresh.body", true),
        ] {
            assert_eq!(is_of_login(props, path), is, "{path}");
        }
    }
}
