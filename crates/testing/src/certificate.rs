//! Certificates of a test's own servers.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The file of the authority's certificate in its directory.
pub(crate) const AUTHORITY: &str = "ca.pem";

/// Makes an authority and a certificate for these names, and leaves the authority's in a file of this directory.
///
/// # Panics
/// When they cannot be made.
pub(crate) fn certified(directory: &Path, names: &[&str]) -> ServerConfig {
    let authority_key = KeyPair::generate().expect("a key can be made");
    let mut authority = CertificateParams::new(Vec::new()).expect("no name is a valid list");
    // Of the same name as the leaf it would look as if the leaf had signed itself.
    authority.distinguished_name.push(DnType::CommonName, "authority of a test");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).expect("a key signs itself");
    fs::write(directory.join(AUTHORITY), certificate.pem()).expect("a file can be written");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key can be made");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).expect("the names are valid");
    let leaf = leaf.signed_by(&key, &issuer).expect("the authority signs");
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a valid key");
    ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the usual versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key fits the certificate")
}
