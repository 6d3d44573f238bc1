//! Storing a definition.

use lockstep_machine::{Definition, IdempotencyKey, MachineName, Version};
use lockstep_proto::v1;
use lockstep_proto::v1::define_request::Document;

use crate::client::Client;
use crate::error::Error;
use crate::fault::Fault;
use crate::wire::{Unreadable, parsed};
use crate::written::Written;

/// A definition to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineCall {
    document: Document,
    dry_run: bool,
    key: Option<IdempotencyKey>,
}

impl DefineCall {
    /// From a document in JSON.
    pub fn json(document: impl Into<String>) -> Self {
        Self::document(Document::Json(document.into()))
    }

    /// From a document in YAML.
    pub fn yaml(document: impl Into<String>) -> Self {
        Self::document(Document::Yaml(document.into()))
    }

    /// From a definition that is parsed already.
    pub fn definition(definition: &Definition) -> Self {
        Self::json(lockstep_document::to_json(definition))
    }

    fn document(document: Document) -> Self {
        Self {
            document,
            dry_run: false,
            key: None,
        }
    }

    /// Validate only: the answer is what storing it would come to. The key is then not sent.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// The same key gets the first outcome again, also from another client.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    fn into_message(self, key: Option<&IdempotencyKey>) -> v1::DefineRequest {
        v1::DefineRequest {
            document: Some(self.document),
            dry_run: self.dry_run,
            idempotency_key: key.map(ToString::to_string),
        }
    }
}

/// A definition that is stored, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defined {
    /// The machine.
    pub machine: MachineName,
    /// The version that holds the definition.
    pub version: Version,
    /// Whether the version is new; if not, the newest one was equal already.
    pub created: bool,
    /// What is odd about it, but allowed.
    pub warnings: Vec<Fault>,
}

impl Client {
    /// Stores a definition: the machine's first version, or its next one. One that is equal to the
    /// newest version changes nothing.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::{DefineCall, Error};
    ///
    /// let door = "{ name: door, initial: shut, states: { shut: {}, open: {} },
    ///     transitions: [{ from: shut, to: open }, { from: open, to: shut }] }";
    /// match client.define(DefineCall::yaml(door)).await {
    ///     Ok(written) => println!("version {} of {}", written.made.version, written.made.machine),
    ///     Err(Error::Rejected(rejected)) => {
    ///         for fault in &rejected.faults {
    ///             eprintln!("{fault}");
    ///         }
    ///     }
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] with every fault of the definition, or when it is one too many;
    /// [`Error::Invalid`] when the document is not JSON or YAML; and those of every write.
    pub async fn define(&self, call: DefineCall) -> Result<Written<Defined>, Error> {
        if call.dry_run {
            return self.try_out(call.into_message(None), defined).await;
        }
        let key = call.key.clone();
        self.write(key, |key| call.into_message(Some(key)), defined)
            .await
    }
}

fn defined(wire: v1::Defined) -> Result<Defined, Unreadable> {
    Ok(Defined {
        machine: parsed("defined.machine", &wire.machine)?,
        version: Version(wire.version),
        created: wire.created,
        warnings: wire.warnings.into_iter().map(Fault::from).collect(),
    })
}
