//! Storing a definition from a document.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_machine::{
    Command, Definition, DocumentError, GlobalRevision, IdempotencyKey, Limits, Reply,
};

use super::{Consistency, Freshness, Service, ServiceError};

/// The format of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Json,
    Yaml,
}

/// A definition as its author wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    pub language: Language,
    pub text: &'a str,
}

/// Why a definition did not reach the state machine.
#[derive(Debug, thiserror::Error)]
pub enum DefineError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The document is not a definition. Nothing was proposed.
    #[error("{error}")]
    Document {
        error: DocumentError,
        /// The cluster's revision whose limits applied.
        revision: GlobalRevision,
    },
}

impl Document<'_> {
    fn read(self, limits: &Limits) -> Result<Definition, DocumentError> {
        match self.language {
            Language::Json => lockstep_document::parse_json(self.text, limits),
            Language::Yaml => lockstep_document::parse_yaml(self.text, limits),
        }
    }
}

impl Service {
    /// Stores a definition, or with `dry_run` returns the outcome that storing it would have. Also returns
    /// the definition as it was read.
    pub async fn define(
        &self,
        document: Document<'_>,
        dry_run: bool,
        key: Option<IdempotencyKey>,
        deadline: Duration,
    ) -> Result<(Reply, Arc<Definition>), DefineError> {
        let began = Instant::now();
        // The state machine checks the limits again, so this node's copy of them suffices here.
        let consistency = match dry_run {
            true => Consistency::Linearizable,
            false => Consistency::Stale,
        };
        let freshness = Freshness {
            consistency,
            min_revision: None,
        };
        let view = self.view(freshness, deadline).await?;
        let read = document.read(&view.state.limits());
        let definition = read.map_err(|error| DefineError::Document {
            error,
            revision: view.state.revision(),
        })?;
        let definition = Arc::new(definition);
        let command = Command::Define(definition.clone());
        if dry_run {
            return Ok((view.dry_run(&command), definition));
        }
        drop(view);
        let left = deadline.saturating_sub(began.elapsed());
        Ok((self.execute(command, key, left).await?, definition))
    }

    /// What a command would come to now: sees every write acknowledged before, changes nothing.
    pub async fn dry_run(
        &self,
        command: &Command,
        deadline: Duration,
    ) -> Result<Reply, ServiceError> {
        let view = self.view(Freshness::default(), deadline).await?;
        Ok(view.dry_run(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_in_its_own_language() {
        let json = r#"{"name": "m", "initial": "a", "states": {"a": {}}, "transitions": []}"#;
        let yaml = "{ name: m, initial: a, states: { a: {} }, transitions: [] }";
        let read = |language, text| Document { language, text }.read(&Limits::default());
        assert_eq!(read(Language::Json, json), read(Language::Yaml, yaml));
        assert!(read(Language::Json, json).is_ok());
        let wrong = read(Language::Json, yaml).unwrap_err();
        assert_eq!(wrong.code(), "malformed_document");
    }
}
