//! A real nginx on a host, with its own configuration and directory; the system's is left alone.

use std::{fs, net::TcpStream, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::{host::Host, process::Process, tls::Certificate};

/// The program; sbin is not in everybody's PATH.
pub const PROGRAM: &str = "/usr/sbin/nginx";

/// An nginx on ports 80 and 8080 of all addresses of its host, and on 443 where it has a certificate. `/` is the page
/// `NAME nginx`; a header of every answer says `Served-By: NAME`. `/healthz` is `NAME is well`, or status 503 while it
/// [feigns illness](Nginx::simulate_failure). What is below `/slow/` are the same pages, at 500 kB a second.
#[derive(Debug)]
pub struct Nginx {
    root: PathBuf,
    process: Process,
}

impl Nginx {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It is not installed or does not start; with its log.
    pub fn start(host: &Host) -> Result<Self> {
        Self::launch(host, "")
    }

    /// The same, on port 443 too.
    ///
    /// # Errors
    /// See [`Nginx::start`].
    pub fn start_with(host: &Host, certificate: &Certificate) -> Result<Self> {
        let tls = TLS
            .replace("CERTIFICATE", &certificate.chain().display().to_string())
            .replace("KEY", &certificate.key().display().to_string());
        Self::launch(host, &tls)
    }

    fn launch(host: &Host, tls: &str) -> Result<Self> {
        let prefix = host.directory().join("nginx");
        let root = prefix.join("www");
        fs::create_dir_all(root.join("put")).with_context(|| format!("cannot create {}", root.display()))?;
        fs::write(root.join("index.html"), format!("{} nginx\n", host.name()))?;
        fs::write(root.join("healthz"), format!("{} is well\n", host.name()))?;
        let configuration = prefix.join("nginx.conf");
        let text = CONFIGURATION.replace("NAME", host.name()).replace("# TLS\n", tls);
        fs::write(&configuration, text)?;
        let prefix = format!("{}/", prefix.display());
        let configuration = configuration.display().to_string();
        let mut process = host.spawn("nginx", [PROGRAM, "-p", &prefix, "-c", &configuration, "-e", "stderr"])?;
        process.wait_ready(Duration::from_secs(10), || {
            Ok(host.enter(|| TcpStream::connect(("127.0.0.1", 80)))?.is_ok())
        })?;
        Ok(Self { root, process })
    }

    /// Where its pages lie. Uploads (PUT) to `/put/NAME` arrive below `put`.
    #[must_use]
    pub fn root(&self) -> &PathBuf {
        &self.root
    }

    /// Whether `/healthz` has status 503 from now on, while all other pages are there.
    ///
    /// # Errors
    /// Its directory cannot be written to.
    pub fn simulate_failure(&self, ill: bool) -> Result<()> {
        let sign = self.root.join("ill");
        match (ill, sign.exists()) {
            (true, _) => Ok(fs::write(sign, "")?),
            (false, true) => Ok(fs::remove_file(sign)?),
            (false, false) => Ok(()),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills it; the kernel resets its connections. A new one may be started in its place.
    ///
    /// # Errors
    /// It has ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.process.stop(Signal::SIGKILL).map(drop)
    }
}

/// One process, nothing outside the prefix, no access log. Connections are kept as long as clients like.
const CONFIGURATION: &str = "\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 4096;
events { worker_connections 2048; }
http {
    access_log off;
    default_type text/plain;
    sendfile on;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 80 backlog=1024;
        listen [::]:80 backlog=1024;
        listen 8080;
        listen [::]:8080;
# TLS
        root www;
        add_header Served-By NAME;
        location /put/ {
            dav_methods PUT;
        }
        location /slow/ {
            alias www/;
            limit_rate 500k;
        }
        location = /healthz {
            if (-f $document_root/ill) {
                return 503;
            }
        }
    }
}
";

const TLS: &str = "        listen 443 ssl;
        listen [::]:443 ssl;
        ssl_certificate CERTIFICATE;
        ssl_certificate_key KEY;
";
