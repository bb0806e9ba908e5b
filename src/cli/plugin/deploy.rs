//! `kuiper plugin deploy`: the last build, on a server.

use std::fs;
use std::path::Path;

use futures_util::stream;
use indicatif::ProgressBar;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, Url};
use serde_json::json;

use super::super::client::{Client, Failure, Remote};
use super::super::print::say;
use super::build::style;
use super::project::Project;
use super::{Build, build, cannot, pack};

/// Bytes of the zip that are sent at once.
const PIECE: usize = 64 << 10;

pub(super) async fn run(project: &Project, isolation: Option<&str>, remote: &Remote) -> Result<(), Failure> {
    let client = Client::new(remote)?;
    // A server that is away is found out before minutes are spent on a build.
    client.ask(Method::GET, &["ping"], None).await?;
    if project.any_build().is_none() {
        build::run(project, &Build::default())?;
    }
    let (library, version) = project.any_build().ok_or_else(|| Failure::Refused("the build is gone".to_owned()))?;
    let zip = project.zip();
    let modified = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    if modified(&zip).is_none_or(|packed| modified(&library).is_none_or(|built| built > packed)) {
        pack::run(project, None)?;
    }
    let path = upload(&client, &zip).await?;
    let file = Url::from_file_path(&path).map_err(|()| {
        Failure::Refused(format!("the server says that it stored the zip as `{path}`, which is no path"))
    })?;

    let (kind, name) = (project.kind.many(), project.name.as_str());
    let installed = client.get(&["plugins", kind]).await?;
    let listed = installed.as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let usable = listed && client.get(&["plugins", kind, name]).await.is_ok();
    let mut body = json!({ "name": name, "file": file.as_str() });
    if let Some(isolation) = isolation {
        body["isolation"] = isolation.into();
    }
    let body = body.to_string();
    let answer = match usable {
        true => client.ask(Method::PUT, &["plugins", kind, name], Some(body)).await?,
        false => client.ask(Method::POST, &["plugins", kind], Some(body)).await?,
    };
    let found = client.get(&["plugins", kind, name]).await?;
    if found["version"] != version.as_str() {
        let says = found["version"].as_str().unwrap_or("none").to_owned();
        return Err(Failure::Refused(format!(
            "the server answers with version {says} of `{name}`, not with {version}"
        )));
    }
    match client.json {
        true => say(found),
        false => say(format!("deployed {} {name} {version}: {}", project.kind.one(), answer.trim())),
    }
    Ok(())
}

/// Sends the zip, and returns the path that the server gave it.
async fn upload(client: &Client, zip: &Path) -> Result<String, Failure> {
    let bytes = fs::read(zip).map_err(|error| cannot("read", zip, &error))?;
    let bar = ProgressBar::new(bytes.len() as u64).with_style(style("{bar:30} {bytes}/{total_bytes} {wide_msg}"));
    let name = zip.file_name().unwrap_or_default().to_string_lossy().into_owned();
    bar.set_message(name.clone());
    let length = bytes.len() as u64;
    let counted = bar.clone();
    let pieces: Vec<Vec<u8>> = bytes.chunks(PIECE).map(<[u8]>::to_vec).collect();
    let sent = stream::iter(pieces.into_iter().map(move |piece| {
        counted.inc(piece.len() as u64);
        Ok::<Vec<u8>, std::io::Error>(piece)
    }));
    let part = Part::stream_with_length(Body::wrap_stream(sent), length).file_name(name);
    let answer = client.send_form(&["config", "uploads"], Form::new().part("uploadFile", part)).await;
    bar.finish_and_clear();
    Ok(answer?.trim().to_owned())
}
