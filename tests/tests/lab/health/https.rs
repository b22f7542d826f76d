//! HTTPS: whom the certificate is of and who vouches for it.

use anyhow::Result;
use lbx_tests::{
    cluster::{Cluster, Service},
    lab::{Lab, rip},
    nginx::Nginx,
    tls::Authority,
};

use super::{DETECTED, often, wait_up};
use crate::setup::Site;

crate::harness::tests!(Lbx:
    a_certificate_is_trusted_by_name_and_authority,
    status_and_body_count_over_tls_too,
);

/// One service for each way to ask; all of them ask port 443.
fn a_certificate_is_trusted_by_name_and_authority() -> Result<()> {
    let lab = Lab::with_real_servers(1)?;
    let authority = Authority::create(lab.directory())?;
    let certificate = authority.issue("web.example.org")?;
    let trusted = format!("authorities: {}", authority.file().display());
    let asking = |port, tls: &str| {
        let check = often(&format!("https: {{ path: /healthz, {tls} }}, port: 443"));
        Service::web("rr", 1).on("tcp", port).with("health", check)
    };
    let mut cluster = Cluster::from(asking(443, &format!("host: web.example.org, {trusted}")));
    cluster.services.extend([
        asking(444, &format!("server_name: web.example.org, {trusted}")),
        asking(445, "host: web.example.org"),
        asking(446, &format!("host: other.example.org, {trusted}")),
        asking(447, "host: other.example.org, verify: false"),
        // The certificate itself in place of its authority.
        asking(
            448,
            &format!("host: web.example.org, authorities: {}", certificate.file().display()),
        ),
    ]);
    let site = Site::start_in(lab, &cluster, |host| Nginx::start_with(host, &certificate))?;
    for port in [443, 444, 447, 448] {
        wait_up(&site.director, port, [rip(1)])?;
    }
    for (port, reason) in [
        (445, "certificate of an unknown issuer"),
        (446, "certificate not valid for name other.example.org"),
    ] {
        site.director.wait_down(port, rip(1), "TLS: ", DETECTED)?;
        site.director.server_state(port, rip(1))?.expect_down(reason)?;
    }
    Ok(())
}

fn status_and_body_count_over_tls_too() -> Result<()> {
    let lab = Lab::with_real_servers(1)?;
    let certificate = Authority::create(lab.directory())?.issue("web.example.org")?;
    let check = often("https: { path: /healthz, verify: false, body: { matches: \"is well\" } }");
    let service = Service::web("rr", 1).on("tcp", 443).with("health", check);
    let site = Site::start_in(lab, &service.into(), |host| Nginx::start_with(host, &certificate))?;
    wait_up(&site.director, 443, [rip(1)])?;
    let nginx = &site.servers[0];
    let (fail, mend) = (|| nginx.simulate_failure(true), || nginx.simulate_failure(false));
    super::expect_out_and_in(&site.director, 443, rip(1), "wrong status 503", fail, mend)
}
