//! Shows a configuration, and writes docs/CONFIGURATION.md from the tables of settings.

use lockstep_machine::{Setting, SettingInfo, Unit};

use super::keys::{KEYS, Key, KeyDefault, SINK_KEYS};

/// The effective settings as TOML, each with its source. Secrets are hidden.
pub fn show(settings: &[super::Setting]) -> String {
    let line = |setting: &super::Setting| match &setting.value {
        Some(_) if setting.secret => format!("# {} is set, and not shown", setting.path),
        Some(value) => format!("{} = {value}", setting.path),
        None => format!("# {} is not set", setting.path),
    };
    let widths = settings.iter().map(|setting| line(setting).chars().count());
    let width = widths.filter(|width| *width <= 60).max().unwrap_or(0);
    settings
        .iter()
        .map(|setting| format!("{:width$}  # {}\n", line(setting), setting.origin))
        .collect()
}

/// The page docs/CONFIGURATION.md.
pub fn markdown() -> String {
    let node = KEYS.iter().map(|key| {
        let flag = key
            .flag
            .map_or(String::new(), |flag| format!(", `--{flag}`"));
        row(key, key.path, &format!("`{}`{flag}", key.env()))
    });
    let sinks = SINK_KEYS.iter().map(|key| {
        let path = key.path_in(Some("<name>"));
        let kinds = format!("`{}`; {}", key.env_in(Some("<name>")), key.kinds());
        row(key, &path, &kinds)
    });
    include_str!("docs.md")
        .replace("{node}\n", &node.collect::<String>())
        .replace("{sinks}\n", &sinks.collect::<String>())
        .replace("{cluster}\n", &Setting::ALL.map(cluster_row).concat())
}

fn cluster_row(setting: Setting) -> String {
    let SettingInfo {
        name,
        unit,
        default,
        range,
        doc,
    } = setting.info();
    let show = |value: u64| match unit {
        Unit::Bytes if value > 0 => format!("{value} ({})", unit.show(value)),
        Unit::Milliseconds => format!("{value} ({})", unit.show(value)),
        Unit::Count | Unit::Bytes => value.to_string(),
    };
    let unit = match unit {
        Unit::Count => "number",
        Unit::Bytes => "bytes",
        Unit::Milliseconds => "milliseconds",
    };
    let (default, min, max) = (show(*default), show(*range.start()), show(*range.end()));
    format!("| `{name}` | {default} | {unit}, {min} to {max} | {doc} |\n")
}

fn row(key: &Key, path: &str, names: &str) -> String {
    let default = match key.default {
        KeyDefault::Is(value) if !value.is_empty() => format!("`{value}`"),
        KeyDefault::Derived(from) => from.to_string(),
        KeyDefault::Required => "required".to_string(),
        KeyDefault::Is(_) | KeyDefault::Unset => "none".to_string(),
    };
    let (doc, shape) = (key.doc, key.shape.describe());
    format!("| `{path}` | {names} | {default} | {shape} | {doc} |\n")
}
