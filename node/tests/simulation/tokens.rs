//! One token for each request of a client, in the metadata of its command: how often the request was
//! executed, and what its client was answered.

use std::collections::HashMap;

use lockstep_machine::{Command, Metadata};

/// The metadata key.
const KEY: &str = "token";

/// Identifies one request of one client, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// The token of a client's request.
    pub fn new(client: u64, request: u64) -> Self {
        Self(format!("client-{client}/{request}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The metadata that carries it.
    pub fn metadata(&self) -> Metadata {
        Metadata::new([(KEY, self.as_str())]).expect("it is short and printable")
    }

    /// The token of a command.
    fn of(command: &Command) -> Option<Self> {
        let Command::Transition(transition) = command else {
            return None;
        };
        let token = transition.metadata.get(KEY)?;
        Some(Self(token.to_owned()))
    }
}

/// What is known of every request.
#[derive(Default)]
pub struct Ledger(HashMap<Token, Entry>);

#[derive(Default)]
struct Entry {
    /// The revision that its execution made.
    executed: Option<u64>,
    /// Its client was answered that it was not executed, and never will be.
    refused: bool,
}

impl Ledger {
    /// A node executed a command, which made `revision`.
    pub fn executed(&mut self, command: &Command, revision: u64) -> Result<(), String> {
        let Some(token) = Token::of(command) else {
            return Err(format!("revision {revision} was made without a token"));
        };
        let entry = self.0.entry(token.clone()).or_default();
        let first = *entry.executed.get_or_insert(revision);
        if first != revision {
            return Err(format!(
                "{} was executed twice: as revisions {first} and {revision}",
                token.as_str()
            ));
        }
        entry.check(&token)
    }

    /// A client was answered that its request made `revision`.
    pub fn acknowledged(&mut self, token: &Token, revision: u64) -> Result<(), String> {
        let executed = self.0.get(token).and_then(|entry| entry.executed);
        if executed == Some(revision) {
            return Ok(());
        }
        let token = token.as_str();
        Err(format!(
            "{token} was acknowledged as revision {revision}, and executed as {executed:?}"
        ))
    }

    /// A client was answered that its request was not executed.
    pub fn refused(&mut self, token: &Token) -> Result<(), String> {
        let entry = self.0.entry(token.clone()).or_default();
        entry.refused = true;
        entry.check(token)
    }
}

impl Entry {
    fn check(&self, token: &Token) -> Result<(), String> {
        match self.executed {
            Some(revision) if self.refused => Err(format!(
                "{} was answered as not executed, and is revision {revision}",
                token.as_str()
            )),
            _ => Ok(()),
        }
    }
}
