//! `lbx --config lb.yaml`: the director.

use super::Global;
use crate::{
    director::{Director, DirectorError, Signals},
    exit::{Exit, Failure},
};

/// Balances until SIGINT or SIGTERM.
pub async fn run(global: &Global) -> Result<(), Failure> {
    let Some(config) = global.config.clone() else {
        let error = anyhow::anyhow!("a director needs a configuration: lbx --config lb.yaml (see lbx --help)");
        return Err(Failure::new(Exit::Usage, error));
    };
    let mut signals = Signals::listen().map_err(anyhow::Error::from)?;
    let mut director = Director::start(&global.name, config).await.map_err(failure)?;
    let result = director.run(&mut signals).await;
    director.stop().await;
    result.map_err(failure)
}

fn failure(error: DirectorError) -> Failure {
    let exit = match &error {
        DirectorError::Config(_) => Exit::Config,
        DirectorError::Preflight(error) => error.exit(),
        DirectorError::Topology(_) | DirectorError::Nic(_) => Exit::Network,
        _ => Exit::Failure,
    };
    Failure::new(exit, error)
}
