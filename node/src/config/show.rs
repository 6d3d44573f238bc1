//! Shows a configuration, and the table of all settings, to people.

use std::fmt::Write;

use super::keys::{KEYS, KeyDefault};
use super::load::Setting;
use super::sink::SINK_KEYS;

/// The effective settings as TOML, each with where it came from. Secrets are hidden.
pub fn show(settings: &[Setting]) -> String {
    let lines: Vec<(String, String)> = settings
        .iter()
        .map(|setting| match &setting.value {
            Some(_) if setting.secret => (
                format!("# {} is set, and not shown", setting.path),
                setting.origin.to_string(),
            ),
            Some(value) => (
                format!("{} = {value}", setting.path),
                setting.origin.to_string(),
            ),
            None => (
                format!("# {} is not set", setting.path),
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

/// The table of all settings but the sinks' as Markdown: the README's.
pub fn markdown() -> String {
    let head = "| key | environment | flag | default | what |\n|---|---|---|---|---|\n";
    KEYS.iter().fold(head.to_string(), |mut text, key| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | `{}` | `--{}` | {} | {} ({}) |",
            key.path,
            key.env,
            key.flag,
            default(key.default),
            key.doc.trim_end_matches('.'),
            key.expects
        );
        text
    })
}

/// The table of the settings that each sink has as Markdown: the README's.
pub fn sink_markdown() -> String {
    let head = "| key | environment | of | default | what |\n|---|---|---|---|---|\n";
    SINK_KEYS.iter().fold(head.to_string(), |mut text, key| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {} | {} | {} ({}) |",
            key.path("<name>"),
            key.env("<name>"),
            key.kinds(),
            default(key.default),
            key.doc.trim_end_matches('.'),
            key.expects
        );
        text
    })
}

fn default(default: KeyDefault) -> String {
    match default {
        KeyDefault::Is(value) if !value.is_empty() => format!("`{value}`"),
        KeyDefault::Derived(from) => from.to_string(),
        KeyDefault::Required => "required".to_string(),
        KeyDefault::Is(_) | KeyDefault::Unset => "none".to_string(),
    }
}
