use axum::http::StatusCode;
use serde_json::json;

use super::answer::{code, escaped, logged, object, text, warned};
use super::{Answer, Call, Refusal};
use crate::catalog::{self, Command, Definition, What, word};
use crate::diag::Diagnostic;

fn title(what: What) -> &'static str {
    match what {
        What::Stream => "Stream",
        What::Table => "Table",
    }
}

/// The definitions of one kind, tables by how they are read where the query asks for it.
fn chosen(call: &Call, what: What) -> Vec<std::sync::Arc<Definition>> {
    let mut all = call.server.host().catalog.all(what);
    match (what, call.query("kind").as_deref()) {
        (What::Table, Some("lookup")) => all.retain(|one| one.is_lookup()),
        (What::Table, Some("scan")) => all.retain(|one| !one.is_lookup()),
        _ => {}
    }
    all
}

pub(super) async fn list(call: Call, what: What) -> Answer {
    Ok(object(&chosen(&call, what).iter().map(|one| one.name.to_string()).collect::<Vec<_>>()))
}

pub(super) async fn details(call: Call, what: What) -> Answer {
    let line = |one: &std::sync::Arc<Definition>| {
        json!({
            "name": one.name.as_str(),
            "type": one.connector().to_lowercase(),
            "format": one.format(),
        })
    };
    Ok(object(&chosen(&call, what).iter().map(line).collect::<Vec<_>>()))
}

/// Follows any statement about streams and tables.
pub(super) async fn command(call: Call, what: What) -> Answer {
    let server = call.server.clone();
    let sql = statement(call).await?;
    let prefix = format!("{} command error", title(what));
    let refuse = |refusal: Refusal| refusal.or_code(code::STREAM).prefix(&prefix);
    let command = Command::parse(&sql).map_err(|refused| refuse(refused.into()))?;
    // A statement that names the wrong kind is told so, whoever uses the other.
    let fits = |what: What, name: &str| server.host().catalog.get(what, name).is_ok();
    if let Command::Drop(what, name) = &command
        && fits(*what, name)
        && server.rules.is_read(name)
    {
        let words = match server.host().catalog.find(name).is_some_and(|table| table.is_lookup()) {
            true => Refusal::bad(format!(
                "Drop table fails: lookup table {name} is still in use, stop all using rules before dropping it."
            )),
            false => referenced(*what, name),
        };
        return Err(refuse(words));
    }
    if let Command::Drop(what, name) = &command
        && fits(*what, name)
    {
        server.rules.let_go(name).await;
    }
    let warnings = match &command {
        Command::Create(definition) => server.host().advice(definition),
        _ => Vec::new(),
    };
    let answer = server.host().run(command).map_err(|refused| refuse(refused.into()))?;
    Ok(warned(escaped(StatusCode::CREATED, &answer), &logged(warnings)))
}

pub(super) async fn describe(call: Call, what: What) -> Answer {
    let name = call.id(0)?;
    let definition = call.server.host().catalog.get(what, &name).map_err(|_| {
        let message = format!("describe {0} error: Describe {0} fails, {name} is not found.", word(what));
        Refusal::new(code::STREAM, message)
    })?;
    Ok(object(&definition.to_json()))
}

pub(super) async fn schema(call: Call, what: What) -> Answer {
    let name = call.id(0)?;
    let definition = call.server.host().catalog.get(what, &name).map_err(|_| {
        let message = format!("get schema of {0} error: Describe {0} fails, {name} is not found.", word(what));
        Refusal::new(code::STREAM, message)
    })?;
    Ok(object(&definition.schema()))
}

pub(super) async fn replace(call: Call, what: What) -> Answer {
    let (server, name) = (call.server.clone(), call.id(0)?);
    let sql = statement(call).await?;
    let refuse = |refused: catalog::Refused| {
        Refusal::from(refused).or_code(code::STREAM).prefix(&format!("{} command error", title(what)))
    };
    let definition = Definition::parse(&sql).map_err(refuse)?;
    let host = server.host();
    let warnings = host.advice(&definition);
    // Before the old one is gone; what is refused leaves it as it was, with its rows.
    let against = |found: Diagnostic| refuse(catalog::Refused::Conflict(format!("Replace {name} fails: {found}.")));
    host.check(&definition).map_err(against)?;
    let answer = host.catalog.replace(what, &name, definition.clone()).map_err(refuse)?;
    host.prepare(&definition).map_err(against)?;
    Ok(warned(escaped(StatusCode::OK, &answer), &logged(warnings)))
}

pub(super) async fn drop(call: Call, what: What) -> Answer {
    let name = call.id(0)?;
    let server = &call.server;
    let prefix = format!("delete {} error", word(what));
    let refuse = |refused: catalog::Refused| Refusal::from(refused).prefix(&prefix);
    server.host().catalog.get(what, &name).map_err(refuse)?;
    if !call.query_is("force") && server.rules.is_read(&name) {
        return Err(referenced(what, &name));
    }
    server.rules.let_go(&name).await;
    let answer = server.host().catalog.drop(what, &name).map_err(refuse)?;
    server.host().release(&name);
    Ok(text(StatusCode::OK, answer))
}

fn referenced(what: What, name: &str) -> Refusal {
    Refusal::bad(format!("{} {name} has been referenced by other rules", word(what)))
}

async fn statement(call: Call) -> Result<String, Refusal> {
    let members = call.members().await;
    let sql = members.and_then(|members| members.text("sql"));
    let sql = sql.map_err(|refusal| refusal.prefix("Invalid body: Error decoding the statement descriptor"))?;
    if sql.trim().is_empty() {
        let help = "Invalid body: Error decoding the statement descriptor: `sql` is empty, expected a statement";
        return Err(Refusal::bad(help));
    }
    Ok(sql)
}
