//! `lbx realserver`: makes this host a real server.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{GlobalOptions, print};
use crate::{
    config,
    exit::{ExitError, ExitStatus, WithExitStatus},
    net::RouteNetlink,
    realserver::{
        RealServerError,
        agent::{self, Agent},
        rules::{Finding, Verdict},
        undo::{self, UndoSummary},
        vips_for_host,
    },
};

/// Arguments of `lbx realserver`.
#[derive(Debug, Args)]
#[command(after_help = "\
Puts each VIP on lo, an IPv4 one with a host route and after ARP has been made quiet about it (arp_ignore=1, \
arp_announce=2). Then it stays and fixes what another tool takes away. SIGHUP makes it read --config again: VIPs that it \
no longer names for this host are taken off lo. SIGINT and SIGTERM end it and leave everything in place, so that \
stopping it cuts no connection; --undo restores what it found.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// A VIP this host serves; may be given several times. Without it: those of --config whose services list an address
    /// of this host
    #[arg(long = "vip", value_name = "ADDRESS", value_parser = parse_vip, global = true)]
    vips: Vec<IpAddr>,
    /// Applies the rules and exits instead of staying to keep them
    #[arg(long)]
    once: bool,
    /// Restores what was found before the first run of this --name, and exits
    #[arg(long, conflicts_with_all = ["once", "vips"])]
    undo: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reports the status and the fix of each rule; changes nothing and needs no root
    ///
    /// The exit status is 7 if a rule fails.
    Check,
}

fn parse_vip(text: &str) -> Result<IpAddr, String> {
    let vip = text.parse().map_err(|_| "not an IP address".to_owned())?;
    match config::reserved(vip) {
        Some(class) => Err(format!("cannot be a VIP: it is {class}")),
        None => Ok(vip),
    }
}

/// Applies the rules and keeps them, or undoes or checks them.
pub async fn run(global: &GlobalOptions, arguments: Arguments) -> Result<(), ExitError> {
    let net = RouteNetlink::new().with_exit_status(ExitStatus::Failure)?;
    if arguments.command.is_some() && (arguments.once || arguments.undo) {
        return Err(ExitError::new(
            ExitStatus::Usage,
            anyhow!("check takes neither --once nor --undo"),
        ));
    }
    if arguments.undo {
        return undo(&net, global).await;
    }
    let vips = vips(&net, global, &arguments.vips).await?;
    if let Some(Command::Check) = arguments.command {
        return check(&net, &vips).await;
    }
    let mut agent = Agent::new(net.clone(), &global.name, vips).map_err(failure)?;
    if arguments.once {
        return agent.apply_rules().await.map_err(failure);
    }
    let mut hangup = signal(SignalKind::hangup()).with_exit_status(ExitStatus::Failure)?;
    let mut interrupt = signal(SignalKind::interrupt()).with_exit_status(ExitStatus::Failure)?;
    let mut terminate = signal(SignalKind::terminate()).with_exit_status(ExitStatus::Failure)?;
    let (sender, reloads) = mpsc::channel(1);
    let stop = async {
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => reload(&net, global, &arguments.vips, &sender).await,
            }
        }
    };
    agent.maintain(stop, reloads).await.map_err(failure)?;
    tracing::info!("stopped; VIPs on lo, their routes and ARP sysctls stay in place (--undo restores what was before)");
    Ok(())
}

/// Finds out anew which VIPs to look after; where that fails it goes on with those it has.
async fn reload(
    net: &RouteNetlink,
    global: &GlobalOptions,
    given: &[IpAddr],
    reloads: &mpsc::Sender<BTreeSet<IpAddr>>,
) {
    match vips(net, global, given).await {
        Ok(vips) => {
            tracing::info!("VIPs read again");
            let _stopping = reloads.send(vips).await;
        }
        Err(failure) => tracing::error!("reload refused, nothing changed: {:#}", failure.error),
    }
}

async fn vips(net: &RouteNetlink, global: &GlobalOptions, given: &[IpAddr]) -> Result<BTreeSet<IpAddr>, ExitError> {
    let usage = |problem| ExitError::new(ExitStatus::Usage, anyhow!("{problem}: --vip ADDRESS, or --config FILE"));
    match (&global.config, given.is_empty()) {
        (None, true) => Err(usage("no VIP is named")),
        (Some(_), false) => Err(usage("name VIPs in one way only")),
        (None, false) => Ok(given.iter().copied().collect()),
        (Some(file), true) => {
            let desired = config::load(file).with_exit_status(ExitStatus::Config)?;
            let own = net.addresses().await.with_exit_status(ExitStatus::Failure)?;
            let vips = vips_for_host(&desired, &own);
            if vips.is_empty() {
                let error = anyhow!(
                    "{}: no service lists an address of this host as a real server",
                    file.display()
                );
                return Err(ExitError::new(ExitStatus::Config, error));
            }
            Ok(vips)
        }
    }
}

async fn undo(net: &RouteNetlink, global: &GlobalOptions) -> Result<(), ExitError> {
    let text = match undo::undo(net, &global.name).await.map_err(failure)? {
        Some(UndoSummary {
            vips_removed: vips,
            sysctls_restored: sysctls,
        }) => format!("undone: {vips} VIPs removed, {sysctls} sysctls restored\n"),
        None => format!(
            "nothing to undo: no real server named {:?} was set up here\n",
            global.name
        ),
    };
    print(&text)?;
    Ok(())
}

async fn check(net: &RouteNetlink, vips: &BTreeSet<IpAddr>) -> Result<(), ExitError> {
    let findings = agent::check(net, vips).await.map_err(failure)?;
    print(&report(&findings))?;
    let failed = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail)
        .count();
    match failed {
        0 => Ok(()),
        1 => Err(ExitError::new(ExitStatus::CheckFailed, anyhow!("1 rule fails"))),
        failed => Err(ExitError::new(ExitStatus::CheckFailed, anyhow!("{failed} rules fail"))),
    }
}

/// A line per rule.
fn report(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.rule.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for Finding {
        verdict,
        rule,
        observed_state: seen,
        fix,
        ..
    } in findings
    {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Fail => "FAIL",
        };
        // Writing to a String does not fail.
        let _ = write!(text, "{verdict:4}  {rule:width$}  {seen}");
        if let Some(fix) = fix {
            let _ = write!(text, "; fix: {fix}");
        }
        text.push('\n');
    }
    text
}

fn failure(error: RealServerError) -> ExitError {
    ExitError::new(error.exit_status(), error)
}
