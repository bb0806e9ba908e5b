//! TLS: certificates from files or from text, and what a failed handshake means in words.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

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
                .map_err(|error| format!("cannot read `{}`: {}", path.display(), crate::io::file::words(&error))),
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
pub(super) fn explain(error: &std::io::Error, host: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(found)) => match found {
            CertificateError::UnknownIssuer => {
                "the broker's certificate is not signed by a trusted authority; check `rootCaPath`".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the broker's certificate is not for `{host}`; check `server`")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired; check it and this machine's clock".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet; check this machine's clock".into()
            }
            _ => "the broker's certificate is not valid; check `rootCaPath` and the broker's settings".into(),
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
            "the broker does not accept the client's certificate; check `certificationPath` and `privateKeyPath`".into()
        }
        Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) | rustls::Error::PeerIncompatible(_)) => {
            "the broker speaks another version of TLS; check `tlsMinVersion`".into()
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            "the broker does not answer by TLS; check the port in `server`, or use `tcp://`".into()
        }
        _ => format!("the TLS handshake failed ({error}); check that the port in `server` is one for TLS"),
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
