//! `weft asset`: bytes up, down, listed and deleted.

mod get;
mod put;

use std::process::ExitCode;

use futures::TryStreamExt as _;
use weft_client::Assets;
use weft_proto::assets::v1::{Asset, Visibility};

use crate::{
    cli::AssetCommand,
    session::Session,
    table::{Align, Table},
    terminal::{self, printable},
    units,
};

/// Runs `weft asset …`.
pub(crate) async fn command(session: &Session, command: &AssetCommand) -> anyhow::Result<ExitCode> {
    let assets = session.client().await?.assets();
    match command {
        AssetCommand::Put { files, public, tags } => {
            let visibility = if *public { Visibility::Public } else { Visibility::Private };
            return put::run(session, &assets, files, visibility, tags).await;
        }
        AssetCommand::Get { id, output } => {
            let size = get::run(&assets, id, output).await?;
            terminal::print(&format!("{} {}\n", output.display(), units::bytes(size)))?;
        }
        AssetCommand::Ls => list(session, &assets).await?,
        AssetCommand::Rm { ids } => {
            for id in ids {
                assets.delete(id).await?;
                terminal::print(&format!("{id} deleted\n"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(session: &Session, assets: &Assets) -> anyhow::Result<()> {
    let all: Vec<Asset> = assets.list().try_collect().await?;
    if all.is_empty() {
        terminal::tell("no assets; `weft asset put <file>` stores one");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("visibility", Align::Left),
        ("size", Align::Right),
        ("type", Align::Left),
        ("name", Align::Left),
        ("id", Align::Left),
    ]);
    for asset in all {
        let visibility = if asset.visibility() == Visibility::Public { "public" } else { "private" };
        table.row(vec![
            visibility.into(),
            units::bytes(asset.size_bytes).into(),
            printable(&asset.content_type).into(),
            printable(&asset.name).into(),
            asset.id.into(),
        ]);
    }
    terminal::print(&table.render(session.out))?;
    Ok(())
}
