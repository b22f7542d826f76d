//! `lbx list`: services, real servers, connections.

use clap::Args;

use super::{Global, control_failure};
use crate::{
    control::{Answer, Request, client, report::Columns},
    director::preflight::run_path,
    exit::Failure,
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
pub async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let path = run_path(&global.name, "sock");
    let ask = async {
        let mut conversation = client::ask(&global.name, &path, &Request::List).await?;
        conversation.next().await
    };
    let Some(Answer::Report(report)) = ask.await.map_err(control_failure)? else {
        return Err(anyhow::anyhow!("the director gave no list").into());
    };
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?
        );
    } else if arguments.stats {
        print!("{}", report.table(Columns::Stats));
    } else {
        print!("{}", report.table(Columns::Connections));
    }
    Ok(())
}
