//! `lbx trace`: decisions as they are made.

use std::net::IpAddr;

use clap::Args;

use super::{GlobalOptions, control_failure, print};
use crate::{
    control::{Request, Response, TraceRequest, client},
    exit::ExitError,
    preflight::path_in_run_dir,
};

/// Arguments of `lbx trace`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only packets of this client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Only packets for the service of this name
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

/// Prints decisions until interrupted or the director goes.
pub async fn run(global: &GlobalOptions, arguments: Arguments) -> Result<(), ExitError> {
    let path = path_in_run_dir(&global.name, "sock");
    let request = Request::Trace(TraceRequest {
        client: arguments.client,
        service: arguments.service,
    });
    let mut responses = client::send_request(&global.name, &path, &request)
        .await
        .map_err(control_failure)?;
    while let Some(answer) = responses.next().await.map_err(control_failure)? {
        if let Response::Trace(line) = answer
            && !print(&format!("{line}\n"))?
        {
            break;
        }
    }
    Ok(())
}
