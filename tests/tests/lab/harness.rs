//! What makes a function a test: what it needs, and what is shown when it fails.

use std::{path::Path, sync::LazyLock};

use ::lbx::dataplane::traffic_control::TcAttachment;
use anyhow::Result;
use lbx_tests::{
    bond::TEAMD,
    dns,
    lab::{CLIENT, Lab},
    lbx, nginx, process, timing,
};
use libtest_mimic::{Completion, Failed, Trial};

/// What a test needs besides the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the lab proves itself.
    Lab,
    /// The program under test.
    Lbx,
    /// The same, and a kernel with VLAN devices.
    Vlan,
    /// The same, and a kernel with bonds.
    Bond,
    /// The same, a kernel with teams, and their daemon.
    Team,
    /// The same, and a kernel with TCX links.
    Tcx,
    /// The program under test, built for speed.
    Release,
}

/// The kind of tests that need a device which kernels may lack: `cargo xtask vm` runs them in a guest that has it.
const DEVICE: &str = "device";

impl Needs {
    /// Whether it is a device which kernels may lack.
    const fn device(self) -> bool {
        matches!(self, Self::Vlan | Self::Bond | Self::Team)
    }
}

/// The tests that `LBX_LAB_TESTS` selects: `devices` for those that need a device which kernels may lack; all without it.
///
/// # Panics
/// It has another value: other tests would run than were meant.
pub fn selected(mut tests: Vec<Trial>) -> Vec<Trial> {
    match std::env::var("LBX_LAB_TESTS").as_deref() {
        Err(_) => {}
        Ok("devices") => tests.retain(|test| test.kind() == DEVICE),
        Ok(other) => panic!("LBX_LAB_TESTS={other} is not `devices`"),
    }
    tests
}

/// The tests of a file: those functions, by their names.
macro_rules! tests {
    ($needs:ident: $($function:ident),+ $(,)?) => {
        /// The tests of this file.
        pub fn tests() -> Vec<libtest_mimic::Trial> {
            use crate::harness::{Needs, test};
            vec![$(test(module_path!(), stringify!($function), Needs::$needs, $function)),+]
        }
    };
}
pub(crate) use tests;

/// A test that is ignored, with the reason, where it cannot run.
pub fn test(module: &str, function: &str, needs: Needs, body: fn() -> Result<()>) -> Trial {
    let module = module.split_once("::").map_or(module, |(_, rest)| rest);
    let name = format!("{module}::{function}");
    let kind = if needs.device() { DEVICE } else { "" };
    let trial = Trial::ignorable_test(name.clone(), move || {
        if let Some(reason) = missing(needs) {
            return Ok(Completion::ignored_with(reason));
        }
        drop(process::take_logs());
        let result = timing::timed(&name, body);
        result.map(|()| Completion::Completed).map_err(|error| failure(&error))
    });
    trial.with_kind(kind)
}

/// Why a test with such needs cannot run here.
fn missing(needs: Needs) -> Option<&'static str> {
    static LAB: LazyLock<Option<String>> = LazyLock::new(missing_for_lab);
    static LBX: LazyLock<Option<String>> = LazyLock::new(|| Some(format!("{:#}", lbx::binary().err()?)));
    static VLAN: LazyLock<Option<String>> =
        LazyLock::new(|| missing_device("VLAN devices", "link add link eth0 name vlan type vlan id 10"));
    static BOND: LazyLock<Option<String>> = LazyLock::new(|| missing_device("bonds", "link add bond0 type bond"));
    static TEAM: LazyLock<Option<String>> = LazyLock::new(|| {
        let device = missing_device("teams", "link add team0 type team");
        device.or_else(|| (!is_installed(TEAMD)).then(|| format!("not installed: {TEAMD}")))
    });
    static TCX: LazyLock<Option<String>> = LazyLock::new(|| {
        let has_links = TcAttachment::best_supported() == TcAttachment::TcxLink;
        (!has_links).then(|| "needs Linux 6.6: TCX links".to_owned())
    });
    static RELEASE: LazyLock<Option<String>> = LazyLock::new(missing_for_release);
    let missing = match needs {
        Needs::Lab => LAB.as_ref(),
        Needs::Lbx => LAB.as_ref().or(LBX.as_ref()),
        Needs::Release => LAB.as_ref().or(LBX.as_ref()).or(RELEASE.as_ref()),
        Needs::Vlan => LAB.as_ref().or(LBX.as_ref()).or(VLAN.as_ref()),
        Needs::Tcx => LAB.as_ref().or(LBX.as_ref()).or(TCX.as_ref()),
        Needs::Bond => LAB.as_ref().or(LBX.as_ref()).or(BOND.as_ref()),
        Needs::Team => LAB.as_ref().or(LBX.as_ref()).or(TEAM.as_ref()),
    };
    missing.map(String::as_str)
}

fn missing_for_lab() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("needs root".to_owned());
    }
    let programs = [
        "ip", "ethtool", "bpftool", "arping", "ping", "curl", "jq", "setpriv", "openssl", "wrk", "nft",
    ];
    let mut absent: Vec<_> = programs.into_iter().filter(|program| !is_installed(program)).collect();
    absent.extend(
        [nginx::PROGRAM, dns::PROGRAM]
            .iter()
            .filter(|program| !Path::new(program).is_file()),
    );
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn missing_for_release() -> Option<String> {
    let binary = lbx::binary().ok()?;
    let built_for_speed = binary.components().any(|part| part.as_os_str() == "release");
    (!built_for_speed).then(|| format!("measures speed, and {} is a dev build", binary.display()))
}

/// Why `ip` cannot make a device on a host with eth0.
fn missing_device(what: &str, command: &str) -> Option<String> {
    let made = || -> Result<()> {
        let lab = Lab::builder().host("host", &[CLIENT]).build()?;
        lab.host("host").ip(command).map(drop)
    };
    let reason = format!("{:#}", made().err()?);
    Some(format!("no {what} here: {}", reason.replace('\n', " ")))
}

/// The error with its causes, then the logs of what the test ran, unless the error tells them.
fn failure(error: &anyhow::Error) -> Failed {
    let mut text = format!("{error:#}");
    for (title, log) in process::take_logs() {
        let log = log.trim();
        if !text.contains(log) {
            text += &format!("\n--- log of {title}\n{log}");
        }
    }
    text.into()
}
