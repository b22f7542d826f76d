//! `lbx --config lb.yaml`: the director.

use super::GlobalOptions;
use crate::{
    director::{Director, DirectorError, Signals},
    exit::{ExitError, ExitStatus},
};

/// Balances until SIGINT or SIGTERM.
pub async fn run(global: &GlobalOptions) -> Result<(), ExitError> {
    let Some(config) = global.config.clone() else {
        let error = anyhow::anyhow!("a director needs a configuration: lbx --config lb.yaml (see lbx --help)");
        return Err(ExitError::new(ExitStatus::Usage, error));
    };
    let mut signals = Signals::listen().map_err(anyhow::Error::from)?;
    let mut director = Director::start(&global.name, config).await.map_err(failure)?;
    // A director that can no longer follow the network leaves what it has loaded: packets flow until the next one adopts.
    director.run(&mut signals).await.map_err(failure)?;
    director.stop().await;
    Ok(())
}

fn failure(error: DirectorError) -> ExitError {
    let exit = match &error {
        DirectorError::Config(_) => ExitStatus::Config,
        DirectorError::Preflight(error) => error.exit_status(),
        DirectorError::Topology(_) | DirectorError::Nic(_) => ExitStatus::Network,
        _ => ExitStatus::Failure,
    };
    ExitError::new(exit, error)
}
