//! The rules for names and keys, and the error for a text that breaks one: which character is wrong, where
//! it is, and the whole rule.

use std::fmt;

/// The longest name accepted, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The longest name of a sink accepted, in bytes.
pub const SINK_NAME_LEN_MAX: usize = 32;
/// The longest idempotency key accepted, in bytes.
pub const IDEMPOTENCY_KEY_LEN_MAX: usize = 128;

/// A name that breaks the rule for its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: {reason}")]
pub struct InvalidName {
    /// What the name is for: "machine name", "state name", ...
    pub kind: &'static str,
    /// The offending text, shortened to 80 characters.
    pub value: String,
    /// What is wrong with it, and the rule.
    pub reason: String,
}

impl InvalidName {
    /// A name of the given kind, and what is wrong with it.
    pub fn new(kind: &'static str, value: &str, reason: impl fmt::Display) -> Self {
        Self {
            kind,
            value: value.chars().take(80).collect(),
            reason: reason.to_string(),
        }
    }
}

/// What the names of a kind consist of. Allows ASCII only, so that a byte is a character.
#[derive(Debug, Clone, Copy)]
pub struct NameRule {
    /// Whether a name may start with the character.
    pub first: fn(char) -> bool,
    /// Whether the character may follow.
    pub rest: fn(char) -> bool,
    /// The greatest length.
    pub len_max: usize,
    /// The rule without the length; follows "use 1 to 64 ".
    pub words: &'static str,
}

impl NameRule {
    /// Of machines, states, events and instances.
    pub const NAME: Self = Self {
        first: |c| c.is_ascii_alphanumeric(),
        rest: |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        len_max: NAME_LEN_MAX,
        words: "ASCII letters, digits, '-', '_' or '.', starting with a letter or a digit",
    };
    /// Of sinks: their names become part of settings, tables and paths at the destination.
    pub const SINK: Self = Self {
        first: |c| c.is_ascii_lowercase(),
        rest: |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
        len_max: SINK_NAME_LEN_MAX,
        words: "lowercase ASCII letters or digits, starting with a letter",
    };
    /// Of idempotency keys.
    pub const KEY: Self = Self {
        first: is_printable,
        rest: is_printable,
        len_max: IDEMPOTENCY_KEY_LEN_MAX,
        words: "printable ASCII characters",
    };

    /// Checks a name of the given kind.
    ///
    /// # Errors
    ///
    /// The name breaks the rule.
    pub fn check(&self, kind: &'static str, value: &str) -> Result<(), InvalidName> {
        match self.fault(value) {
            None => Ok(()),
            Some(fault) => {
                let reason = format!("{fault}; use 1 to {} {}", self.len_max, self.words);
                Err(InvalidName::new(kind, value, reason))
            }
        }
    }

    fn fault(&self, value: &str) -> Option<String> {
        let breaks = |(at, c): &(usize, char)| match at {
            0 => !(self.first)(*c),
            _ => !(self.rest)(*c),
        };
        if value.is_empty() {
            Some("it is empty".to_owned())
        } else if let Some((at, c)) = value.chars().enumerate().find(breaks) {
            Some(format!("character {} is {}", at + 1, shown(c)))
        } else if value.len() > self.len_max {
            Some(format!("it has {} characters", value.len()))
        } else {
            None
        }
    }
}

fn is_printable(c: char) -> bool {
    (' '..='~').contains(&c)
}

/// A character in a message, escaped where it cannot be seen.
pub(crate) fn shown(c: char) -> String {
    match c {
        ' ' => "a space".to_owned(),
        c => format!("{c:?}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::{EventName, IdempotencyKey, InstanceId, MachineName, SinkName, StateName};

    const NAME: &str =
        "use 1 to 64 ASCII letters, digits, '-', '_' or '.', starting with a letter or a digit";

    #[test]
    fn a_name_that_breaks_the_rule_names_the_character_its_position_and_the_rule() {
        let long = "n".repeat(65);
        for (name, fault) in [
            ("결제", "character 1 is '결'"),
            ("bezahlt!", "character 8 is '!'"),
            ("in transit", "character 3 is a space"),
            ("größe", "character 3 is 'ö'"),
            ("-paid", "character 1 is '-'"),
            ("_paid", "character 1 is '_'"),
            ("pa\nid", "character 3 is '\\n'"),
            ("pa\u{200b}id", "character 3 is '\\u{200b}'"),
            ("order/42", "character 6 is '/'"),
            ("😀", "character 1 is '😀'"),
            ("", "it is empty"),
            (&long, "it has 65 characters"),
        ] {
            let reason = format!("{fault}; {NAME}");
            let errors = [
                MachineName::new(name).map(drop).unwrap_err(),
                StateName::new(name).map(drop).unwrap_err(),
                EventName::new(name).map(drop).unwrap_err(),
                InstanceId::new("order", name).map(drop).unwrap_err(),
            ];
            let kinds = ["machine", "state", "event", "instance"];
            for (error, kind) in errors.iter().zip(kinds) {
                let expected = format!("{kind} name {name:?} is not valid: {reason}");
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn the_rules_for_keys_and_sinks_are_worded_in_the_same_way() {
        let error = IdempotencyKey::new("결제-1").unwrap_err();
        assert_eq!(
            error.reason,
            "character 1 is '결'; use 1 to 128 printable ASCII characters"
        );
        let error = SinkName::new("Reports").unwrap_err();
        assert_eq!(
            error.reason,
            "character 1 is 'R'; use 1 to 32 lowercase ASCII letters or digits, starting with a letter"
        );
        let error = "order".parse::<InstanceId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "instance id \"order\" is not valid: it must have the form machine/name, such as order/42"
        );
    }

    #[test]
    fn a_long_text_is_shortened_and_the_position_is_that_in_the_whole() {
        let long = "a".repeat(99) + "?";
        let error = MachineName::new(&long).unwrap_err();
        assert_eq!(error.value.len(), 80);
        assert!(error.reason.starts_with("character 100 is '?'"), "{error}");
    }
}
