//! `lbx list`: services, real servers, connections.

use clap::Args;

use super::{GlobalOptions, control_failure, print};
use crate::{
    control::{Request, Response, client, table::Columns},
    exit::ExitError,
    preflight::path_in_run_dir,
};

/// Arguments of `lbx list`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Packets, bytes and connections in place of weights, as `ipvsadm -Ln --stats`
    #[arg(long)]
    stats: bool,
    /// Everything as JSON
    #[arg(long, conflicts_with = "stats")]
    json: bool,
}

/// Asks the director of this name and prints its table.
pub async fn run(global: &GlobalOptions, arguments: Arguments) -> Result<(), ExitError> {
    let path = path_in_run_dir(&global.name, "sock");
    let ask = async {
        let mut responses = client::send_request(&global.name, &path, &Request::List).await?;
        responses.next().await
    };
    let Some(Response::Report(report)) = ask.await.map_err(control_failure)? else {
        return Err(anyhow::anyhow!("the director's reply is not a listing").into());
    };
    if arguments.json {
        let json = serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?;
        print(&format!("{json}\n"))?;
        return Ok(());
    }
    let columns = if arguments.stats {
        Columns::Stats
    } else {
        Columns::Connections
    };
    print(&report.table(columns))?;
    Ok(())
}
