//! TLS of a client: the properties that all connectors share, certificates from files or from text, and what a failed
//! handshake means in words.
//!
//! [`TlsOptions`] is flattened into the options of a connector; [`Tls`] is what they mean, and makes the settings of each
//! connection anew, so that files may be renewed while a rule runs.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::Deserialize;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::diag::Diagnostic;

use super::Env;
use super::props::{self, Names, Secret};

/// Options of TLS, alike for all clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct TlsOptions {
    /// File with the certificates of the authorities to trust. Default: those that browsers trust.
    root_ca_path: String,
    /// File with the client's certificate.
    certification_path: String,
    /// File with the client's key.
    private_key_path: String,
    /// Content of `rootCaPath` in base64.
    #[serde(rename = "rootCARaw")]
    root_ca_raw: String,
    /// Content of `certificationPath` in base64.
    certification_raw: String,
    /// Content of `privateKeyPath` in base64.
    private_key_raw: Secret,
    /// Do not check the certificate of the other side.
    insecure_skip_verify: bool,
    /// `tls1.2` or `tls1.3`.
    tls_min_version: String,
}

impl TlsOptions {
    /// Whether anything is set that a connection without TLS has no use for.
    pub(super) fn is_set(&self) -> bool {
        let texts = [
            &self.root_ca_path,
            &self.root_ca_raw,
            &self.certification_path,
            &self.certification_raw,
            &self.private_key_path,
            &self.private_key_raw.0,
        ];
        self.insecure_skip_verify || texts.iter().any(|text| !text.is_empty())
    }

    /// What they mean; relative paths start from the folder of `env`.
    pub(super) fn check(&self, names: &Names, env: &Env, warnings: &mut Vec<Diagnostic>) -> Result<Tls, Diagnostic> {
        let pem = |path: &str, raw: &str, name: &str| -> Result<Option<Pem>, Diagnostic> {
            if !path.is_empty() {
                return Ok(Some(Pem::File(env.root.join(path))));
            }
            if raw.is_empty() {
                return Ok(None);
            }
            let compact: String = raw.split_whitespace().collect();
            let bytes =
                BASE64.decode(compact).map_err(|_| props::wrong(names, name, "something else", "base64 of a PEM text"));
            Ok(Some(Pem::Text(bytes?)))
        };
        let roots = pem(&self.root_ca_path, &self.root_ca_raw, "rootCARaw")?;
        let certificate = pem(&self.certification_path, &self.certification_raw, "certificationRaw")?;
        let key = pem(&self.private_key_path, &self.private_key_raw.0, "privateKeyRaw")?;
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(props::missing(names, "privateKeyPath", "`client.key`, beside `certificationPath`"));
            }
            (None, Some(_)) => {
                return Err(props::missing(names, "certificationPath", "`client.pem`, beside `privateKeyPath`"));
            }
        };
        let only_13 = match self.tls_min_version.as_str() {
            "" | "tls1.2" => false,
            "tls1.3" => true,
            other => {
                let text = format!("property `tlsMinVersion` of {} is `{other}`; `tls1.2` is used", names.of);
                warnings.push(Diagnostic::warning("K0621", text).help("set `tls1.2` or `tls1.3`"));
                false
            }
        };
        Ok(Tls { roots, client, verify: !self.insecure_skip_verify, only_13 })
    }
}

/// Who is at the other end, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// `the broker`
    pub(super) who: &'static str,
    /// The property that holds its address.
    pub(super) address: &'static str,
    /// How that begins without TLS.
    pub(super) plain: &'static str,
}

/// Where a PEM text is. A file is read at each connection, so that it may be renewed.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

/// How to connect by TLS.
#[derive(Clone)]
pub(super) struct Tls {
    /// The authorities to trust; `None` for those that browsers trust.
    pub(super) roots: Option<Pem>,
    /// Certificate and key of the client.
    pub(super) client: Option<(Pem, Pem)>,
    pub(super) verify: bool,
    pub(super) only_13: bool,
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Pem::Text(text) => Ok(text.clone()),
            Pem::File(path) => std::fs::read(path)
                .map_err(|error| format!("cannot read `{}`: {}", path.display(), super::file::words(&error))),
        }
    }

    fn name(&self) -> String {
        match self {
            Pem::File(path) => format!("`{}`", path.display()),
            Pem::Text(_) => "the given text".into(),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let text = self.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(format!("{} holds no certificate in PEM form", self.name())),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|_| format!("{} holds no private key in PEM form", self.name()))
    }
}

impl Tls {
    /// The settings of a connection; an error says which file is wrong.
    pub(super) fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] =
            if self.only_13 { &[&rustls::version::TLS13] } else { &[&rustls::version::TLS12, &rustls::version::TLS13] };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = if self.verify {
            let mut roots = RootCertStore::empty();
            match &self.roots {
                None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
                Some(pem) => {
                    for certificate in pem.certificates()? {
                        roots.add(certificate).map_err(|_| format!("{} holds a broken certificate", pem.name()))?;
                    }
                }
            }
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        };
        match &self.client {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(certificate.certificates()?, key.key()?).map_err(|_| {
                    format!("the key in {} does not belong to the certificate in {}", key.name(), certificate.name())
                })
            }
        }
    }
}

/// What a failed handshake means, and what to check.
pub(super) fn explain(error: &std::io::Error, host: &str, peer: &Peer) -> String {
    let Peer { who, address, plain } = peer;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(found)) => match found {
            CertificateError::UnknownIssuer => {
                format!("{who}'s certificate is not signed by a trusted authority; check `rootCaPath`")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("{who}'s certificate is not for `{host}`; check `{address}`")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("{who}'s certificate has expired; check it and this machine's clock")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("{who}'s certificate is not valid yet; check this machine's clock")
            }
            _ => format!("{who}'s certificate is not valid; check `rootCaPath` and {who}'s settings"),
        },
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::DecryptError
            | AlertDescription::HandshakeFailure
            | AlertDescription::AccessDenied,
        )) => {
            format!("{who} does not accept the client's certificate; check `certificationPath` and `privateKeyPath`")
        }
        Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) | rustls::Error::PeerIncompatible(_)) => {
            format!("{who} speaks another version of TLS; check `tlsMinVersion`")
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("{who} does not answer by TLS; check the port in `{address}`, or use `{plain}`")
        }
        _ => format!("the TLS handshake failed ({error}); check that the port in `{address}` is one for TLS"),
    }
}

/// Takes any certificate, for `insecureSkipVerify`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
