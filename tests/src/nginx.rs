//! A real nginx on a host, with its own configuration and directory; the system's is left alone.

use std::{fs, net::TcpStream, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use crate::{host::Host, process::Process};

/// The program; sbin is not in everybody's PATH.
pub const PROGRAM: &str = "/usr/sbin/nginx";

/// An nginx on ports 80 and 8080 of all addresses of its host. `/` is the page `NAME nginx`; a header of every answer says `Served-By: NAME`.
#[derive(Debug)]
pub struct Nginx {
    root: PathBuf,
    _process: Process,
}

impl Nginx {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It is not installed or does not start; with its log.
    pub fn start(host: &Host) -> Result<Self> {
        let prefix = host.directory().join("nginx");
        let root = prefix.join("www");
        fs::create_dir_all(root.join("put")).with_context(|| format!("cannot create {}", root.display()))?;
        fs::write(root.join("index.html"), format!("{} nginx\n", host.name()))?;
        let configuration = prefix.join("nginx.conf");
        fs::write(&configuration, CONFIGURATION.replace("NAME", host.name()))?;
        let prefix = format!("{}/", prefix.display());
        let configuration = configuration.display().to_string();
        let mut process = host.spawn("nginx", [PROGRAM, "-p", &prefix, "-c", &configuration, "-e", "stderr"])?;
        process.wait_ready(Duration::from_secs(10), || {
            Ok(host.enter(|| TcpStream::connect(("127.0.0.1", 80)))?.is_ok())
        })?;
        Ok(Self {
            root,
            _process: process,
        })
    }

    /// Where its pages lie. Uploads (PUT) to `/put/NAME` arrive below `put`.
    #[must_use]
    pub fn root(&self) -> &PathBuf {
        &self.root
    }
}

/// One process, nothing outside the prefix, no access log.
const CONFIGURATION: &str = "\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    default_type text/plain;
    sendfile on;
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
        root www;
        add_header Served-By NAME;
        location /put/ {
            dav_methods PUT;
        }
    }
}
";
