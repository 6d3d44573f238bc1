//! The configuration of sinks, and the errors for it.

mod addresses;
mod secrets;
mod settings;

use crate::config::tests::in_file;
use crate::config::{Config, ConfigErrors, Sink, load};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// A file that gives the node's name too.
fn from_file(text: &str) -> Result<(Config, Vec<String>), ConfigErrors> {
    let (_dir, sources) = in_file(&format!("name = \"node1\"\n{text}"));
    let loaded = load(&sources)?;
    Ok((loaded.config, loaded.warnings))
}

fn sinks(text: &str) -> Vec<Sink> {
    from_file(text).expect("valid").0.sinks
}

/// The single fault's text, of a file.
fn file_fault(text: &str) -> String {
    let errors = from_file(text).expect_err("must be refused");
    assert_eq!(errors.faults.len(), 1, "{errors}");
    errors.to_string()
}

/// The single fault's text, of a webhook with these further lines.
fn hook_fault(address: &str, lines: &str) -> String {
    file_fault(&format!(
        "[sink.hook]\nkind = \"webhook\"\nsecret = \"{SECRET}\"\naddress = \"{address}\"\n{lines}"
    ))
}
