//! The shapes that only sinks' values have.

use crate::config::shape::{Raw, quote};

/// The system that follows.
pub(super) mod kind {
    use super::super::keys::Kind;
    use super::*;
    pub(crate) const EXPECTS: &str = "`postgres`, `mongo` or `webhook`";
    pub(crate) fn read(raw: &Raw) -> Result<Kind, String> {
        let text = raw.text("postgres, mongo or webhook")?;
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| "expected postgres, mongo or webhook".into())
    }
    pub(crate) fn show(value: &Kind) -> String {
        quote(value.name())
    }
}

/// Where a system is. Which URLs are good depends on the kind, and is judged when that is known.
pub(super) mod location {
    use super::super::address;
    use super::*;
    pub(crate) const EXPECTS: &str = "URL";
    const BYTES_MAX: usize = 2048;
    pub(crate) fn read(raw: &Raw) -> Result<String, String> {
        let text = raw.text("a URL")?;
        if text.is_empty() {
            return Err("must not be empty".into());
        }
        if text.len() > BYTES_MAX {
            return Err(format!("must not be longer than {BYTES_MAX} bytes"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("a URL holds no white space".into());
        }
        Ok(text.to_string())
    }
    pub(crate) fn show(value: &str) -> String {
        quote(&address::shown(value))
    }
}

/// Yes or no.
pub(super) mod flag {
    use super::*;
    pub(crate) const EXPECTS: &str = "`true` or `false`";
    pub(crate) fn read(raw: &Raw) -> Result<bool, String> {
        match raw {
            Raw::Flag(value) => Ok(*value),
            other => match other.text("true or false")? {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err("expected true or false".into()),
            },
        }
    }
    pub(crate) fn show(value: &bool) -> String {
        value.to_string()
    }
}

/// What a sink follows.
pub(super) mod follows {
    use super::super::Follow;
    use super::*;
    use lockstep_machine::{InstanceName, MachineName};
    pub(crate) const EXPECTS: &str = "list";
    const FOLLOWS_MAX: usize = 256;
    pub(crate) fn read(raw: &Raw) -> Result<Vec<Follow>, String> {
        let items = raw.list("machines, such as order,ticket/2026-")?;
        if items.len() > FOLLOWS_MAX {
            return Err(format!("at most {FOLLOWS_MAX} machines and prefixes"));
        }
        items.iter().map(|item| follow(item)).collect()
    }
    fn follow(item: &str) -> Result<Follow, String> {
        let (machine, prefix) = match item.split_once('/') {
            Some((machine, prefix)) => (machine, Some(prefix)),
            None => (item, None),
        };
        // What a name may start with is itself a name.
        if let Some(prefix) = prefix {
            InstanceName::new(prefix)
                .map_err(|e| format!("{item}: prefix {prefix:?}: {}", e.reason))?;
        }
        Ok(Follow {
            machine: MachineName::new(machine).map_err(|e| e.to_string())?,
            prefix: prefix.map(String::from),
        })
    }
    pub(crate) fn show(value: &[Follow]) -> String {
        let items: Vec<String> = value.iter().map(|it| quote(&it.to_string())).collect();
        format!("[{}]", items.join(", "))
    }
}

/// The name of a schema, database, table or collection: one that needs no quotes anywhere.
pub(super) mod identifier {
    use super::*;
    pub(crate) const EXPECTS: &str = "identifier";
    const BYTES_MAX: usize = 63;
    pub(crate) fn read(raw: &Raw, taken: &[&str]) -> Result<String, String> {
        let text = raw.text("a name")?;
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        if !text.starts_with(first)
            || text.len() > BYTES_MAX
            || !text.chars().all(|c| first(c) || c.is_ascii_digit())
        {
            return Err(format!(
                "expected up to {BYTES_MAX} small letters, digits and '_', not starting with a digit"
            ));
        }
        if taken.contains(&text) {
            return Err(format!("{text} is in use already: choose another name"));
        }
        Ok(text.to_string())
    }
    pub(crate) fn show(value: &str) -> String {
        quote(value)
    }
}

/// What webhooks are signed with.
pub(super) mod signing {
    use super::*;
    use standardwebhooks::Webhook;
    pub(crate) const EXPECTS: &str = "secrets";
    const PREFIX: &str = "whsec_";
    const SECRETS_MAX: usize = 4;
    pub(crate) fn read(raw: &Raw) -> Result<String, String> {
        let secrets: Vec<&str> = raw.text("secrets")?.split_whitespace().collect();
        if secrets.is_empty() || secrets.len() > SECRETS_MAX {
            return Err(format!(
                "expected one to {SECRETS_MAX} secrets, separated by spaces"
            ));
        }
        match secrets.iter().position(|secret| !sound(secret)) {
            // The secret itself must not be repeated.
            Some(at) => Err(format!(
                "secret {} of {}: expected {PREFIX} and base64 of 24 to 64 bytes",
                at + 1,
                secrets.len()
            )),
            None => Ok(secrets.join(" ")),
        }
    }
    fn sound(secret: &str) -> bool {
        let Some(encoded) = secret.strip_prefix(PREFIX) else {
            return false;
        };
        let padding = encoded.bytes().filter(|b| *b == b'=').count();
        let bytes = (encoded.len() / 4 * 3).saturating_sub(padding);
        Webhook::new(secret).is_ok() && (24..=64).contains(&bytes)
    }
    pub(crate) fn show(value: &str) -> String {
        quote(value)
    }
}

/// Where a sink begins that was never there before.
pub(super) mod start {
    use super::super::Start;
    use super::*;
    pub(crate) const EXPECTS: &str = "`now` or `everything`";
    pub(crate) fn read(raw: &Raw) -> Result<Start, String> {
        match raw.text(EXPECTS)? {
            "now" => Ok(Start::Now),
            "everything" => Ok(Start::Everything),
            _ => Err("expected now or everything".into()),
        }
    }
    pub(crate) fn show(value: &Start) -> String {
        match value {
            Start::Now => quote("now"),
            Start::Everything => quote("everything"),
        }
    }
}
