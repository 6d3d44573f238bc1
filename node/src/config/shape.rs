//! The shapes a value may have. Each shape is a small module that reads it from what was written,
//! shows it as TOML, and says what it expects.

/// A value as a source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// Text, or a whole number as text. All that the environment and flags can give.
    Text(String),
    /// TOML's true or false.
    Flag(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// A TOML table of strings, in the order of the file.
    Pairs(Vec<(String, String)>),
    /// A TOML value that no setting accepts, by its type's name.
    Other(&'static str),
}

impl Raw {
    pub(super) fn text(&self, expects: &str) -> Result<&str, String> {
        match self {
            Raw::Text(text) => Ok(text.trim()),
            Raw::Flag(value) => Err(format!("expected {expects}, found {value}")),
            Raw::List(_) => Err(format!("expected {expects}, found an array")),
            Raw::Pairs(_) => Err(format!("expected {expects}, found a table")),
            Raw::Other(found) => Err(format!("expected {expects}, found {found}")),
        }
    }

    /// Comma-separated text and arrays are the same list. Empty items are dropped.
    pub(super) fn list(&self, expects: &str) -> Result<Vec<String>, String> {
        let items: Vec<&str> = match self {
            Raw::List(items) => items.iter().map(String::as_str).collect(),
            other => other.text(expects)?.split(',').collect(),
        };
        Ok(items
            .into_iter()
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(String::from)
            .collect())
    }

    /// `a=1,b=2`, an array of `a=1` and a table are the same pairs.
    fn pairs(&self, expects: &str) -> Result<Vec<(String, String)>, String> {
        if let Raw::Pairs(pairs) = self {
            return Ok(pairs.clone());
        }
        self.list(expects)?
            .iter()
            .map(|item| match item.split_once('=') {
                Some((key, value)) => Ok((key.trim().to_string(), value.trim().to_string())),
                None => Err(format!("expected {expects}: {item:?} has no '='")),
            })
            .collect()
    }

    /// What was written, for an error message, shortened.
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

pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn between<T: PartialOrd>(
    value: T,
    min: T,
    max: T,
    show: impl Fn(&T) -> String,
) -> Result<T, String> {
    if value < min || value > max {
        return Err(format!("must be between {} and {}", show(&min), show(&max)));
    }
    Ok(value)
}

/// The rule for names of nodes and services: it must fit in addresses, tags and file names.
fn check_name(text: &str) -> Result<(), String> {
    let reason = if text.is_empty() {
        "must not be empty"
    } else if text.len() > 64 {
        "must not be longer than 64 bytes"
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "must start with a letter or a digit"
    } else if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        "may only hold letters, digits, '-', '_' and '.'"
    } else {
        return Ok(());
    };
    Err(reason.into())
}

fn check_host_port(text: &str) -> Result<(), String> {
    let expects = "expected host:port, such as node1.example:4333";
    let (host, port) = text.rsplit_once(':').ok_or(expects)?;
    let port: u16 = port
        .parse()
        .map_err(|_| format!("{expects}; {port:?} is not a port"))?;
    if port == 0 {
        return Err("port 0 cannot be reached by others".into());
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address: Option<std::net::IpAddr> = bare.unwrap_or(host).parse().ok();
    match (bare, address) {
        (_, Some(ip)) if ip.is_unspecified() => Err(format!(
            "{ip} cannot be reached by others: give the address they use"
        )),
        (None, Some(ip)) if ip.is_ipv6() => {
            Err(format!("write an IPv6 address in brackets: [{ip}]:{port}"))
        }
        (Some(_), Some(std::net::IpAddr::V6(_))) | (None, Some(_)) => Ok(()),
        (Some(_), _) => Err(format!("{host} is not an IPv6 address")),
        (None, None) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
                return Err(format!("{expects}; {host:?} is not a host name"));
            }
            Ok(())
        }
    }
}

/// Free text.
pub(super) mod text {
    use super::*;
    pub(crate) const EXPECTS: &str = "text";
    pub(crate) fn read(raw: &Raw) -> Result<String, String> {
        match raw.text(EXPECTS)? {
            "" => Err("must not be empty".into()),
            text => Ok(text.to_string()),
        }
    }
    pub(crate) fn show(value: &str) -> String {
        quote(value)
    }
}

/// The name of a node or a service.
pub(super) mod name {
    use super::*;
    pub(crate) const EXPECTS: &str = "name";
    pub(crate) fn read(raw: &Raw) -> Result<String, String> {
        let text = raw.text(EXPECTS)?;
        check_name(text)?;
        Ok(text.to_string())
    }
    pub(crate) fn show(value: &str) -> String {
        quote(value)
    }
}

/// A directory.
pub(super) mod path {
    use super::*;
    use std::path::{Path, PathBuf};
    pub(crate) const EXPECTS: &str = "path";
    pub(crate) fn read(raw: &Raw) -> Result<PathBuf, String> {
        match raw.text(EXPECTS)? {
            "" => Err("must not be empty".into()),
            text => Ok(PathBuf::from(text)),
        }
    }
    pub(crate) fn show(value: &Path) -> String {
        quote(&value.to_string_lossy())
    }
}

/// An address to listen on.
pub(super) mod address {
    use super::*;
    use std::net::SocketAddr;
    pub(crate) const EXPECTS: &str = "ip:port";
    pub(crate) fn read(raw: &Raw) -> Result<SocketAddr, String> {
        let text = raw.text(EXPECTS)?;
        text.parse().map_err(|_| {
            "expected an IP address and a port, such as 127.0.0.1:3333 or 0.0.0.0:3333".into()
        })
    }
    pub(crate) fn show(value: &SocketAddr) -> String {
        quote(&value.to_string())
    }
}

/// An address that others connect to.
pub(super) mod host_port {
    use super::*;
    pub(crate) const EXPECTS: &str = "host:port";
    pub(crate) fn read(raw: &Raw) -> Result<String, String> {
        let text = raw.text(EXPECTS)?;
        check_host_port(text)?;
        Ok(text.to_string())
    }
    pub(crate) fn show(value: &str) -> String {
        quote(value)
    }
}

/// The root of an HTTP service; `http://` may be left out.
pub(super) mod url {
    use super::*;
    pub(crate) const EXPECTS: &str = "URL";
    pub(crate) fn read(raw: &Raw) -> Result<String, String> {
        let text = raw.text(EXPECTS)?.trim_end_matches('/');
        let full = if text.contains("://") {
            text.to_string()
        } else {
            format!("http://{text}")
        };
        let uri: http::Uri = full
            .parse()
            .map_err(|e| format!("expected a URL such as http://127.0.0.1:8500: {e}"))?;
        let scheme_ok = matches!(uri.scheme_str(), Some("http" | "https"));
        if !scheme_ok
            || uri.host().is_none_or(str::is_empty)
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err("expected a URL such as http://127.0.0.1:8500, without a path".into());
        }
        Ok(full)
    }
    pub(crate) fn show(value: &str) -> String {
        quote(value)
    }
}

/// A whole number.
pub(super) mod count {
    use super::*;
    pub(crate) const EXPECTS: &str = "number";
    pub(crate) fn read<T: TryFrom<u64>>(raw: &Raw, min: u64, max: u64) -> Result<T, String> {
        let text = raw.text("a whole number")?.replace('_', "");
        let value: u64 = text
            .parse()
            .map_err(|_| "expected a whole number".to_string())?;
        T::try_from(between(value, min, max, u64::to_string)?)
            .map_err(|_| "too large for this machine".into())
    }
    pub(crate) fn show(value: &impl ToString) -> String {
        value.to_string()
    }
}

/// A number of bytes.
pub(super) mod bytes {
    use super::*;
    pub(crate) const EXPECTS: &str = "size";
    const UNITS: [(&str, u64); 4] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];
    pub(crate) fn read<T: TryFrom<u64>>(raw: &Raw, min: u64, max: u64) -> Result<T, String> {
        let expected = "expected a size such as 64KiB, 512KiB or 1GiB";
        let text = raw.text("a size such as 64KiB")?;
        let digits_end = text
            .find(|c: char| !c.is_ascii_digit() && c != '_')
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let number: u64 = digits.replace('_', "").parse().map_err(|_| expected)?;
        let unit = match unit.trim() {
            "" => 1,
            unit => UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, size)| *size)
                .ok_or(expected)?,
        };
        let value = number.checked_mul(unit).ok_or("too large")?;
        T::try_from(between(value, min, max, human)?)
            .map_err(|_| "too large for this machine".into())
    }
    pub(crate) fn show<T: Copy + TryInto<u64>>(value: &T) -> String {
        quote(&human(&(*value).try_into().unwrap_or(u64::MAX)))
    }
    /// With the largest unit that divides it.
    fn human(bytes: &u64) -> String {
        let (name, size) = UNITS
            .into_iter()
            .find(|(_, size)| *bytes >= *size && bytes.is_multiple_of(*size))
            .unwrap_or(("B", 1));
        format!("{}{name}", bytes / size)
    }
}

/// A span of time.
pub(super) mod duration {
    use super::*;
    use std::time::Duration;
    pub(crate) const EXPECTS: &str = "duration";
    pub(crate) fn read(raw: &Raw, min: Duration, max: Duration) -> Result<Duration, String> {
        let expected = "a duration with its unit, such as 100ms, 5s or 10m";
        let value = humantime::parse_duration(raw.text(expected)?)
            .map_err(|_| format!("expected {expected}"))?;
        between(value, min, max, human)
    }
    pub(crate) fn show(value: &Duration) -> String {
        quote(&human(value))
    }
    fn human(value: &Duration) -> String {
        humantime::format_duration(*value).to_string()
    }
}

/// A duration kept as whole milliseconds, as the replicated state has it.
pub(super) mod millis {
    use super::*;
    use std::time::Duration;
    pub(crate) const EXPECTS: &str = duration::EXPECTS;
    pub(crate) fn read(raw: &Raw, min: Duration, max: Duration) -> Result<u64, String> {
        let value = duration::read(raw, min, max)?;
        u64::try_from(value.as_millis()).map_err(|_| "too long".into())
    }
    pub(crate) fn show(value: &u64) -> String {
        duration::show(&Duration::from_millis(*value))
    }
}

/// Several texts.
pub(super) mod list {
    use super::*;
    pub(crate) const EXPECTS: &str = "list";
    pub(crate) fn read(raw: &Raw) -> Result<Vec<String>, String> {
        raw.list("a comma-separated list")
    }
    pub(crate) fn show(value: &[String]) -> String {
        format!(
            "[{}]",
            value
                .iter()
                .map(|item| quote(item))
                .collect::<Vec<_>>()
                .join(", ")
        )
    }
}

/// Consul's service metadata, within its limits.
pub(super) mod meta {
    use super::*;
    pub(crate) const EXPECTS: &str = "key=value list";
    /// Set by the node itself.
    const RESERVED: [&str; 3] = ["name", "id", "cluster"];
    const PAIRS_MAX: usize = 32;
    pub(crate) fn read(raw: &Raw) -> Result<Vec<(String, String)>, String> {
        let pairs = raw.pairs("key=value pairs, such as rack=a,zone=b")?;
        if pairs.len() > PAIRS_MAX {
            return Err(format!("at most {PAIRS_MAX} pairs"));
        }
        for (at, (key, value)) in pairs.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if key.is_empty() || key.len() > 128 || !key.bytes().all(plain) {
                return Err(format!(
                    "key {key:?}: expected 1 to 128 letters, digits, '-' and '_'"
                ));
            }
            if RESERVED.contains(&key.as_str()) {
                return Err(format!("key {key:?} is set by the node itself"));
            }
            if value.len() > 512 {
                return Err(format!("the value of {key:?} is longer than 512 bytes"));
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(format!("key {key:?} is given twice"));
            }
        }
        Ok(pairs)
    }
    pub(crate) fn show(value: &[(String, String)]) -> String {
        format!(
            "[{}]",
            value
                .iter()
                .map(|(key, value)| quote(&format!("{key}={value}")))
                .collect::<Vec<_>>()
                .join(", ")
        )
    }
}

/// A fixed list of nodes.
pub(super) mod peers {
    use super::*;
    use crate::config::StaticPeer;
    pub(crate) const EXPECTS: &str = "name=host:port list";
    const PEERS_MAX: usize = 99;
    pub(crate) fn read(raw: &Raw) -> Result<Vec<StaticPeer>, String> {
        let pairs =
            raw.pairs("name=host:port pairs, such as node1=10.0.0.1:4333,node2=10.0.0.2:4333")?;
        if pairs.len() > PEERS_MAX {
            return Err(format!("at most {PEERS_MAX} peers"));
        }
        let mut peers: Vec<StaticPeer> = Vec::new();
        for (name, grpc) in pairs {
            check_name(&name).map_err(|reason| format!("name {name:?} {reason}"))?;
            check_host_port(&grpc).map_err(|reason| format!("peer {name}: {reason}"))?;
            if peers.iter().any(|peer| peer.name == name) {
                return Err(format!("{name} is listed twice"));
            }
            if let Some(other) = peers.iter().find(|peer| peer.grpc == grpc) {
                return Err(format!(
                    "{} and {name} have the same address {grpc}",
                    other.name
                ));
            }
            peers.push(StaticPeer { name, grpc });
        }
        Ok(peers)
    }
    pub(crate) fn show(value: &[StaticPeer]) -> String {
        let items: Vec<String> = value
            .iter()
            .map(|peer| quote(&format!("{}={}", peer.name, peer.grpc)))
            .collect();
        format!("[{}]", items.join(", "))
    }
}

/// The way to find peers.
pub(super) mod kind {
    use super::*;
    use crate::config::keys::Kind;
    pub(crate) const EXPECTS: &str = "`static` or `consul`";
    pub(crate) fn read(raw: &Raw) -> Result<Kind, String> {
        match raw.text(EXPECTS)? {
            "static" => Ok(Kind::Static),
            "consul" => Ok(Kind::Consul),
            _ => Err("expected static or consul".into()),
        }
    }
    pub(crate) fn show(value: &Kind) -> String {
        match value {
            Kind::Static => quote("static"),
            Kind::Consul => quote("consul"),
        }
    }
}

/// How log lines look.
pub(super) mod log_format {
    use super::*;
    use crate::config::LogFormat;
    pub(crate) const EXPECTS: &str = "`text` or `json`";
    pub(crate) fn read(raw: &Raw) -> Result<LogFormat, String> {
        match raw.text(EXPECTS)? {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("expected text or json".into()),
        }
    }
    pub(crate) fn show(value: &LogFormat) -> String {
        match value {
            LogFormat::Text => quote("text"),
            LogFormat::Json => quote("json"),
        }
    }
}

/// A `tracing` filter.
pub(super) mod filter {
    use super::*;
    pub(crate) const EXPECTS: &str = "filter";
    pub(crate) fn read(raw: &Raw) -> Result<String, String> {
        let text = raw.text("a filter such as info,lockstep_node=debug")?;
        tracing_subscriber::EnvFilter::builder()
            .parse(text)
            .map_err(|e| format!("expected a filter such as info,lockstep_node=debug: {e}"))?;
        Ok(text.to_string())
    }
    pub(crate) fn show(value: &str) -> String {
        quote(value)
    }
}
