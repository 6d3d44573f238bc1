//! `Backup`: the state of the cluster as a file, in messages.

use std::pin::Pin;

use futures::StreamExt as _;
use lockstep_proto::v1;
use tonic::Status;

use crate::api::call::Call;
use crate::api::problem::Problem;

pub(super) type Stream =
    Pin<Box<dyn futures::Stream<Item = Result<v1::BackupResponse, Status>> + Send>>;

pub(super) async fn begin(call: &Call, _: v1::BackupRequest) -> Result<Stream, Problem> {
    let backup = call.edge.service.backup(call.left()).await?;
    Ok(Box::pin(backup.map(|piece| match piece {
        Ok(data) => Ok(v1::BackupResponse { data }),
        Err(error) => Err(Status::aborted(format!("the backup ended: {error}"))),
    })))
}
