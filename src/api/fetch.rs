//! Files that a request names by a URL.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use sha2::{Digest as _, Sha256};

use super::Server;
use crate::diag::words;
use crate::io::refusal;
use crate::plugin::check_regular;
use crate::store::Upload;

/// How often an answer may point elsewhere.
const HOPS: usize = 5;

/// Writes what the URL names into the upload; where a digest is given (SHA-256 in hexadecimal), it must have that. The
/// error is a sentence.
pub(super) async fn fetch(
    server: &Arc<Server>,
    url: &str,
    sha256: Option<&str>,
    upload: &mut Upload,
) -> Result<(), String> {
    let plain = sha256.map(|given| given.trim().to_ascii_lowercase());
    if plain.as_ref().is_some_and(|plain| plain.len() != 64 || !plain.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err("`sha256` is no digest; it is 64 hexadecimal digits, as `sha256sum` prints them".to_owned());
    }
    bring(server, url, upload).await?;
    let Some(plain) = plain else { return Ok(()) };
    let found = digest(upload.path()).map_err(|error| format!("cannot read what came: {}", words(&error)))?;
    match found == plain {
        true => Ok(()),
        false => Err(format!("what came from {} has the SHA-256 {found}, and {plain} was asked for", shown(url))),
    }
}

/// The URL for a sentence or the log, without the user and the password that it may hold. Of what cannot be read as a
/// URL of the web, all that stands before the last `@` may be such.
pub(super) fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.has_host() => {
            if parsed.username().is_empty() && parsed.password().is_none() {
                return url.to_owned();
            }
            match (parsed.set_username(""), parsed.set_password(None)) {
                (Ok(()), Ok(())) => parsed.into(),
                _ => url.rsplit('@').next().unwrap_or_default().to_owned(),
            }
        }
        Ok(parsed) if parsed.scheme() == "file" => url.to_owned(),
        _ => url.rsplit('@').next().unwrap_or_default().to_owned(),
    }
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut sum = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let size = file.read(&mut piece)?;
        if size == 0 {
            return Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        sum.update(&piece[..size]);
    }
}

async fn bring(server: &Arc<Server>, url: &str, upload: &mut Upload) -> Result<(), String> {
    let parsed = Url::parse(url)
        .map_err(|_| format!("invalid uri {}: write it as http://…, https://… or file://…", shown(url)))?;
    match parsed.scheme() {
        "file" => copy(server, &parsed, upload),
        "http" | "https" => {
            let done = in_time(server, parsed, upload).await;
            done.map_err(|why| format!("fail to download file {}: {why}", shown(url)))
        }
        // What looks like a scheme may be a user, and a password behind it.
        _ if !url.contains("://") => {
            Err(format!("invalid uri {}: write it as http://…, https://… or file://…", shown(url)))
        }
        other => Err(format!("invalid uri {}: the scheme `{other}` is not http, https or file", shown(url))),
    }
}

fn copy(server: &Arc<Server>, url: &Url, upload: &mut Upload) -> Result<(), String> {
    let path = url
        .to_file_path()
        .map_err(|()| format!("invalid uri {}: it names no file of this machine", shown(url.as_str())))?;
    let uploads = server.host().store.uploads();
    if !server.external_files && !uploads.holds(&path) {
        let exists = |path: &Path| path.starts_with(uploads.folder());
        if !exists(&path) {
            return Err(format!("file access denied: path must be under {}", uploads.folder().display()));
        }
        return Err(format!("there is no file `{}`", path.display()));
    }
    let mut read = || -> Result<(), String> {
        check_regular(&path)?;
        let mut file = std::fs::File::open(&path).map_err(|error| words(&error))?;
        let mut piece = vec![0; 1 << 16];
        loop {
            let size = file.read(&mut piece).map_err(|error| words(&error))?;
            if size == 0 {
                return Ok(());
            }
            upload.write(&piece[..size]).map_err(|fault| fault.to_string())?;
        }
    };
    read().map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

/// Whatever the other side does to hold us up, together it takes no longer than that.
async fn in_time(server: &Arc<Server>, url: Url, upload: &mut Upload) -> Result<(), String> {
    let (most, limit) = server.download;
    let done = tokio::time::timeout(limit, download(url, most, server.host().private_net, upload)).await;
    done.unwrap_or_else(|_| Err(format!("it has not come within {} s", limit.as_secs_f64())))
}

async fn download(mut url: Url, most: u64, private: bool, upload: &mut Upload) -> Result<(), String> {
    for _ in 0..HOPS {
        // The addresses that were checked are the ones that are used, whatever the name says a moment later.
        let (host, addresses) = resolve(&url, private).await?;
        // A test that uses this room alone has had no one set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .resolve_to_addrs(&host, &addresses)
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(sentence)?;
        let mut response = client.get(url.clone()).send().await.map_err(sentence)?;
        let status = response.status();
        if status.is_redirection() {
            let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
            let target = target.ok_or_else(|| format!("cannot download the file with status: {status}"))?;
            let secure = url.scheme() == "https";
            let to = shown(target);
            url = url.join(target).map_err(|_| format!("the server points to `{to}`, which is no address"))?;
            let to = shown(url.as_str());
            if !["http", "https"].contains(&url.scheme()) {
                return Err(format!("the server points to `{to}`, which is neither http nor https"));
            }
            if secure && url.scheme() == "http" {
                return Err(format!("the server points from https to `{to}`, which anyone could change on its way"));
            }
            continue;
        }
        if status != 200 {
            return Err(format!("cannot download the file with status: {status}"));
        }
        let too_large = || format!("the file is larger than {most} bytes, which `basic.downloadMaxBytes` allows");
        if response.content_length().is_some_and(|size| size > most) {
            return Err(too_large());
        }
        let mut size = 0;
        while let Some(piece) = response.chunk().await.map_err(sentence)? {
            size += piece.len() as u64;
            if size > most {
                return Err(too_large());
            }
            upload.write(&piece).map_err(|fault| fault.to_string())?;
        }
        return Ok(());
    }
    Err(format!("the server points elsewhere more than {HOPS} times"))
}

/// The addresses of the URL's host, all of them fit to be asked.
async fn resolve(url: &Url, private: bool) -> Result<(String, Vec<SocketAddr>), String> {
    let host = url.host_str().ok_or("the address names no host")?.to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let found = tokio::net::lookup_host((bare.as_str(), port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|_| format!("nobody knows the host `{host}`"))?.collect();
    match addresses.iter().find_map(|address| refusal(address.ip(), private)) {
        Some(why) => Err(why),
        None if addresses.is_empty() => Err(format!("`{host}` has no address")),
        None => Ok((host, addresses)),
    }
}

/// What went wrong underneath: the outer errors only say that something did.
fn sentence(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "the other side does not answer in time".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    words(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (url, told) in [
            ("https://host/x.zip", "https://host/x.zip"),
            ("http://host:1/a@b.zip?c=d@e", "http://host:1/a@b.zip?c=d@e"),
            ("file:///a@b.zip", "file:///a@b.zip"),
            ("https://me:secret@host/x.zip", "https://host/x.zip"),
            ("https://me@host:1/x.zip", "https://host:1/x.zip"),
            ("https:me:secret@host/x.zip", "https://host/x.zip"),
            ("HT\ttps://me:secret@host/x.zip", "https://host/x.zip"),
            ("https://me:sec@ret@host/x.zip", "https://host/x.zip"),
            ("https://me:sec/ret@host/x.zip", "host/x.zip"),
            ("https://me:secret@ho st/x.zip", "ho st/x.zip"),
            ("me:secret@host/x.zip", "host/x.zip"),
            ("ftp://me:secret@host/x.zip", "ftp://host/x.zip"),
        ] {
            assert_eq!(shown(url), told, "{url}");
        }
    }
}
