//! `lbx trace`: decisions as they are made.

use std::net::IpAddr;

use clap::Args;

use super::{Global, control_failure, print};
use crate::{
    control::{Answer, Request, TraceRequest, client},
    exit::Failure,
    preflight::run_path,
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
pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let path = run_path(&global.name, "sock");
    let request = Request::Trace(TraceRequest {
        client: arguments.client,
        service: arguments.service,
    });
    let mut responses = client::send_request(&global.name, &path, &request)
        .await
        .map_err(control_failure)?;
    while let Some(answer) = responses.next().await.map_err(control_failure)? {
        if let Answer::Trace(line) = answer
            && !print(&format!("{line}\n"))?
        {
            break;
        }
    }
    Ok(())
}
