//! Types of setting values. A shape parses a raw value, validates it, and describes what it expects.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lockstep_machine::{InstanceName, MachineName, NameRule, Unit, parse_duration};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::sink::{address, signers};

/// A value as a source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// Text, or a whole number as text. The only form that the environment and flags have.
    Text(String),
    /// A TOML boolean.
    Flag(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// A TOML table of strings, in the order of the file.
    Pairs(Vec<(String, String)>),
    /// A TOML value that no setting accepts, by the name of its type.
    Other(&'static str),
}

impl Raw {
    fn text(&self, expects: &str) -> Result<&str, String> {
        let found = match self {
            Raw::Text(text) => return Ok(text.trim()),
            Raw::Flag(value) => &value.to_string(),
            Raw::List(_) => "an array",
            Raw::Pairs(_) => "a table",
            Raw::Other(found) => found,
        };
        Err(format!("expected {expects}, found {found}"))
    }

    fn nonempty(&self, expects: &str) -> Result<&str, String> {
        match self.text(expects)? {
            "" => Err("must not be empty".into()),
            text => Ok(text),
        }
    }

    /// Comma-separated text and arrays are the same list. Empty items are dropped.
    fn list(&self, expects: &str) -> Result<Vec<String>, String> {
        let items: Vec<&str> = match self {
            Raw::List(items) => items.iter().map(String::as_str).collect(),
            other => other.text(expects)?.split(',').collect(),
        };
        let items = items.into_iter().map(str::trim).filter(|it| !it.is_empty());
        Ok(items.map(String::from).collect())
    }

    /// `a=1,b=2`, an array of `a=1` and a table are the same pairs.
    fn pairs(&self, expects: &str) -> Result<Vec<(String, String)>, String> {
        if let Raw::Pairs(pairs) = self {
            return Ok(pairs.clone());
        }
        let pair = |item: &String| match item.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_string(), value.trim().to_string())),
            None => Err(format!("expected {expects}: {item:?} has no '='")),
        };
        self.list(expects)?.iter().map(pair).collect()
    }

    /// The value for an error message, shortened.
    pub(super) fn quoted(&self) -> String {
        let text = match self {
            Raw::Text(text) => format!("{text:?}"),
            Raw::Flag(value) => value.to_string(),
            Raw::List(items) => format!("{items:?}"),
            Raw::Pairs(pairs) => format!("{pairs:?}"),
            Raw::Other(found) => (*found).to_string(),
        };
        match text.char_indices().nth(200) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }
}

/// A value that has been checked.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// What the field of the configuration is deserialized from.
    pub(super) json: Json,
    /// How it is shown.
    shown: toml::Value,
}

impl Value {
    fn new(json: impl Serialize, shown: impl Into<toml::Value>) -> Self {
        let (json, shown) = (json!(json), shown.into());
        Value { json, shown }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Value::new(&text, text.as_str())
    }

    pub(super) fn count(count: u64) -> Self {
        Value::new(count, i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(super) fn bytes(bytes: u64) -> Self {
        Value::new(bytes, Unit::Bytes.show(bytes))
    }

    /// The list of peers as a value: pairs of names and addresses.
    pub(super) fn peers(peers: &[(String, String)]) -> Self {
        let json = peers
            .iter()
            .map(|(name, grpc)| json!({ "name": name, "grpc": grpc }));
        let items = peers.iter().map(|(name, grpc)| format!("{name}={grpc}"));
        Value::new(json.collect::<Json>(), items.collect::<Vec<_>>())
    }

    /// For a sentence.
    pub(super) fn plain(&self) -> String {
        match &self.shown {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(toml::Value::as_str).collect();
                items.join(", ")
            }
            other => other.to_string(),
        }
    }

    /// As TOML.
    pub(super) fn toml(&self) -> String {
        self.shown.to_string()
    }
}

/// The shape of a setting's value.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Any text but the empty one.
    Text,
    /// The name of a node or a service. It follows the rule for names of the state machine.
    Name,
    Path,
    /// An address to listen on.
    Address,
    /// An address that others connect to.
    HostPort,
    /// The root of an HTTP service; `http://` may be left out.
    Url,
    /// A whole number, a size or a length of time.
    Number {
        unit: Unit,
        min: u64,
        max: u64,
    },
    Flag,
    OneOf(&'static [&'static str]),
    List,
    /// Origins of web pages, or `*`.
    Origins,
    /// Metadata of a Consul service.
    Meta,
    Peers,
    /// A `tracing` filter.
    Filter,
    /// The address of a sink's destination. Its kind decides which are valid, and is known later.
    Location,
    Follows,
    /// The name of a schema, database, table or collection, other than these.
    Identifier(&'static [&'static str]),
    /// The secrets that sign webhooks.
    Signing,
}

impl Shape {
    /// The allowed values in a few words, for documentation.
    pub fn describe(&self) -> String {
        match self {
            Shape::Text => "text".into(),
            Shape::Name => "name".into(),
            Shape::Path => "path".into(),
            Shape::Address => "ip:port".into(),
            Shape::HostPort => "host:port".into(),
            Shape::Url | Shape::Location => "URL".into(),
            Shape::Number { unit, min, max } => {
                let kind = match unit {
                    Unit::Count => "number",
                    Unit::Bytes => "size",
                    Unit::Milliseconds => "duration",
                };
                format!("{kind}, {} to {}", unit.show(*min), unit.show(*max))
            }
            Shape::Flag => "`true` or `false`".into(),
            Shape::OneOf(words) => format!("`{}`", words.join("`, `")),
            Shape::List | Shape::Follows => "list".into(),
            Shape::Origins => "origin list, or `*`".into(),
            Shape::Meta => "key=value list".into(),
            Shape::Peers => "name=host:port list".into(),
            Shape::Filter => "filter".into(),
            Shape::Identifier(_) => "identifier".into(),
            Shape::Signing => "secrets".into(),
        }
    }

    /// Checks a value. The error is the reason; it never repeats a secret.
    pub(super) fn read(&self, raw: &Raw) -> Result<Value, String> {
        match self {
            Shape::Text => raw.nonempty("text").map(Value::text),
            Shape::Name => {
                let text = raw.text("a name")?;
                check_name(text)?;
                Ok(Value::text(text))
            }
            Shape::Path => raw.nonempty("a path").map(Value::text),
            Shape::Address => {
                let expected = "an IP address and a port, such as 127.0.0.1:3333 or 0.0.0.0:3333";
                let address: SocketAddr = raw
                    .text(expected)?
                    .parse()
                    .map_err(|_| format!("expected {expected}"))?;
                Ok(Value::text(address.to_string()))
            }
            Shape::HostPort => {
                let text = raw.text("host:port")?;
                check_host_port(text)?;
                Ok(Value::text(text))
            }
            Shape::Url => url(raw).map(Value::text),
            Shape::Number { unit, min, max } => {
                let value = number(raw, *unit)?;
                if !(*min..=*max).contains(&value) {
                    let (min, max) = (unit.show(*min), unit.show(*max));
                    return Err(format!("must be between {min} and {max}"));
                }
                Ok(match unit {
                    Unit::Count => Value::count(value),
                    Unit::Bytes => Value::bytes(value),
                    Unit::Milliseconds => {
                        Value::new(Duration::from_millis(value), unit.show(value))
                    }
                })
            }
            Shape::Flag => {
                let flag = match raw {
                    Raw::Flag(value) => *value,
                    other => match other.text("true or false")?.parse() {
                        Ok(value) => value,
                        Err(_) => return Err("expected true or false".into()),
                    },
                };
                Ok(Value::new(flag, flag))
            }
            Shape::OneOf(words) => {
                let expected = match words {
                    [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
                    [] => String::new(),
                };
                match raw.text(&expected)? {
                    text if words.contains(&text) => Ok(Value::text(text)),
                    _ => Err(format!("expected {expected}")),
                }
            }
            Shape::List => {
                let items = raw.list("a comma-separated list")?;
                Ok(Value::new(&items, items.clone()))
            }
            Shape::Origins => origins(raw),
            Shape::Meta => meta(raw),
            Shape::Peers => peers(raw),
            Shape::Filter => {
                let expected = "a filter such as info,lockstep_node=debug";
                let text = raw.text(expected)?;
                tracing_subscriber::EnvFilter::builder()
                    .parse(text)
                    .map_err(|error| format!("expected {expected}: {error}"))?;
                Ok(Value::text(text))
            }
            Shape::Location => location(raw),
            Shape::Follows => follows(raw),
            Shape::Identifier(taken) => identifier(raw, taken).map(Value::text),
            Shape::Signing => signing(raw).map(Value::text),
        }
    }
}

fn number(raw: &Raw, unit: Unit) -> Result<u64, String> {
    let expected = match unit {
        Unit::Count => "a whole number",
        Unit::Bytes => "a size such as 64KiB or 1GiB, below 2^64 bytes",
        Unit::Milliseconds => "a duration with its unit, such as 100ms, 5s or 10m",
    };
    let text = raw.text(expected)?;
    match unit {
        // A number without a unit is ambiguous: it may be seconds or milliseconds.
        Unit::Milliseconds => parse_duration(text).map_err(|fault| fault.to_string()),
        Unit::Count | Unit::Bytes => {
            let number = unit.parse(text);
            number.ok_or_else(|| format!("expected {expected}"))
        }
    }
}

fn check_name(text: &str) -> Result<(), String> {
    let checked = NameRule::NAME.check("name", text);
    checked.map_err(|error| error.reason)
}

fn check_host_port(text: &str) -> Result<(), String> {
    let expected = "expected host:port, such as node1.example:4333";
    let (host, port) = text.rsplit_once(':').ok_or(expected)?;
    let port: u16 = port
        .parse()
        .map_err(|_| format!("{expected}; {port:?} is not a port"))?;
    if port == 0 {
        return Err("port 0 is not an address that others can connect to".into());
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(host).parse().ok();
    match (bare, address) {
        (_, Some(ip)) if ip.is_unspecified() => Err(format!(
            "other hosts cannot connect to {ip}: set an address that they can reach"
        )),
        (None, Some(ip)) if ip.is_ipv6() => {
            Err(format!("write an IPv6 address in brackets: [{ip}]:{port}"))
        }
        (Some(_), Some(IpAddr::V6(_))) | (None, Some(_)) => Ok(()),
        (Some(_), _) => Err(format!("{host} is not an IPv6 address")),
        (None, None) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
                return Err(format!("{expected}; {host:?} is not a host name"));
            }
            Ok(())
        }
    }
}

fn url(raw: &Raw) -> Result<String, String> {
    let expected = "expected a URL such as http://127.0.0.1:8500";
    let text = raw.text("a URL")?.trim_end_matches('/');
    let full = match text.contains("://") {
        true => text.to_string(),
        false => format!("http://{text}"),
    };
    let uri: http::Uri = full
        .parse()
        .map_err(|error| format!("{expected}: {error}"))?;
    let is_root = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    match is_root {
        true => Ok(full),
        false => Err(format!("{expected}, without a path")),
    }
}

fn origins(raw: &Raw) -> Result<Value, String> {
    let expected = "expected origins such as https://app.example or http://localhost:8080, or *";
    let items = raw.list("a comma-separated list of origins")?;
    for item in items.iter().filter(|it| *it != "*") {
        let uri: Option<http::Uri> = item.parse().ok();
        let is_origin = uri.is_some_and(|uri| {
            let scheme = uri.scheme_str().unwrap_or_default();
            let host = uri.authority().map(http::uri::Authority::as_str);
            // As a browser sends it: without a path, not even a slash.
            host.is_some_and(|host| *item == format!("{scheme}://{host}") && !host.contains('@'))
        });
        if !is_origin {
            return Err(format!("{expected}; {item:?} is not an origin"));
        }
    }
    Ok(Value::new(&items, items.clone()))
}

/// What Consul accepts.
const META_KEY: NameRule = NameRule {
    first: |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
    rest: |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
    len_max: 128,
    words: "ASCII letters, digits, '-' or '_'",
};

fn meta(raw: &Raw) -> Result<Value, String> {
    const PAIRS_MAX: usize = 32;
    let pairs = raw.pairs("key=value pairs, such as rack=a,zone=b")?;
    if pairs.len() > PAIRS_MAX {
        return Err(format!("at most {PAIRS_MAX} pairs are allowed"));
    }
    for (at, (key, value)) in pairs.iter().enumerate() {
        let checked = META_KEY.check("key", key);
        checked.map_err(|error| format!("key {key:?}: {}", error.reason))?;
        if value.len() > 512 {
            return Err(format!("the value of {key:?} is longer than 512 bytes"));
        }
        if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
            return Err(format!("key {key:?} is given twice"));
        }
    }
    lockstep_consul::check_meta(&pairs).map_err(|error| error.to_string())?;
    let items = pairs.iter().map(|(key, value)| format!("{key}={value}"));
    Ok(Value::new(&pairs, items.collect::<Vec<_>>()))
}

fn peers(raw: &Raw) -> Result<Value, String> {
    const PEERS_MAX: usize = 99;
    let peers =
        raw.pairs("name=host:port pairs, such as node1=10.0.0.1:4333,node2=10.0.0.2:4333")?;
    if peers.len() > PEERS_MAX {
        return Err(format!("at most {PEERS_MAX} peers are allowed"));
    }
    for (at, (name, grpc)) in peers.iter().enumerate() {
        check_name(name).map_err(|reason| format!("name {name:?}: {reason}"))?;
        check_host_port(grpc).map_err(|reason| format!("peer {name}: {reason}"))?;
        for (other, address) in &peers[..at] {
            if other == name {
                return Err(format!("{name} is listed twice"));
            }
            if address == grpc {
                return Err(format!("{other} and {name} have the same address {grpc}"));
            }
        }
    }
    Ok(Value::peers(&peers))
}

fn location(raw: &Raw) -> Result<Value, String> {
    const BYTES_MAX: usize = 2048;
    let text = raw.nonempty("a URL")?;
    if text.len() > BYTES_MAX {
        return Err(format!("must not be longer than {BYTES_MAX} bytes"));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a URL must not contain white space".into());
    }
    Ok(Value::new(text, address::shown(text)))
}

fn follows(raw: &Raw) -> Result<Value, String> {
    const FOLLOWS_MAX: usize = 256;
    let items = raw.list("machines, such as order,ticket/2026-")?;
    if items.len() > FOLLOWS_MAX {
        return Err(format!(
            "at most {FOLLOWS_MAX} machines and prefixes are allowed"
        ));
    }
    let follow = |item: &String| {
        let (machine, prefix) = match item.split_once('/') {
            Some((machine, prefix)) => (machine, Some(prefix)),
            None => (item.as_str(), None),
        };
        // The prefix of a name is itself a valid name.
        if let Some(prefix) = prefix {
            InstanceName::new(prefix)
                .map_err(|error| format!("{item}: prefix {prefix:?}: {}", error.reason))?;
        }
        let machine = MachineName::new(machine).map_err(|error| error.to_string())?;
        Ok(json!({ "machine": machine, "prefix": prefix }))
    };
    let json: Result<Json, String> = items.iter().map(follow).collect();
    Ok(Value::new(json?, items))
}

/// A name that needs no quotes in any database.
const IDENTIFIER: NameRule = NameRule {
    first: |c| c.is_ascii_lowercase() || c == '_',
    rest: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
    len_max: 63,
    words: "lowercase ASCII letters, digits or '_', starting with a letter or '_'",
};

fn identifier(raw: &Raw, taken: &[&str]) -> Result<String, String> {
    let text = raw.text("a name")?;
    let checked = IDENTIFIER.check("name", text);
    checked.map_err(|error| error.reason)?;
    match taken.contains(&text) {
        true => Err(format!("{text} is already in use: choose another name")),
        false => Ok(text.into()),
    }
}

fn signing(raw: &Raw) -> Result<String, String> {
    let text = raw.text("secrets")?;
    signers(text)?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
