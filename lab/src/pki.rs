//! Certificates of one control plane, from an authority that exists as long as its session.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::error::{Error, Result};

/// Signs the certificates of servers and users.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key, as files.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Creates an authority that keeps its files in `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "latency-operator lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed(folder))?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed(folder))?;
        let authority = Self { issuer, folder: folder.to_owned() };
        write(&authority.certificate(), &authority.issuer.pem())?;
        Ok(authority)
    }

    /// The authority's own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate for a server that is reached by these names and addresses.
    pub(crate) fn server(&self, file: &str, names: &[&str]) -> Result<Pair> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(failed(&self.folder))?;
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, params)
    }

    /// A certificate by which the API server knows `user`, a member of `groups`.
    pub(crate) fn client(&self, file: &str, user: &str, groups: &[&str]) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        // The library keeps one value for each type of name; the number of the same type is another key to it.
        let places = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
        if groups.len() > places.len() {
            return Err(Error::setup(
                format!("making a certificate for {user}"),
                format!("{} groups are more than the {} that fit", groups.len(), places.len()),
                "bind roles to the user, or to fewer groups",
            ));
        }
        for (place, group) in places.into_iter().zip(groups) {
            params.distinguished_name.push(place, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)
    }

    /// A key pair without a certificate, private and public half: service account tokens are signed with it.
    pub(crate) fn signing_key(&self, file: &str) -> Result<(PathBuf, PathBuf)> {
        let key = KeyPair::generate().map_err(failed(&self.folder))?;
        let (private, public) =
            (self.folder.join(format!("{file}.key")), self.folder.join(format!("{file}.pub")));
        write(&private, &key.serialize_pem())?;
        write(&public, &key.public_key_pem())?;
        Ok((private, public))
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed(&self.folder))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed(&self.folder))?;
        let pair = Pair {
            certificate: self.folder.join(format!("{file}.crt")),
            key: self.folder.join(format!("{file}.key")),
        };
        write(&pair.certificate, &certificate.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    // The folder lets nobody else in.
    std::fs::write(path, text).map_err(Error::path("writing", path))
}

fn failed(folder: &Path) -> impl FnOnce(rcgen::Error) -> Error {
    let doing = format!("making certificates in {}", folder.display());
    move |error| Error::io(doing)(std::io::Error::other(error))
}
