//! Tasks that are aborted when their owner is dropped.

use tokio::task::JoinSet;

use super::NodeError;

#[derive(Default)]
pub(super) struct Tasks(JoinSet<Result<(), NodeError>>);

impl Tasks {
    /// Starts a task that may end, and whose failure is the node's.
    pub(super) fn spawn(
        &mut self,
        task: impl Future<Output = Result<(), NodeError>> + Send + 'static,
    ) {
        self.0.spawn(task);
    }

    /// Starts a task that never ends by itself.
    pub(super) fn spawn_endless(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async {
            task.await;
            Ok(())
        });
    }

    /// Waits for the first task that fails.
    pub(super) async fn failure(&mut self) -> NodeError {
        loop {
            match self.0.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                // Nothing here cancels a task, and a panic ends the process.
                Some(Err(error)) => return NodeError::Start(error.to_string()),
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until every task has ended, with or without an error.
    pub(super) async fn finish(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!(%error, "a task failed while the node was stopping");
            }
        }
    }
}
