//! Frames that are lost after the program's verdict: the kernel or a driver cannot send them, and the program has counted them as
//! forwarded. The kernel's tracepoints for such frames show them. (Frames that a veth device throws away without a word are another
//! matter: [`NativeObstacle`](super::topology::NativeObstacle).)

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use lbx_common::lost_frames::{LostFrameKind, XDP_REDIRECT, XDP_TX};

use super::{nics::interface_name, topology::Topology};
use crate::dataplane::{Dataplane, DataplaneError};

/// How long a finding is kept after the last lost frame.
const FINDING_LIFETIME: Duration = Duration::from_secs(60);

/// Frames lost since the start, and what that means.
#[derive(Debug, Default)]
pub struct LostFrames {
    /// Whether the tracepoints are watched; none before the first look.
    is_watching: Option<bool>,
    findings: BTreeMap<Cause, Finding>,
}

/// Where and why frames are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    ifindex: u32,
    action: u32,
    target_ifindex: u32,
    errno: u32,
}

#[derive(Clone, Debug)]
struct Finding {
    interface: String,
    message: String,
    frames: u64,
    seen: Instant,
    is_listed: bool,
}

impl LostFrames {
    /// Looks at what was counted in the last second, and logs what is new or over.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn check(&mut self, dataplane: &mut Dataplane, topology: &Topology) -> Result<(), DataplaneError> {
        let is_watching = *self.is_watching.get_or_insert_with(|| {
            let watched = dataplane.count_lost_frames();
            watched
                .inspect_err(|error| tracing::debug!("frames lost after the XDP program are not counted: {error:?}"))
                .is_ok()
        });
        if is_watching {
            self.take(&dataplane.lost_frames()?, topology, Instant::now());
        }
        Ok(())
    }

    /// Takes counters read at a time.
    fn take(&mut self, counted: &[(LostFrameKind, u64)], topology: &Topology, now: Instant) {
        let mut totals: BTreeMap<Cause, u64> = BTreeMap::new();
        for (kind, frames) in counted {
            // By the usual program and by one that traces.
            *totals.entry(Cause::of(kind)).or_default() += frames;
        }
        for (cause, frames) in totals {
            let name = |ifindex| interface_name(topology, ifindex);
            let finding = self.findings.entry(cause).or_insert_with(|| Finding {
                interface: name(cause.ifindex),
                message: cause.message(&name(cause.ifindex), &name(cause.target_ifindex)),
                frames: 0,
                seen: now,
                is_listed: false,
            });
            if finding.frames == frames {
                continue;
            }
            let new_frames = frames.saturating_sub(finding.frames);
            finding.frames = frames;
            finding.seen = now;
            if !finding.is_listed {
                finding.is_listed = true;
                tracing::warn!(
                    interface = finding.interface,
                    frames = new_frames,
                    "{}",
                    finding.message
                );
            }
        }
        for finding in self.findings.values_mut().filter(|finding| finding.is_listed) {
            if now.duration_since(finding.seen) >= FINDING_LIFETIME {
                finding.is_listed = false;
                let interface = &finding.interface;
                tracing::info!(
                    interface,
                    "frame loss over, none for a minute; it was: {}",
                    finding.message
                );
            }
        }
    }

    /// What an operator should know of a NIC.
    pub fn warnings_of(&self, nic: u32) -> impl Iterator<Item = String> {
        let findings = self.findings.iter();
        let listed = findings.filter(move |(cause, finding)| cause.ifindex == nic && finding.is_listed);
        listed.map(|(_, finding)| finding.message.clone())
    }
}

impl Cause {
    fn of(kind: &LostFrameKind) -> Self {
        Self {
            ifindex: kind.ifindex,
            action: kind.action,
            target_ifindex: kind.target_ifindex,
            errno: kind.errno,
        }
    }

    fn message(self, from: &str, to: &str) -> String {
        match self.action {
            XDP_TX => format!(
                "frames that XDP sends back out of {from} are lost in its driver: its transmit queue is full, or it cannot send them; see \
                 `ethtool -S {from}`, or set `mode: generic`"
            ),
            XDP_REDIRECT => {
                let reason = io::Error::from_raw_os_error(self.errno.cast_signed());
                let fix = match self.errno.cast_signed() {
                    libc::ENETDOWN => format!("`ip link set {to} up`"),
                    libc::EOPNOTSUPP | libc::ENXIO => format!(
                        "{to} takes no redirected frames: set `mode: generic`; a veth device takes them with an XDP program or GRO on its \
                         other end"
                    ),
                    libc::EMSGSIZE | libc::E2BIG => {
                        format!("frames are larger than the MTU of {to}: make both the same")
                    }
                    _ => format!("see `ethtool -S {to}`"),
                };
                format!("frames redirected from {from} to {to} are lost: {reason}; {fix}")
            }
            action => format!("frames that arrive on {from} are lost: XDP verdict {action} failed; report it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: LostFrameKind = LostFrameKind {
        program: 7,
        ifindex: 2,
        action: XDP_REDIRECT,
        target_ifindex: 3,
        errno: libc::ENETDOWN.cast_unsigned(),
    };

    #[test]
    fn a_cause_is_listed_until_a_minute_after_its_last_frame() {
        let mut lost = LostFrames::default();
        let topology = Topology::default();
        let began = Instant::now();
        let listed = |lost: &LostFrames| lost.warnings_of(2).count();
        lost.take(&[], &topology, began);
        assert_eq!(listed(&lost), 0);
        lost.take(&[(LOST, 5)], &topology, began);
        assert_eq!((listed(&lost), lost.warnings_of(3).count()), (1, 0));
        lost.take(&[(LOST, 9)], &topology, began + FINDING_LIFETIME / 2);
        lost.take(&[(LOST, 9)], &topology, began + FINDING_LIFETIME);
        assert_eq!(listed(&lost), 1, "another was lost meanwhile");
        lost.take(&[(LOST, 9)], &topology, began + FINDING_LIFETIME * 2);
        assert_eq!(listed(&lost), 0);
        lost.take(&[(LOST, 10)], &topology, began + FINDING_LIFETIME * 2);
        assert_eq!(listed(&lost), 1);
    }

    #[test]
    fn a_message_names_the_reason_and_the_fix() {
        let message = |errno: i32, action| {
            let kind = LostFrameKind {
                errno: errno.cast_unsigned(),
                action,
                ..LOST
            };
            Cause::of(&kind).message("eth0", "eth1")
        };
        let down = message(libc::ENETDOWN, XDP_REDIRECT);
        assert!(
            down.contains("from eth0 to eth1") && down.contains("ip link set eth1 up"),
            "{down}"
        );
        assert!(message(libc::EOPNOTSUPP, XDP_REDIRECT).contains("takes no redirected frames"));
        assert!(message(libc::EMSGSIZE, XDP_REDIRECT).contains("MTU of eth1"));
        assert!(message(libc::ENOSPC, XDP_REDIRECT).contains("ethtool -S eth1"));
        assert!(message(0, XDP_TX).contains("ethtool -S eth0"));
        assert!(message(0, 0).contains("XDP verdict 0 failed"));
    }
}
