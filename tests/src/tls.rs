//! Certificates by `openssl`: an authority of the lab's own, and what it vouches for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{netns::LIMIT, process};

/// An authority that no system trusts by itself.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    own: Certificate,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// Makes one; its files go to this directory.
    ///
    /// # Errors
    /// `openssl` fails.
    pub fn create(directory: &Path) -> Result<Self> {
        let own = Certificate::in_files(directory, "authority");
        let extensions = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n";
        own.request(directory, "authority", extensions, None)?;
        Ok(Self {
            directory: directory.to_owned(),
            own,
        })
    }

    /// The PEM file to be told whom to trust by.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.own.chain
    }

    /// A certificate for a server of this name.
    ///
    /// # Errors
    /// `openssl` fails.
    pub fn issue(&self, name: &str) -> Result<Certificate> {
        let certificate = Certificate::in_files(&self.directory, name);
        let extensions = format!(
            "basicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth\nsubjectAltName = DNS:{name}\n"
        );
        certificate.request(&self.directory, name, &extensions, Some(&self.own))?;
        Ok(certificate)
    }
}

impl Certificate {
    /// The PEM file with it.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.chain
    }

    /// The PEM file with the certificate.
    #[must_use]
    pub fn chain(&self) -> &Path {
        &self.chain
    }

    /// The PEM file with its key.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    fn in_files(directory: &Path, name: &str) -> Self {
        let file = |extension: &str| directory.join(format!("{name}.{extension}"));
        Self {
            chain: file("pem"),
            key: file("key"),
        }
    }

    /// Makes key and certificate, signed by the issuer or by itself.
    fn request(&self, directory: &Path, name: &str, extensions: &str, issuer: Option<&Self>) -> Result<()> {
        let settings = directory.join(format!("{name}.cnf"));
        let text = format!(
            "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n\
             [name]\nCN = {name}\n[extensions]\n{extensions}"
        );
        fs::write(&settings, text).with_context(|| format!("cannot write {}", settings.display()))?;
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args(["-nodes", "-days", "30", "-config"])
            .arg(&settings)
            .arg("-keyout")
            .arg(&self.key)
            .arg("-out")
            .arg(&self.chain);
        if let Some(issuer) = issuer {
            openssl.arg("-CA").arg(&issuer.chain).arg("-CAkey").arg(&issuer.key);
        }
        process::run(&mut openssl, LIMIT)?.success().map(drop)
    }
}
