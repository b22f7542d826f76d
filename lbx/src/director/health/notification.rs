//! What is notified of.

use std::{net::IpAddr, time::SystemTime};

use super::notify_queue::Subject;
use crate::desired::{Service, VirtualService};

/// A notification: what a command gets in its environment, and a socket as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What happened: `server_up`, `server_down`, `quorum_gained`, `quorum_lost`, `director_start`, `director_stop`.
    pub event: &'static str,
    /// The service and its name, unless it is about the director.
    pub service: Option<(VirtualService, String)>,
    /// The real server, if it is about one.
    pub server: Option<IpAddr>,
    /// Its weight in the file.
    pub weight: Option<u16>,
    /// Why it is down.
    pub reason: Option<String>,
    /// When.
    pub timestamp: SystemTime,
}

impl Notification {
    /// A notice about a service as such.
    #[must_use]
    pub fn for_service(service: &Service, event: &'static str) -> Self {
        Self {
            service: Some((service.virtual_service, service.name.clone())),
            ..Self::for_director(event)
        }
    }

    /// A notice about the director.
    #[must_use]
    pub fn for_director(event: &'static str) -> Self {
        Self {
            event,
            service: None,
            server: None,
            weight: None,
            reason: None,
            timestamp: SystemTime::now(),
        }
    }

    /// What it is about: its place in the order.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match (&self.service, self.server) {
            (None, _) => Subject::Director,
            (Some((service, _)), None) => Subject::Service(*service),
            (Some((service, _)), Some(server)) => Subject::Server(*service, server),
        }
    }

    /// Names and values; those that are about nothing are empty.
    #[must_use]
    pub fn environment(&self, director: &str) -> [(&'static str, String); 10] {
        fn text<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let (id, name) = self.service.as_ref().map(|(id, name)| (id, name)).unzip();
        [
            ("LBX_EVENT", self.event.to_owned()),
            ("LBX_NAME", director.to_owned()),
            ("LBX_SERVICE", text(name)),
            ("LBX_VIP", text(id.map(|id| id.vip))),
            ("LBX_PORT", text(id.map(|id| id.port))),
            ("LBX_PROTOCOL", text(id.map(|id| id.protocol))),
            ("LBX_RIP", text(self.server)),
            ("LBX_WEIGHT", text(self.weight)),
            ("LBX_REASON", text(self.reason.as_ref())),
            ("LBX_TIME", self.time()),
        ]
    }

    /// When, in UTC.
    #[must_use]
    pub fn time(&self) -> String {
        humantime::format_rfc3339_seconds(self.timestamp).to_string()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::desired::Protocol;

    /// That a real server of a service of this name is down.
    pub fn server_down(service: &str) -> Notification {
        Notification {
            event: "server_down",
            service: Some((
                VirtualService {
                    vip: IpAddr::from([192, 0, 2, 1]),
                    port: 80,
                    protocol: Protocol::Tcp,
                },
                service.to_owned(),
            )),
            server: Some(IpAddr::from([10, 0, 0, 2])),
            weight: Some(3),
            reason: Some("connection refused".to_owned()),
            timestamp: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
        }
    }

    #[test]
    fn environment_of_a_command() {
        let notice = server_down("web");
        let environment = notice.environment("main");
        let expected = [
            ("LBX_EVENT", "server_down"),
            ("LBX_NAME", "main"),
            ("LBX_SERVICE", "web"),
            ("LBX_VIP", "192.0.2.1"),
            ("LBX_PORT", "80"),
            ("LBX_PROTOCOL", "tcp"),
            ("LBX_RIP", "10.0.0.2"),
            ("LBX_WEIGHT", "3"),
            ("LBX_REASON", "connection refused"),
            ("LBX_TIME", "1970-01-02T00:00:00Z"),
        ];
        assert_eq!(environment, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
