//! Options of the sink, and what they mean.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diag::Diagnostic;
use crate::io::SinkSpec;
use crate::io::props::{self, Names, Period};
use crate::io::reach::refusal;
use crate::io::tls::{Tls, TlsOptions};

use super::login::{Login, Oauth};

pub(super) const SINK: Names = Names::sink("the `rest` sink", &["incremental", "renegotiationSupport"]);

/// Options of the `rest` sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Options {
    /// Address of the requests, `http://…` or `https://…`; may hold templates.
    url: String,
    /// `GET` (the default), `POST`, `PUT` or `DELETE`.
    method: String,
    /// How a message becomes the body: `none` (the default of GET), `json` (that of the others), `text`, `html`, `xml`,
    /// `javascript`, `form`, `binary`, or `formdata` for a form with a file.
    body_type: String,
    /// Headers of each request; the values may hold templates over the row, or with `oauth` over its answer.
    headers: BTreeMap<String, String>,
    /// With `bodyType: formdata`: other fields of the form; the values may hold templates.
    form_data: BTreeMap<String, String>,
    /// With `bodyType: formdata`: name of the field that holds the message, as a file.
    file_field_name: String,
    /// How long a request may take with its answer; 0 for no limit. Default: 5s.
    timeout: Period,
    /// What says that a request was taken: `code`, the status, or `body`, with `debugResp` also the member `code` of the
    /// answer.
    response_type: String,
    /// Write the answers to the log.
    debug_resp: bool,
    /// How the body is compressed; `gzip` is also told in the header `Content-Encoding`.
    compression: String,
    /// How to get the token that headers carry: `access` with `url`, `body`, `headers` and `expire`, the seconds that it
    /// holds; and, where it is renewed by another request, `refresh` with `url`, `headers` and `body`.
    oauth: Option<Oauth>,
    #[serde(flatten)]
    tls: TlsOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            url: "http://localhost".into(),
            method: String::new(),
            body_type: String::new(),
            headers: BTreeMap::new(),
            form_data: BTreeMap::new(),
            file_field_name: String::new(),
            timeout: Period::secs(5),
            response_type: "code".into(),
            debug_resp: false,
            compression: String::new(),
            oauth: None,
            tls: TlsOptions::default(),
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// It is the body, of this type.
    Whole(&'static str),
    /// It is a file in a form.
    Form,
}

/// What a sink is to do.
#[derive(Clone)]
pub(super) struct Settings {
    /// The address, or its template.
    pub(super) url: String,
    pub(super) method: Method,
    pub(super) body: Body,
    /// Name, name as a dynamic property, and value.
    pub(super) headers: Vec<(HeaderName, String, String)>,
    pub(super) form: Vec<(String, String, String)>,
    pub(super) file_field: String,
    pub(super) timeout: Option<Duration>,
    /// The member `code` of an answer is looked at.
    pub(super) reads_code: bool,
    pub(super) debug: bool,
    pub(super) gzip: bool,
    pub(super) login: Option<Login>,
    pub(super) tls: Tls,
    /// `basic.enablePrivateNet`
    pub(super) private: bool,
}

const BODIES: [(&str, Body); 9] = [
    ("none", Body::None),
    ("text", Body::Whole("text/plain")),
    ("json", Body::Whole("application/json")),
    ("html", Body::Whole("text/html")),
    ("xml", Body::Whole("application/xml")),
    ("javascript", Body::Whole("application/javascript")),
    ("form", Body::Whole("application/x-www-form-urlencoded")),
    ("binary", Body::Whole("application/octet-stream")),
    ("formdata", Body::Form),
];

impl Options {
    pub(super) fn check(self, spec: &SinkSpec, warnings: &mut Vec<Diagnostic>) -> Result<Settings, Diagnostic> {
        if self.url.is_empty() {
            return Err(props::missing(&SINK, "url", "`\"url\": \"http://127.0.0.1:8080/alerts\"`"));
        }
        let private = spec.env.private_net;
        check_url("url", &self.url, private)?;
        let method = match self.method.to_uppercase().as_str() {
            "" | "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "DELETE" => Method::DELETE,
            _ => return Err(wrong("method", &self.method, "GET, POST, PUT or DELETE")),
        };
        let (kind, body) = self.body(&method, &spec.format.format)?;
        if self.method.is_empty() && body == Body::None {
            let text = "the `rest` sink sends GET requests, which carry no message, as property `method` is not there";
            warnings.push(Diagnostic::warning("K0621", text).help("set `\"method\": \"POST\"`"));
        }
        let mut none = |name: &str, wanted: bool, given: bool| {
            if given && !wanted {
                let text = format!("property `{name}` of the `rest` sink has no effect with `bodyType: {kind}`");
                warnings.push(Diagnostic::warning("K0621", text).help("set `\"bodyType\": \"formdata\"`"));
            }
        };
        none("formData", body == Body::Form, !self.form_data.is_empty());
        none("fileFieldName", body == Body::Form, !self.file_field_name.is_empty());
        if body == Body::Form && self.file_field_name.is_empty() {
            return Err(props::missing(
                &SINK,
                "fileFieldName",
                "`\"fileFieldName\": \"file\"`, as `bodyType` is formdata",
            ));
        }
        let reads_code = match self.response_type.as_str() {
            "code" => false,
            "body" => self.debug_resp,
            other => return Err(wrong("responseType", other, "`code` or `body`")),
        };
        let headers = headers("headers", &self.headers)?;
        let form = self.form_data.into_iter().map(|(name, value)| (format!("formData.{name}"), name, value));
        let form = form.map(|(path, name, value)| (name, path, value)).collect();
        let login = match self.oauth {
            Some(oauth) => oauth.check(&self.headers, private, warnings)?,
            None => None,
        };
        let tls = self.tls.check(&SINK, &spec.env, warnings)?;
        let asks = login.as_ref().is_some_and(|login| login.urls().any(|url| url.starts_with("https")));
        if self.tls.is_set() && self.url.starts_with("http://") && !asks {
            let text = format!("properties for TLS of the `rest` sink have no effect with `{}`", self.url);
            warnings.push(Diagnostic::warning("K0621", text).help("use `https://` to connect by TLS"));
        }
        Ok(Settings {
            url: self.url,
            method,
            body,
            headers,
            form,
            file_field: self.file_field_name,
            timeout: self.timeout.some(),
            reads_code,
            debug: self.debug_resp,
            gzip: self.compression == "gzip",
            login,
            tls,
            private,
        })
    }

    /// The kind of body, and its name.
    fn body(&self, method: &Method, format: &str) -> Result<(&'static str, Body), Diagnostic> {
        let name = match self.body_type.to_lowercase() {
            given if !given.is_empty() => given,
            _ if *method == Method::GET => "none".to_owned(),
            _ => "json".to_owned(),
        };
        let Some((name, body)) = BODIES.into_iter().find(|(known, _)| *known == name) else {
            let names = BODIES.map(|(name, _)| name);
            return Err(wrong("bodyType", &self.body_type, &names.join(", ")).suggest(&name, names));
        };
        let needs = match name {
            "json" => "json",
            "form" => "urlencoded",
            _ => return Ok((name, body)),
        };
        if !format.is_empty() && format != needs {
            let text = format!(
                "property `bodyType` of the `rest` sink is {name}, which needs messages of `format` {needs}, found {format}"
            );
            let other = if name == "json" { "`bodyType` text" } else { "`\"format\": \"urlencoded\"`" };
            return Err(Diagnostic::error("K0622", text).help(format!("set {other}")));
        }
        Ok((name, body))
    }
}

/// Headers by name, each with its name as a dynamic property, and its value.
pub(super) fn headers(
    above: &str,
    given: &BTreeMap<String, String>,
) -> Result<Vec<(HeaderName, String, String)>, Diagnostic> {
    let one = |(name, value): (&String, &String)| {
        let path = format!("{above}.{name}");
        let header = HeaderName::from_bytes(name.as_bytes());
        let header = header.map_err(|_| wrong(above, name, "an object of names of headers and texts"))?;
        if HeaderValue::from_str(value).is_err() {
            return Err(wrong(&path, value, "a text without line ends and control characters"));
        }
        Ok((header, path, value.clone()))
    };
    given.iter().map(one).collect()
}

/// An address is checked as far as it is known.
pub(super) fn check_url(name: &str, text: &str, private: bool) -> Result<(), Diagnostic> {
    const EXPECTED: &str = "an address such as `http://host:8080/path`";
    if !text.contains("{{") {
        return parsed(text, private).map(drop).map_err(|why| wrong(name, text, EXPECTED).help(why));
    }
    let starts = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) || text.starts_with("{{");
    if starts { Ok(()) } else { Err(wrong(name, text, EXPECTED)) }
}

/// The address of a request, to private networks too where that is allowed; the error says in words why it is none.
pub(super) fn parsed(text: &str, private: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("the scheme of `{text}` is not http or https"));
    }
    match url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>()) {
        None => Err(format!("`{text}` names no host")),
        Some(Ok(ip)) => refusal(ip, private).map_or(Ok(url), Err),
        Some(_) => Ok(url),
    }
}

pub(super) fn wrong(name: &str, found: &str, expected: &str) -> Diagnostic {
    props::wrong(&SINK, name, format_args!("`{found}`"), expected)
}

/// Used by the tests of this room.
#[cfg(test)]
pub(super) fn settings(spec: SinkSpec) -> Result<(Settings, Vec<String>), String> {
    let read = props::read::<Options>(&spec.props, &SINK);
    let (options, mut warnings) = read.map_err(|found| found.to_string())?;
    let settings = options.check(&spec, &mut warnings).map_err(|found| found.to_string())?;
    Ok((settings, warnings.into_iter().map(|found| found.message).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::codec::FormatOptions;
    use crate::io::tests::sink_spec;

    use super::*;

    fn check(props: Json, format: &str) -> Result<(Settings, Vec<String>), String> {
        let format = FormatOptions { format: format.into(), ..FormatOptions::default() };
        settings(SinkSpec { format, ..sink_spec(props, "/root") })
    }

    #[test]
    fn private_networks_are_asked_where_that_is_allowed() {
        let found = |url: &str, private| {
            let mut spec = sink_spec(json!({"url": url, "method": "POST"}), ".");
            spec.env.private_net = private;
            settings(spec).map(|(settings, _)| settings.private)
        };
        assert_eq!(found("http://10.0.0.1/", true), Ok(true));
        let why = found("http://10.0.0.1/", false).unwrap_err();
        assert!(why.contains("ip 10.0.0.1 is in internal network"), "{why}");
        assert_eq!(found("http://example.com/", false), Ok(false));
    }

    #[test]
    fn nothing_given_is_a_get_without_a_body_and_is_warned_of() {
        let (settings, warnings) = check(json!({}), "json").unwrap();
        assert_eq!(
            (settings.method, settings.body, settings.url.as_str()),
            (Method::GET, Body::None, "http://localhost")
        );
        assert_eq!(settings.timeout, Some(Duration::from_secs(5)));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(check(json!({"method": "get"}), "json").unwrap().1.is_empty());
    }

    #[test]
    fn the_body_follows_the_method_and_the_format() {
        for (props, format, body) in [
            (json!({"method": "post"}), "json", "application/json"),
            (json!({"method": "PUT", "bodyType": "TEXT"}), "delimited", "text/plain"),
            (json!({"method": "GET", "bodyType": "binary"}), "binary", "application/octet-stream"),
            (json!({"method": "DELETE", "bodyType": "form"}), "urlencoded", "application/x-www-form-urlencoded"),
        ] {
            assert_eq!(check(props, format).unwrap().0.body, Body::Whole(body));
        }
        let form = json!({"method": "POST", "bodyType": "formdata", "fileFieldName": "f", "formData": {"a": "{{.b}}"}});
        let (settings, warnings) = check(form, "delimited").unwrap();
        assert_eq!((settings.body, warnings), (Body::Form, vec![]));
        assert_eq!(settings.form, [("a".into(), "formData.a".into(), "{{.b}}".into())]);
        let (_, warnings) = check(json!({"method": "POST", "fileFieldName": "f"}), "json").unwrap();
        assert!(warnings[0].contains("`fileFieldName`") && warnings[0].contains("`bodyType: json`"), "{warnings:?}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (props, format, told) in [
            (json!({"method": "PATCH"}), "json", "must be GET, POST, PUT or DELETE, found `PATCH`"),
            (json!({"method": "{{.m}}"}), "json", "must be GET, POST, PUT or DELETE"),
            (json!({"url": "localhost:8080"}), "json", "must be an address such as `http://host:8080/path`"),
            (json!({"url": "ftp://h/x"}), "json", "the scheme of `ftp://h/x` is not http or https"),
            (json!({"url": ""}), "json", "needs the property `url`"),
            (json!({"url": "http://169.254.169.254/latest"}), "json", "ip 169.254.169.254 is link-local"),
            (json!({"bodyType": "jsn"}), "json", "did you mean `json`?"),
            (json!({"method": "POST"}), "delimited", "which needs messages of `format` json, found delimited"),
            (json!({"method": "POST", "bodyType": "form"}), "json", "which needs messages of `format` urlencoded"),
            (json!({"method": "POST", "bodyType": "formdata"}), "json", "needs the property `fileFieldName`"),
            (json!({"responseType": "status"}), "json", "must be `code` or `body`, found `status`"),
            (json!({"headers": {"a b": "c"}}), "json", "must be an object of names of headers and texts"),
            (json!({"headers": {"a": "b\nc"}}), "json", "property `headers.a`"),
            (json!({"headers": "a"}), "json", "property `headers` of the `rest` sink must be an object"),
            (json!({"timeout": "-1s"}), "json", "property `timeout`"),
            (json!({"oauth": {"refresh": {}}}), "json", "needs the property `oauth.access`"),
            (json!({"ulr": "http://a"}), "json", "did you mean `url`?"),
            (json!({"certificationPath": "c.pem"}), "json", "needs the property `privateKeyPath`"),
        ] {
            let error = check(props.clone(), format).err().unwrap_or_else(|| "it is taken".into());
            assert!(error.contains(told), "{props}: {error}");
        }
        for url in ["http://{{.host}}/a", "https://h/{{.id}}", "{{.url}}"] {
            assert!(check(json!({"url": url, "method": "POST"}), "json").is_ok(), "{url}");
        }
    }

    #[test]
    fn tls_without_https_is_warned_of() {
        let props = json!({"url": "http://h", "method": "POST", "insecureSkipVerify": true});
        let (_, warnings) = check(props, "json").unwrap();
        assert!(warnings[0].contains("have no effect with `http://h`"), "{warnings:?}");
    }
}
