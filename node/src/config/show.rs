//! Shows a configuration, and the table of all settings, to people.

use std::fmt::Write;

use super::keys::{KEYS, KeyDefault};
use super::load::Setting;

/// The effective settings as TOML, each with where it came from. Secrets are hidden.
pub fn show(settings: &[Setting]) -> String {
    let lines: Vec<(String, String)> = settings
        .iter()
        .map(|setting| match &setting.value {
            Some(_) if setting.key.secret => (
                format!("# {} is set, and not shown", setting.key.path),
                setting.origin.to_string(),
            ),
            Some(value) => (
                format!("{} = {value}", setting.key.path),
                setting.origin.to_string(),
            ),
            None => (
                format!("# {} is not set", setting.key.path),
                setting.origin.to_string(),
            ),
        })
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .filter(|width| *width <= 60)
        .max()
        .unwrap_or(0);
    lines
        .iter()
        .fold(String::new(), |mut text, (line, origin)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line:width$}  # {origin}");
            text
        })
}

/// The table of all settings as Markdown: the README's.
pub fn markdown() -> String {
    let head = "| key | environment | flag | default | what |\n|---|---|---|---|---|\n";
    KEYS.iter().fold(head.to_string(), |mut text, key| {
        let default = match key.default {
            KeyDefault::Is("") => "none".to_string(),
            KeyDefault::Is(value) => format!("`{value}`"),
            KeyDefault::Derived(from) => from.to_string(),
            KeyDefault::Required => "required".to_string(),
            KeyDefault::Unset => "none".to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | `{}` | `--{}` | {default} | {} ({}) |",
            key.path,
            key.env,
            key.flag,
            key.doc.trim_end_matches('.'),
            key.expects
        );
        text
    })
}
