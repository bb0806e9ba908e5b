use axum::extract::{FromRequest as _, Multipart};
use axum::http::{StatusCode, header};

use super::answer::{escaped, object, text};
use super::{Answer, Call, Refusal, fetch};

/// The largest file that is taken.
const LIMIT: u64 = 1 << 30;

/// Takes a file: as a member of a JSON object, from a place that one names, or as a form.
pub(super) async fn create(call: Call) -> Answer {
    let kind = call.request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let path = match kind {
        kind if kind.starts_with("application/json") => from_json(call).await?,
        kind if kind.starts_with("multipart/form-data") => from_form(call).await?,
        _ => {
            return Err(Refusal::bad(
                "Error Retrieving the File: request Content-Type isn't multipart/form-data; send a form with the field \
                 `uploadFile`, or application/json with `name` and `content`",
            ));
        }
    };
    Ok(escaped(StatusCode::CREATED, &path))
}

async fn from_json(call: Call) -> Result<String, Refusal> {
    let server = call.server.clone();
    let members = call.members().await.map_err(|refusal| refusal.prefix("Invalid body: Error decoding file json"))?;
    let (name, content, file) = (members.text("name")?, members.text("content")?, members.text("file")?);
    let sha256 = members.given("sha256")?;
    let missing = |what: &str| Refusal::bad(format!("Invalid body: missing necessary field: {what}"));
    if name.is_empty() {
        return Err(missing("`name` of the file"));
    }
    let failed = |refusal: Refusal| refusal.prefix("Upload error: getFile has error");
    let uploads = server.host().store.uploads();
    let path = match (content.is_empty(), file.is_empty()) {
        (false, true) => uploads.save(&name, content.as_bytes()).map_err(|fault| failed(fault.into()))?,
        (true, false) => {
            let mut upload = uploads.begin(&name).map_err(|fault| failed(fault.into()))?;
            let fetched = fetch::fetch(&server, &file, sha256.as_deref(), &mut upload).await;
            fetched.map_err(|why| failed(Refusal::bad(why)))?;
            upload.finish()?
        }
        (true, true) => return Err(missing("`content` or `file`")),
        (false, false) => return Err(Refusal::bad("Invalid body: both `content` and `file` are given; choose one")),
    };
    Ok(path.display().to_string())
}

async fn from_form(call: Call) -> Result<String, Refusal> {
    let wrong = |why: &dyn std::fmt::Display| Refusal::bad(format!("Error Retrieving the File: {why}"));
    let uploads = call.server.host().store.uploads();
    let mut form = Multipart::from_request(call.request, &()).await.map_err(|error| wrong(&error.body_text()))?;
    while let Some(mut field) = form.next_field().await.map_err(|error| wrong(&error.body_text()))? {
        if field.name() != Some("uploadFile") {
            continue;
        }
        let name = field.file_name().unwrap_or_default();
        // Some clients send the whole path of the file on their side.
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let mut upload = uploads.begin(&name)?;
        let mut size = 0;
        while let Some(piece) = field.chunk().await.map_err(|error| wrong(&error.body_text()))? {
            size += piece.len() as u64;
            if size > LIMIT {
                return Err(wrong(&format!("`{name}` is larger than {} MiB", LIMIT >> 20)));
            }
            upload.write(&piece)?;
        }
        return Ok(upload.finish()?.display().to_string());
    }
    Err(wrong(&"the form has no field `uploadFile`"))
}

pub(super) async fn list(call: Call) -> Answer {
    let paths = call.server.host().store.uploads().list()?;
    Ok(object(&paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()))
}

pub(super) async fn drop(call: Call) -> Answer {
    call.server
        .host()
        .store
        .uploads()
        .remove(call.param(0))
        .map_err(|fault| Refusal::from(fault).prefix("Error deleting the file"))?;
    Ok(text(StatusCode::OK, "ok"))
}
