//! How real servers stand: what `lbx list --json` says of their health.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{lbx::Director, wait};

/// Between two looks: each is a program that is run.
const PAUSE: Duration = Duration::from_millis(40);

/// Why a real server is down while its checks, or those of others of its service, have no result yet.
const UNKNOWN: [&str; 2] = ["not probed yet", "health check passed; its service begins"];

/// How a real server of a service stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// `up`, `draining`, `unresolved`, `sorry` or `down`.
    pub state: String,
    /// Why it is down, in words.
    pub reason: Option<String>,
    /// Its weight as configured.
    pub weight: u64,
    /// The weight that counts now.
    pub effective_weight: u64,
}

impl ServerState {
    /// That it is in this state.
    ///
    /// # Errors
    /// It is in another.
    pub fn expect(&self, state: &str) -> Result<()> {
        ensure!(self.state == state, "not {state}: {self:?}");
        Ok(())
    }

    /// That it is down, for a reason that contains these words.
    ///
    /// # Errors
    /// It is not, or for another.
    pub fn expect_down(&self, reason: &str) -> Result<()> {
        self.expect("down")?;
        let said = self.reason.as_deref().unwrap_or_default();
        ensure!(said.contains(reason), "not for {reason:?}: {self:?}");
        Ok(())
    }
}

impl Director {
    /// How a real server of the service on a port stands.
    ///
    /// # Errors
    /// It is not listed, or without these fields.
    pub fn server_state(&self, port: u16, server: impl Into<IpAddr>) -> Result<ServerState> {
        let server = server.into();
        let json = self.json()?;
        find(&json, port, server).with_context(|| format!("{server} on port {port} in {json:#}"))
    }

    /// Waits until a real server of the service on a port is in a state, and says how it stands then.
    ///
    /// # Errors
    /// It is not in time; with how it stands.
    pub fn wait_for(&self, port: u16, server: impl Into<IpAddr>, state: &str, limit: Duration) -> Result<ServerState> {
        let what = format!("{state} on port {port}");
        self.wait_state(port, server, &what, limit, |server| server.state == state)
    }

    /// Waits until the probes of a real server find it down, for a reason that contains these words.
    ///
    /// # Errors
    /// They do not in time, or for another.
    pub fn wait_down(
        &self,
        port: u16,
        server: impl Into<IpAddr>,
        reason: &str,
        limit: Duration,
    ) -> Result<ServerState> {
        let what = format!("down on port {port}");
        let state = self.wait_state(port, server, &what, limit, |state| {
            let reason = state.reason.as_deref().unwrap_or_default();
            state.state == "down" && !UNKNOWN.iter().any(|unknown| reason.starts_with(unknown))
        })?;
        state.expect_down(reason)?;
        Ok(state)
    }

    /// Waits until it fulfils a condition how a real server of the service on a port stands.
    ///
    /// # Errors
    /// It does not in time; with how it stands and what the director said.
    pub fn wait_state(
        &self,
        port: u16,
        server: impl Into<IpAddr>,
        what: &str,
        limit: Duration,
        condition: impl Fn(&ServerState) -> bool,
    ) -> Result<ServerState> {
        let server = server.into();
        let mut last = None;
        let found = wait::until(limit, &format!("{server} {what}"), || {
            let state = self.server_state(port, server)?;
            let fits = condition(&state);
            last = Some(state.clone());
            if !fits {
                thread::sleep(PAUSE);
            }
            Ok(fits.then_some(state))
        });
        found.with_context(|| format!("at last {last:?}"))
    }

    /// That a real server stays in a state for a time.
    ///
    /// # Errors
    /// It does not.
    pub fn expect_stays(&self, port: u16, server: impl Into<IpAddr>, state: &str, time: Duration) -> Result<()> {
        let server = server.into();
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.server_state(port, server)?.expect(state)?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn find(json: &Value, port: u16, server: IpAddr) -> Option<ServerState> {
    let services = json["services"].as_array()?;
    let service = services.iter().find(|service| service["port"] == port)?;
    let servers = service["servers"].as_array()?;
    let found = servers.iter().find(|entry| entry["address"] == server.to_string())?;
    Some(ServerState {
        state: found["state"].as_str()?.to_owned(),
        reason: found["reason"].as_str().map(str::to_owned),
        weight: found["weight"].as_u64()?,
        effective_weight: found["effective_weight"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    #[test]
    fn finds_a_server_of_a_service() {
        let rip = Ipv4Addr::new(192, 168, 1, 190);
        let server = json!({
            "address": "192.168.1.190", "state": "down", "reason": "connection refused", "weight": 3, "effective_weight": 0
        });
        let json = json!({ "services": [{ "port": 80, "servers": [server] }] });
        let state = find(&json, 80, rip.into()).unwrap();
        state.expect_down("refused").unwrap();
        assert_eq!((state.weight, state.effective_weight), (3, 0));
        assert!(state.expect_down("timed out").is_err() && state.expect("up").is_err());
        assert!(find(&json, 443, rip.into()).is_none() && find(&json, 80, Ipv4Addr::LOCALHOST.into()).is_none());
    }
}
