mod log;

use axum::http::StatusCode;
use serde_json::{Value as Json, json};

use super::answer::{object, text};
use super::{Answer, Call, Refusal, fetch};
use crate::plugin::{Install, Kind, Line, Moved};
use crate::rule::check_id;

use self::log::Deed;

/// What the process ends with so that who looks after it starts it again, as eKuiper's does.
const RESTART: u8 = 100;

/// Members of a request to install: those of eKuiper, and ours. The version is that in the name of the library.
const MEMBERS: &[&str] = &["name", "file", "shellParas", "functions", "version", "sha256", "isolation"];

/// The kind that the path names; the route lets no other word through.
fn kind(call: &Call) -> Result<Kind, Refusal> {
    Kind::read(call.param(0)).ok_or_else(|| Refusal::bad(format!("there is no kind of plugin `{}`", call.param(0))))
}

pub(super) async fn list(call: Call) -> Answer {
    Ok(object(&call.server.host().plugins.list(kind(&call)?)))
}

pub(super) async fn create(call: Call) -> Answer {
    let (kind, server) = (kind(&call)?, call.server.clone());
    let mut deed = Deed::new(&server, kind, "");
    let installed = install(call, kind, None, &mut deed).await;
    let answer = match installed {
        Ok((name, _)) => Ok(text(StatusCode::CREATED, format!("{} plugin {name} is created", kind.many()))),
        Err(refusal) => Err(refusal.prefix(&format!("{} plugins create command error", kind.many()))),
    };
    deed.close(&server, "installed", &answer);
    answer
}

pub(super) async fn update(call: Call) -> Answer {
    let (kind, name) = (kind(&call)?, call.id(1)?);
    let prefix = format!("{} plugin {name} update command error", kind.many());
    // One that cannot be loaded can be replaced.
    if call.server.host().plugins.present(kind, &name).is_err() {
        return Err(Refusal::not_found(format!("{prefix}: not found")));
    }
    let server = call.server.clone();
    let mut deed = Deed::new(&server, kind, &name);
    let installed = install(call, kind, Some(name.clone()), &mut deed).await;
    let answer = match installed {
        Ok((_, moved)) => {
            deed.users = told(&moved);
            Ok(text(StatusCode::OK, format!("plugin {name} is updated{}", deed.users)))
        }
        Err(refusal) => Err(refusal.prefix(&prefix)),
    };
    deed.close(&server, "replaced", &answer);
    answer
}

/// What became of those who used the version before.
fn told(moved: &Moved) -> String {
    let all = |names: &[String]| format!("`{}`", names.join("`, `"));
    let verb = |names: &[String], one: &'static str, many: &'static str| if names.len() == 1 { one } else { many };
    let mut text = String::new();
    if !moved.moved.is_empty() {
        text += &format!("; {} {} on it", all(&moved.moved), verb(&moved.moved, "runs", "run"));
    }
    if !moved.late.is_empty() {
        let (finish, follow) = (verb(&moved.late, "finishes", "finish"), verb(&moved.late, "follows", "follow"));
        text += &format!("; {} {finish} something with the version before, and then {follow}", all(&moved.late));
    }
    if !moved.stayed.is_empty() {
        text += &format!("; not moved: {}", moved.stayed.join("; "));
    }
    if !moved.forgot.is_empty() {
        text += &format!(
            "; the state of {} was left behind, for the new version does not say that it can read it",
            all(&moved.forgot)
        );
    }
    text
}

/// Fetches the zip and installs it; `over` is the plugin that is there. Gives its name, and what became of its users.
async fn install(call: Call, kind: Kind, over: Option<String>, deed: &mut Deed) -> Result<(String, Moved), Refusal> {
    let server = call.server.clone();
    let members = call.members().await?;
    members.only(MEMBERS)?;
    let (named, file) = (members.text("name")?.trim().to_owned(), members.text("file")?);
    let sha256 = members.given("sha256")?;
    let name = match over.clone() {
        Some(path) if !named.is_empty() && named != path => {
            return Err(Refusal::bad(format!("the body names the plugin `{named}`, the path `{path}`")));
        }
        Some(path) => path,
        None => named,
    };
    deed.asks(&name, &file);
    let wish = Install {
        name: name.clone(),
        shell_params: members.texts("shellParas")?,
        functions: members.texts("functions")?,
        isolated: isolated(&members.text("isolation")?)?,
    };
    if wish.name.is_empty() {
        return Err(Refusal::bad("`name` of the plugin is missing"));
    }
    check_id(&wish.name).map_err(Refusal::bad)?;
    if !file.ends_with(".zip") {
        return Err(Refusal::bad(format!("invalid uri {}: `file` must end with .zip", fetch::shown(&file))));
    }
    if over.is_none() {
        let admitted = server.host().plugins.admit(kind, &wish);
        admitted.map_err(|refused| Refusal::from(refused).prefix("fail to install plugin"))?;
    }
    // Never finished, so the zip is gone when this function ends.
    let mut zip = server.host().store.uploads().begin(&format!("{name}.zip")).map_err(Refusal::from)?;
    fetch::fetch(&server, &file, sha256.as_deref(), &mut zip).await.map_err(Refusal::bad)?;
    let (plugins, rules) = (server.host().plugins.clone(), server.rules.clone());
    let installed = tokio::task::spawn_blocking(move || match over {
        None => plugins.install(kind, &wish, zip.path()).map(|_| Moved::default()),
        Some(plugin) if kind == Kind::Functions => {
            let judge = move |functions: &_| rules.judge(&plugin, functions);
            plugins.swap(kind, &wish, zip.path(), &judge).map(|(_, moved)| moved)
        }
        Some(_) => plugins.swap(kind, &wish, zip.path(), &|_| Ok(())).map(|(_, moved)| moved),
    })
    .await
    .map_err(|_| Refusal::bad("fail to install plugin: the installation broke off; this is a bug, please report it"))?;
    let moved = installed.map_err(|refused| Refusal::from(refused).prefix("fail to install plugin"))?;
    Ok((name, moved))
}

/// What the member `isolation` says, if anything.
fn isolated(text: &str) -> Result<Option<bool>, Refusal> {
    match text {
        "" => Ok(None),
        "process" => Ok(Some(true)),
        "none" => Ok(Some(false)),
        other => Err(Refusal::bad(format!("`isolation` is `{other}`, expected `process` or `none`"))),
    }
}

pub(super) async fn describe(call: Call) -> Answer {
    let (kind, name) = (kind(&call)?, call.id(1)?);
    let found = call
        .server
        .host()
        .plugins
        .describe(kind, &name)
        .map_err(|_| Refusal::not_found(format!("describe {} plugin {name} error: not found", kind.many())))?;
    let mut all = json!({"name": found.name, "version": found.version});
    if !found.functions.is_empty() {
        all["functions"] = json!(found.functions);
    }
    if !found.install_output.is_empty() {
        all["installOutput"] = json!(found.install_output);
    }
    all["isolation"] = json!(if found.process.is_some() { "process" } else { "none" });
    if let Some(process) = &found.process {
        all["process"] = json!({"id": process.process, "deaths": process.deaths, "lastDeath": process.last});
    }
    let symbols = found.symbols.iter().map(|symbol| {
        json!({
            "name": symbol.name,
            "what": symbol.what,
            "about": symbol.about,
            "signature": symbol.signature,
            "schema": symbol.schema,
        })
    });
    all["symbols"] = symbols.collect::<Json>();
    all["rules"] = json!(call.server.rules.users(kind, &name));
    let mapped = found.mapped.iter().map(|one| {
        let mut old = json!({"version": one.version, "users": one.users});
        if let Some(process) = &one.process {
            old["process"] = json!(process.process);
        }
        old
    });
    all["mapped"] = mapped.collect::<Json>();
    Ok(object(&all))
}

/// The last rows that went through a plugin, for its author; `after` is the number of the last one that is known.
pub(super) async fn rows(call: Call) -> Answer {
    let (kind, name) = (kind(&call)?, call.id(1)?);
    let after = match call.query("after") {
        None => 0,
        Some(text) => text.parse().map_err(|_| Refusal::bad("`after` is no number of a row"))?,
    };
    let prefix = format!("rows of {} plugin {name} error", kind.many());
    let looked = call.server.host().plugins.rows(kind, &name, after);
    let (last, lines) = looked.map_err(|refused| Refusal::from(refused).prefix(&prefix))?;
    let line =
        |line: &Line| json!({"number": line.number, "user": line.user, "version": line.version, "text": line.text});
    Ok(object(&json!({"last": last, "rows": lines.iter().map(line).collect::<Json>()})))
}

pub(super) async fn drop(call: Call) -> Answer {
    let (kind, name, server) = (kind(&call)?, call.id(1)?, call.server.clone());
    let mut deed = Deed::new(&server, kind, &name);
    let answer = remove(call, &mut deed).await;
    deed.close(&server, "deleted", &answer);
    answer
}

async fn remove(call: Call, deed: &mut Deed) -> Answer {
    let (kind, name) = (kind(&call)?, call.id(1)?);
    let prefix = format!("delete {} plugin {name} error", kind.many());
    let flags = call.query_flag("force").and_then(|force| Ok((force, call.query_flag("stop")?)));
    let (force, stop) = flags.map_err(|refusal| refusal.prefix(&prefix))?;
    let server = call.server.clone();
    let plugins = server.host().plugins.clone();
    plugins.present(kind, &name).map_err(|refused| Refusal::from(refused).prefix(&prefix))?;
    let users = server.rules.users(kind, &name);
    if !(users.is_empty() || force || stop) {
        return Err(Refusal::bad(format!(
            "{prefix}: the {} `{}` {} it; stop {}, or delete with `force=true`, which stops {}",
            if users.len() == 1 { "rule" } else { "rules" },
            users.join("`, `"),
            if users.len() == 1 { "uses" } else { "use" },
            if users.len() == 1 { "it" } else { "them" },
            if users.len() == 1 { "it" } else { "them" },
        )));
    }
    let mut stopped = String::new();
    if force {
        for id in &users {
            server.rules.stop(id.clone()).await.map_err(|refused| Refusal::from(refused).prefix(&prefix))?;
        }
        if !users.is_empty() {
            stopped = format!("; stopped: `{}`", users.join("`, `"));
            deed.users.clone_from(&stopped);
        }
    }
    plugins.remove(kind, &name).map_err(|refused| Refusal::from(refused).prefix(&prefix))?;
    if stop {
        server.end(RESTART);
        let answer = format!("{} plugin {name} is deleted{stopped}, and kuiper will be stopped", kind.many());
        return Ok(text(StatusCode::OK, answer));
    }
    Ok(text(StatusCode::OK, format!("{} plugin {name} is deleted{stopped}", kind.many())))
}

pub(super) async fn register(call: Call) -> Answer {
    let (server, name) = (call.server.clone(), call.id(0)?);
    let functions = call.members().await?.texts("functions")?;
    if functions.is_empty() {
        return Err(Refusal::bad("property 'functions' must not be empty"));
    }
    server
        .host()
        .plugins
        .register(&name, &functions)
        .map_err(|refused| Refusal::from(refused).prefix(&format!("register functions plugin {name} error")))?;
    Ok(text(StatusCode::OK, format!("function plugin {name} function list is registered")))
}

pub(super) async fn udfs(call: Call) -> Answer {
    Ok(object(&call.server.host().plugins.udfs()))
}

pub(super) async fn udf(call: Call) -> Answer {
    let name = call.param(0);
    let plugin = call.server.host().plugins.plugin_of(name);
    let plugin = plugin.ok_or_else(|| Refusal::not_found(format!("describe function {name} error: not found")))?;
    Ok(object(&json!({"name": name, "plugin": plugin})))
}
