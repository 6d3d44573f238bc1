//! Forgetting a definition.

use lockstep_machine::{DefinitionDeleted, IdempotencyKey, MachineName, Version};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::wire::outcome;
use crate::written::Written;

/// A machine to forget, or one version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteMachineCall {
    machine: MachineName,
    version: Option<Version>,
    key: Option<IdempotencyKey>,
}

impl DeleteMachineCall {
    /// All versions of a machine.
    pub fn new(machine: &MachineName) -> Self {
        Self {
            machine: machine.clone(),
            version: None,
            key: None,
        }
    }

    /// Only this version.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// The same key gets the first outcome again, also from another client.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }
}

impl Client {
    /// Forgets a machine, or one version of it, that no instance uses. The numbers of its versions
    /// are never given again.
    ///
    /// # Errors
    /// [`Error::Rejected`] with `definition_in_use` while there are instances, and those of every
    /// write.
    pub async fn delete_machine(
        &self,
        call: DeleteMachineCall,
    ) -> Result<Written<DefinitionDeleted>, Error> {
        let message = |key: &IdempotencyKey| v1::DeleteMachineRequest {
            machine: call.machine.to_string(),
            version: call.version.map(|version| version.0),
            idempotency_key: Some(key.to_string()),
        };
        self.write(call.key.clone(), message, outcome::machine_deleted)
            .await
    }
}
