use axum::http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::answer::{body_of, labelled_text, object, text, warned};
use super::{Answer, Call, Refusal, json as go};
use crate::diag::{Diagnostic, LineIndex};
use crate::lint::Known;

pub(super) async fn list(call: Call) -> Answer {
    Ok(object(&call.server.rules.list()))
}

pub(super) async fn create(call: Call) -> Answer {
    let rules = call.server.rules.clone();
    let told = rules.create(call.text().await?).await?;
    Ok(warned(text(StatusCode::CREATED, told.text), &told.warnings))
}

pub(super) async fn describe(call: Call) -> Answer {
    let rule = call.server.rules.text(&call.id(0)?).map_err(prefixed("Describe rule error"))?;
    Ok(body_of(StatusCode::OK, "application/json", rule))
}

pub(super) async fn update(call: Call) -> Answer {
    let (rules, id) = (call.server.rules.clone(), call.id(0)?);
    let (dry, force) = (call.query_is("dryRun"), call.query_is("force"));
    if dry {
        let change = rules.preview(id, call.text().await?).await.map_err(prefixed("Update rule error"))?;
        return Ok(object(&change));
    }
    let told = rules.update(id, call.text().await?, force).await.map_err(prefixed("Update rule error"))?;
    Ok(warned(text(StatusCode::OK, told.text), &told.warnings))
}

pub(super) async fn drop(call: Call) -> Answer {
    let answer = call.server.rules.remove(call.id(0)?).await.map_err(prefixed("Delete rule error"))?;
    Ok(text(StatusCode::OK, answer))
}

pub(super) async fn start(call: Call) -> Answer {
    let told = call.server.rules.start(call.param(0).to_owned()).await.map_err(prefixed("start rule error"))?;
    Ok(warned(text(StatusCode::OK, told.text), &told.warnings))
}

pub(super) async fn stop(call: Call) -> Answer {
    let answer = call.server.rules.stop(call.param(0).to_owned()).await.map_err(prefixed("stop rule error"))?;
    Ok(text(StatusCode::OK, answer))
}

pub(super) async fn restart(call: Call) -> Answer {
    let told = call.server.rules.restart(call.param(0).to_owned()).await.map_err(prefixed("restart rule error"))?;
    Ok(warned(text(StatusCode::OK, told.text), &told.warnings))
}

/// Has a source of the rule go to a position.
pub(super) async fn reset_state(call: Call) -> Answer {
    let (rules, id) = (call.server.rules.clone(), call.param(0).to_owned());
    let members = call.members().await?.0;
    match members.get("type").and_then(Json::as_i64) {
        Some(1) => {}
        other => return Err(Refusal::bad(format!("unknown stateType:{}", other.unwrap_or_default()))),
    }
    let params = members.get("params").cloned().unwrap_or_default();
    let stream = params["streamName"].as_str().unwrap_or_default();
    let reset = rules.reset(id, stream, params["input"].clone()).await;
    reset.map_err(|refused| Refusal::bad(refused.to_string()))?;
    Ok(text(StatusCode::OK, "success"))
}

pub(super) async fn status(call: Call) -> Answer {
    let status = call.server.rules.status(call.param(0)).map_err(prefixed("get rule status error"))?;
    Ok(body_of(StatusCode::OK, "application/json", go::pretty(&status.to_json())))
}

pub(super) async fn status_v2(call: Call) -> Answer {
    let status = call.server.rules.status(call.param(0)).map_err(prefixed("get rule status error"))?;
    let mut members: Vec<(String, Json)> = status.to_json().into_iter().collect();
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(labelled_text(&members.into_iter().collect::<Map<_, _>>()))
}

pub(super) async fn statuses(call: Call) -> Answer {
    let line = |status: &crate::rule::Status| {
        let (last, total) = status.exceptions();
        json!({"status": status.state.name(), "last_exception": last, "exceptions_total": total})
    };
    let all: Map<String, Json> =
        call.server.rules.statuses().iter().map(|(id, status)| (id.clone(), line(status))).collect();
    Ok(object(&all))
}

pub(super) async fn topo(call: Call) -> Answer {
    Ok(object(&call.server.rules.topo(call.param(0)).map_err(prefixed("get rule topo error"))?))
}

pub(super) async fn explain(call: Call) -> Answer {
    let plan = call.server.rules.explain(call.param(0)).map_err(prefixed("explain rules error"))?;
    Ok(text(StatusCode::OK, plan))
}

/// Bare text in both directions, as clients know it.
pub(super) async fn validate(call: Call) -> Answer {
    let rules = call.server.rules.clone();
    let body = call.text().await?;
    let checked = sampled(body).and_then(|(rule, known)| rules.validate(&rule, known));
    Ok(match checked {
        Ok(checked) => {
            let mut answer = json!({"sources": checked.sources, "valid": true});
            if !checked.warnings.is_empty() {
                let lines = LineIndex::new(&checked.sql);
                let finding = |warning: &Diagnostic| {
                    let mut finding = warning.to_json(&lines);
                    finding.insert("text".into(), json!(warning.render_in("sql", &lines)));
                    Json::Object(finding)
                };
                answer["warnings"] = checked.warnings.iter().map(ToString::to_string).collect();
                answer["findings"] = checked.warnings.iter().map(finding).collect();
            }
            labelled_text(&answer)
        }
        Err(why) => text(StatusCode::UNPROCESSABLE_ENTITY, why),
    })
}

/// The rule of a body, and the rows that stand beside it in the member `samples`.
fn sampled(body: String) -> Result<(String, Known), String> {
    // What is no object is for the reader of rules to refuse.
    let Ok(Json::Object(mut rule)) = serde_json::from_str::<Json>(&body) else { return Ok((body, Known::default())) };
    let Some(samples) = rule.remove("samples") else { return Ok((body, Known::default())) };
    let known = Known::from_json(samples).map_err(|why| format!("invalid rule json: {why}"))?;
    Ok((Json::Object(rule).to_string(), known))
}

fn prefixed(before: &'static str) -> impl Fn(crate::rule::Refused) -> Refusal {
    move |refused| Refusal::from(refused).prefix(before)
}
