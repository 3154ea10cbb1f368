//! No local socket on this system.

use crate::Session;

use super::{About, Failure, Place, Snapshot, answer};

/// Nothing.
#[derive(Debug)]
pub(in super::super) struct Server;

/// Serves nobody.
#[expect(clippy::unnecessary_wraps, reason = "as where there is a socket")]
pub(in super::super) fn serve(_: &Place, _: About, _: Session) -> Result<Option<Server>, Failure> {
    let _ = answer;
    Ok(None)
}

/// Finds nobody.
#[expect(clippy::unused_async, reason = "as where there is a socket")]
pub(in super::super) async fn ask(_: &Place) -> Result<(Vec<Snapshot>, String), Failure> {
    Err(Failure::failed("socket", "`tree` and `status` need a system with Unix sockets"))
}
