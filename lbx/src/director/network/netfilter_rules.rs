//! A warning about netfilter rules that match a VIP: packets that XDP takes from the NIC never get there, so what such a rule
//! allows or denies no longer holds for clients of the services.

use std::{
    collections::BTreeSet,
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

use crate::net::netfilter::{self, NetfilterRule};

/// How long a program that prints rules may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest ruleset that is read, in bytes.
const MAX_RULESET: u64 = 64 << 20;
/// Rules that a log line names.
const MAX_NAMED: usize = 5;
/// Where programs of the administrator are, beside PATH.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Why rules cannot be read.
#[derive(Debug, thiserror::Error)]
enum RulesetError {
    #[error("{0} cannot be run")]
    Run(&'static str, #[source] std::io::Error),
    #[error("{0} has not ended after {1:?}")]
    Timeout(&'static str, Duration),
    #[error("{0} has failed: {1}")]
    Failed(&'static str, String),
    #[error("the ruleset has more than {MAX_RULESET} bytes")]
    TooLarge,
    #[error("cannot parse the output of nft")]
    Unknown(#[from] serde_json::Error),
}

/// Looks for rules that match one of these VIPs, in a task of its own, and logs them. `nics` are those with the program.
pub fn spawn_check(vips: BTreeSet<IpAddr>, nics: BTreeSet<String>) {
    tokio::spawn(async move {
        match nftables(nics).await {
            Ok(rules) => log_rules("nftables", &rules, &vips),
            Err(error) => log_unread("nftables", error),
        }
        for (tables, program) in [
            ("/proc/thread-self/net/ip_tables_names", "iptables-legacy-save"),
            ("/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save"),
        ] {
            match iptables_legacy(tables, program).await {
                Ok(rules) => log_rules("iptables-legacy", &rules, &vips),
                Err(error) => log_unread("iptables-legacy", error),
            }
        }
    });
}

fn log_unread(kind: &str, error: RulesetError) {
    tracing::info!(
        "{kind} rules not read, so not checked for VIPs (packets for a VIP's services do not pass netfilter): {:#}",
        anyhow::Error::from(error)
    );
}

fn log_rules(kind: &str, rules: &[NetfilterRule], vips: &BTreeSet<IpAddr>) {
    for &vip in vips {
        let names: Vec<_> = rules.iter().filter(|rule| rule.names(vip)).collect();
        if !names.is_empty() {
            let rules = listed(&names);
            tracing::warn!(
                %vip,
                rules,
                "{kind} rules match the VIP as destination: packets for its services do not pass netfilter, so nothing of what \
                 these rules allow or deny holds for them; filter in front of the director or on the real servers"
            );
        }
    }
}

/// The names of the first rules, and how many others there are.
fn listed(rules: &[&NetfilterRule]) -> String {
    let names: Vec<_> = rules.iter().take(MAX_NAMED).map(|rule| rule.name.as_str()).collect();
    match rules.len() - names.len() {
        0 => names.join(", "),
        others => format!("{} and {others} more", names.join(", ")),
    }
}

/// The rules of nftables, those of iptables-nft among them; none where there is no `nft`.
async fn nftables(nics: BTreeSet<String>) -> Result<Vec<NetfilterRule>, RulesetError> {
    let Some(program) = find("nft") else {
        tracing::debug!("nft is not installed: rules of nftables not checked for VIPs");
        return Ok(Vec::new());
    };
    let printed = output("nft", &program, &["--json", "list", "ruleset"], TIMEOUT).await?;
    // A large ruleset takes a while.
    let parse = move || netfilter::nftables_rules(&printed, &nics);
    Ok(tokio::task::spawn_blocking(parse)
        .await
        .unwrap_or_else(|_cancelled| Ok(Vec::new()))?)
}

/// The rules of iptables-legacy, where it is in use. The kernel lists its tables in `tables`, and none before one is used.
async fn iptables_legacy(tables: &str, program: &'static str) -> Result<Vec<NetfilterRule>, RulesetError> {
    let unused = fs::read_to_string(tables).map_or(true, |names| names.trim().is_empty());
    if unused {
        return Ok(Vec::new());
    }
    let Some(path) = find(program) else {
        tracing::debug!("{program} is not installed: rules of iptables-legacy not checked for VIPs");
        return Ok(Vec::new());
    };
    let printed = output(program, &path, &[], TIMEOUT).await?;
    Ok(netfilter::iptables_rules(&String::from_utf8_lossy(&printed)))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SYSTEM_DIRECTORIES.map(|name| Path::new(name).to_owned()));
    directories
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// What a program prints that ends within `limit`.
async fn output(
    name: &'static str,
    program: &Path,
    arguments: &[&str],
    limit: Duration,
) -> Result<Vec<u8>, RulesetError> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| RulesetError::Run(name, error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut printed, mut errors) = (Vec::new(), Vec::new());
    let read = async {
        if let (Some(stdout), Some(stderr)) = (stdout, stderr) {
            let (mut stdout, mut stderr) = (stdout.take(MAX_RULESET + 1), stderr.take(1 << 10));
            tokio::try_join!(stdout.read_to_end(&mut printed), stderr.read_to_end(&mut errors))?;
        }
        if printed.len() as u64 > MAX_RULESET {
            return Ok(None);
        }
        child.wait().await.map(Some)
    };
    let status = timeout(limit, read)
        .await
        .map_err(|_elapsed| RulesetError::Timeout(name, limit))?;
    match status.map_err(|error| RulesetError::Run(name, error))? {
        None => Err(RulesetError::TooLarge),
        Some(status) if status.success() => Ok(printed),
        Some(status) => {
            let errors = String::from_utf8_lossy(&errors);
            let first = errors.lines().next().unwrap_or_default();
            Err(RulesetError::Failed(name, format!("{status}: {first}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_few_rules() {
        let saved: String = (0..7).map(|_| "-A INPUT -d 192.0.2.1/32 -j DROP\n").collect();
        let rules = netfilter::iptables_rules(&format!("*filter\n{saved}"));
        let rules: Vec<_> = rules.iter().collect();
        assert_eq!(listed(&rules[..2]), "filter INPUT 1, filter INPUT 2");
        assert!(
            listed(&rules).ends_with("filter INPUT 5 and 2 more"),
            "{}",
            listed(&rules)
        );
    }

    #[tokio::test]
    async fn a_program_that_fails_is_an_error() {
        let failed = output(
            "sh",
            Path::new("/bin/sh"),
            &["-c", "echo no netfilter >&2; exit 3"],
            TIMEOUT,
        )
        .await;
        let message = failed.unwrap_err().to_string();
        assert_eq!(message, "sh has failed: exit status: 3: no netfilter");
        let missing = output("nft", Path::new("/no/such/program"), &[], TIMEOUT).await;
        assert!(matches!(missing, Err(RulesetError::Run("nft", _))), "{missing:?}");
        let printed = output("sh", Path::new("/bin/sh"), &["-c", "echo rules"], TIMEOUT).await;
        assert_eq!(printed.unwrap(), b"rules\n");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_not_waited_for() {
        let hangs = output("sleep", Path::new("/bin/sleep"), &["60"], Duration::from_millis(10)).await;
        assert!(matches!(hangs, Err(RulesetError::Timeout("sleep", _))), "{hangs:?}");
    }
}
