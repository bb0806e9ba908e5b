use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use super::answer::text;
use super::call::decoded;
use super::{Answer, Call, Server, keyed, metadata, metrics, plugins, queues, rules, streams, system, uploads};
use crate::catalog::What::{Stream, Table};
use crate::plugin::Part;

type Handling = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One row: method, path with `{}` for what is left open, handler.
struct Route(Method, &'static str, fn(Call) -> Handling);

macro_rules! routes {
    ($($method:ident $path:literal $handler:expr;)*) => {
        &[$(Route(Method::$method, $path, |call| Box::pin($handler(call)))),*]
    };
}

/// All routes. The first that fits wins, so `GET /rules/validate` describes a rule of that name.
const ROUTES: &[Route] = routes! {
    GET "/" system::information;
    POST "/" system::information;
    GET "/ping" system::ping;

    GET "/streams" |call| streams::list(call, Stream);
    POST "/streams" |call| streams::command(call, Stream);
    GET "/streams/{}" |call| streams::describe(call, Stream);
    PUT "/streams/{}" |call| streams::replace(call, Stream);
    DELETE "/streams/{}" |call| streams::drop(call, Stream);
    GET "/streams/{}/schema" |call| streams::schema(call, Stream);
    GET "/streamdetails" |call| streams::details(call, Stream);
    GET "/tables" |call| streams::list(call, Table);
    POST "/tables" |call| streams::command(call, Table);
    GET "/tables/{}" |call| streams::describe(call, Table);
    PUT "/tables/{}" |call| streams::replace(call, Table);
    DELETE "/tables/{}" |call| streams::drop(call, Table);
    GET "/tables/{}/schema" |call| streams::schema(call, Table);
    GET "/tabledetails" |call| streams::details(call, Table);

    GET "/rules" rules::list;
    POST "/rules" rules::create;
    GET "/rules/status/all" rules::statuses;
    GET "/rules/{}" rules::describe;
    PUT "/rules/{}" rules::update;
    DELETE "/rules/{}" rules::drop;
    POST "/rules/validate" rules::validate;
    POST "/rules/{}/start" rules::start;
    POST "/rules/{}/stop" rules::stop;
    POST "/rules/{}/restart" rules::restart;
    PUT "/rules/{}/reset_state" rules::reset_state;
    GET "/rules/{}/status" rules::status;
    GET "/v2/rules/{}/status" rules::status_v2;
    GET "/rules/{}/topo" rules::topo;
    GET "/rules/{}/explain" rules::explain;

    GET "/metrics" metrics::scrape;
    GET "/metrics/dump" metrics::dump;
    GET "/metrics/dump/check" metrics::dumps;

    GET "/queues" queues::list;
    GET "/rules/{}/queues" queues::of_rule;
    GET "/rules/{}/queues/{}" queues::show;
    DELETE "/rules/{}/queues/{}" queues::drop;

    GET "/keyedstate" keyed::list;
    GET "/keyedstate/{}" keyed::get;
    PUT "/keyedstate/{}" keyed::put;
    DELETE "/keyedstate/{}" keyed::drop;

    POST "/config/uploads" uploads::create;
    GET "/config/uploads" uploads::list;
    DELETE "/config/uploads/{}" uploads::drop;

    GET "/metadata/functions" metadata::functions;
    GET "/metadata/functions/{}" metadata::function;
    GET "/metadata/sources" metadata::sources;
    GET "/metadata/sources/{}" metadata::source;
    GET "/metadata/sources/yaml/{}" metadata::source_yaml;
    PUT "/metadata/sources/{}/confKeys/{}" metadata::put_conf_key;
    DELETE "/metadata/sources/{}/confKeys/{}" metadata::drop_conf_key;
    GET "/metadata/sinks" metadata::sinks;
    GET "/metadata/sinks/{}" metadata::sink;
    POST "/metadata/sources/connection/{}" |call| metadata::reach(call, Part::Source);
    POST "/metadata/lookups/connection/{}" |call| metadata::reach(call, Part::Lookup);
    POST "/metadata/sinks/connection/{}" |call| metadata::reach(call, Part::Sink);

    GET "/plugins/udfs" plugins::udfs;
    GET "/plugins/udfs/{}" plugins::udf;
    GET "/plugins/{kind}" plugins::list;
    POST "/plugins/{kind}" plugins::create;
    GET "/plugins/{kind}/{}" plugins::describe;
    GET "/plugins/{kind}/{}/rows" plugins::rows;
    PUT "/plugins/{kind}/{}" plugins::update;
    DELETE "/plugins/{kind}/{}" plugins::drop;
    POST "/plugins/functions/{}/register" plugins::register;
};

/// Routes that eKuiper has under more than one name.
const ALIASES: &[(&str, &str)] =
    &[("/stream", "/streams"), ("/Stream", "/streams"), ("/table", "/tables"), ("/Table", "/tables")];

/// Paths of eKuiper that are not there, though one of the routes would fit with another method.
const MISSING: &[&str] = &["/rules/bulkstart", "/rules/bulkstop"];

/// Finds the route of a request and lets it answer.
pub(super) async fn answer(server: Arc<Server>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if path.contains("//") {
        return moved(&path, request.uri().query());
    }
    let path = known(&path);
    // On the port of REST only where the settings say so.
    if path == "/metrics" && !server.metrics {
        return nowhere();
    }
    let mut known = false;
    for Route(method, pattern, handler) in ROUTES {
        let Some(params) = fits(pattern, &path) else { continue };
        if method == request.method() {
            return handler(Call { server, params, request }).await.unwrap_or_else(|refusal| refusal.into_response());
        }
        known = true;
    }
    if known && !MISSING.contains(&path.as_str()) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    nowhere()
}

/// The answer where there is no such path.
pub(super) fn nowhere() -> Response {
    let mut response = text(StatusCode::NOT_FOUND, "404 page not found\n");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The path under its main name.
fn known(path: &str) -> String {
    for (alias, name) in ALIASES {
        if let Some(rest) = path.strip_prefix(alias)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return format!("{name}{rest}");
        }
    }
    path.to_owned()
}

/// The open parts of the path, where it fits the pattern.
fn fits(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        match wanted {
            "{}" if !part.is_empty() => params.push(decoded(part)),
            "{kind}" if ["sources", "sinks", "functions"].contains(&part) => params.push(part.to_owned()),
            _ if wanted == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(params)
}

/// A doubled slash is answered with the path that was meant.
fn moved(path: &str, query: Option<&str>) -> Response {
    let mut clean = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    if let Some(query) = query {
        clean.push('?');
        clean.push_str(query);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(target) = HeaderValue::from_str(&clean) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_as_a_whole() {
        assert_eq!(fits("/rules/{}/start", "/rules/a%20b/start"), Some(vec!["a b".to_owned()]));
        assert_eq!(fits("/rules/{}", "/rules/"), None);
        assert_eq!(fits("/rules/{}", "/rules/a/b"), None);
        assert_eq!(fits("/rules", "/rules/"), None);
        assert_eq!(fits("/plugins/{kind}", "/plugins/udfs"), None);
        assert_eq!(known("/Stream/demo"), "/streams/demo");
        assert_eq!(known("/streamdetails"), "/streamdetails");
    }
}
