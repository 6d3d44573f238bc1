//! Addresses of destinations: validation, the database that they name, and display without secrets.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use tokio_postgres::config::Host;

/// Replaces a secret.
const HIDDEN: &str = "(hidden)";

/// What a valid address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// The database, in one form for all spellings and users.
    pub(super) database: Option<String>,
    pub(super) has_password: bool,
}

/// Checks an address. The error repeats nothing that could be a secret.
pub(super) fn check(kind: &str, address: &str, allow_local: bool) -> Result<Known, String> {
    match kind {
        "postgres" => postgres(address),
        "mongo" => mongo(address),
        _ => webhook(address, allow_local),
    }
}

fn postgres(address: &str) -> Result<Known, String> {
    let expected = "expected a URL such as postgres://user@host:5432/database";
    if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
        return Err(expected.into());
    }
    // Otherwise the end of a password would be read as the host or an option, and be shown.
    if address.matches('@').count() > 1 {
        return Err("write an '@' in a name or a password as %40".into());
    }
    let parsed = postgres_config(address).map_err(|error| match error.source() {
        Some(cause) => format!("{expected}: {cause}"),
        None => expected.to_string(),
    })?;
    if parsed.get_hosts().iter().all(no_host) {
        return Err(format!("{expected}: the host is missing"));
    }
    let hosts = postgres_hosts(&parsed).to_lowercase();
    let database = parsed.get_dbname().or(parsed.get_user());
    Ok(Known {
        database: Some(format!("{hosts}/{}", database.unwrap_or_default())),
        has_password: parsed.get_password().is_some(),
    })
}

/// The address as the driver reads it. Also accepts the values of `sslmode` that the driver rejects. The text of
/// an error may quote a part of a password.
pub fn postgres_config(address: &str) -> Result<tokio_postgres::Config, tokio_postgres::Error> {
    // The node verifies the certificate whenever TLS is required: the stricter modes add nothing.
    ["verify-full", "verify-ca"]
        .into_iter()
        .fold(address.to_string(), |address, mode| {
            address.replace(&format!("sslmode={mode}"), "sslmode=require")
        })
        .parse()
}

/// Hosts and ports, without user and password.
pub fn postgres_hosts(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        // One port for all hosts, or one for each.
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    hosts.collect::<Vec<_>>().join(",")
}

fn no_host(host: &Host) -> bool {
    matches!(host, Host::Tcp(name) if name.is_empty())
}

/// Checks only what does not depend on the driver's options. The driver checks the rest, and may
/// need a name server for it.
fn mongo(address: &str) -> Result<Known, String> {
    let expected = "expected a URL such as mongodb://user@host:27017 or mongodb+srv://user@host";
    let (_, user, hosts, _) = mongo_parts(address)
        .filter(|(scheme, ..)| matches!(*scheme, "mongodb://" | "mongodb+srv://"))
        .ok_or(expected)?;
    if hosts.is_empty() {
        return Err(format!("{expected}: the host is missing"));
    }
    let hosts: Vec<String> = hosts
        .split(',')
        .map(|host| host.trim_end_matches(":27017").to_lowercase())
        .collect();
    Ok(Known {
        database: Some(hosts.join(",")),
        has_password: user.is_some_and(|user| user.contains(':')),
    })
}

/// The parts of a MongoDB address: its scheme with `://`, the user with the password, the hosts, the rest.
pub fn mongo_parts(address: &str) -> Option<(&str, Option<&str>, &str, &str)> {
    let (scheme, rest) = address.split_at(address.find("://")? + "://".len());
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Some(match authority.rsplit_once('@') {
        Some((user, hosts)) => (scheme, Some(user), hosts, rest),
        None => (scheme, None, authority, rest),
    })
}

fn webhook(address: &str, allow_local: bool) -> Result<Known, String> {
    let expected = "expected a URL such as https://example.com/hook";
    let url = Url::parse(address).map_err(|error| format!("{expected}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(expected.into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user or password: requests are signed".into());
    }
    if url.fragment().is_some() {
        return Err("must not contain a fragment: it would not be sent".into());
    }
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() {
        return Err(expected.into());
    }
    if !allow_local && names_local(host) {
        return Err(format!(
            "{host} is a loopback or link-local address: set allow_local = true to allow it"
        ));
    }
    Ok(Known {
        database: None,
        has_password: false,
    })
}

/// Whether a URL's host is a local address or a local name.
fn names_local(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    match bare.parse() {
        Ok(ip) => is_local(ip),
        // The URL parser has converted the host to lowercase.
        Err(_) => {
            let name = host.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Addresses of cloud metadata services that are not link-local: Alibaba, Azure.
const METADATA_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// The same: AWS, Google.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether an address is loopback, link-local, unspecified, multicast, or a cloud's metadata service:
/// a webhook may call it only with `allow_local`. An IPv4 address is recognized in every form in which
/// IPv6 writes it.
pub fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_local_v4(ip),
        IpAddr::V6(ip) => {
            let [.., a, b] = ip.segments();
            let last = Ipv4Addr::from((u32::from(a) << 16) | u32::from(b));
            match ip.segments() {
                // IPv4-mapped, IPv4-compatible (with :: and ::1), and translated (RFC 6052).
                [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_local_v4(last),
                [0, 0, 0, 0, 0, 0, ..] => true,
                _ => ip.is_unicast_link_local() || ip.is_multicast() || METADATA_V6.contains(&ip),
            }
        }
    }
}

fn is_local_v4(ip: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 means this host or this network (RFC 1122).
    ip.octets()[0] == 0
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || METADATA_V4.contains(&ip)
}

/// An address, or any text that contains one, without what may be secret: a password, those options of
/// a database that are known to be secret, all parameters of any other URL.
pub(in crate::config) fn shown(address: &str) -> String {
    let start = address.find("://").map_or(0, |at| at + "://".len());
    let is_database = ["postgres", "mongodb"]
        .iter()
        .any(|scheme| address[..start].contains(scheme));
    // Up to the last '@': a password that was not encoded may contain one.
    let end = address.rfind('@').unwrap_or(start).max(start);
    let user = &address[start..end];
    let user = match user.split_once(':') {
        Some((user, _)) if is_database => format!("{user}:{HIDDEN}"),
        None if is_database || user.is_empty() => user.to_string(),
        _ => HIDDEN.to_string(),
    };
    let rest = match address[end..].split_once('?') {
        None => address[end..].to_string(),
        Some((path, query)) if is_database => format!("{path}?{}", options(query)),
        Some((path, _)) => format!("{path}?{HIDDEN}"),
    };
    format!("{}{user}{rest}", &address[..start])
}

/// The same without the path, which is often the secret of a webhook.
pub(in crate::config) fn shown_host(address: &str) -> String {
    let shown = shown(address);
    let start = shown.find("://").map_or(0, |at| at + "://".len());
    match shown[start..].split_once('/') {
        Some((host, path)) if !path.is_empty() => {
            format!("{}{host}/{HIDDEN}", &shown[..start])
        }
        _ => shown,
    }
}

fn options(query: &str) -> String {
    let options: Vec<String> = query
        .split('&')
        .map(|option| {
            let (name, _) = option.split_once('=').unwrap_or((option, ""));
            let lower = name.to_lowercase();
            let telling = ["password", "properties", "token", "%"];
            match telling.iter().any(|word| lower.contains(word)) {
                true => format!("{name}={HIDDEN}"),
                false => option.to_string(),
            }
        })
        .collect();
    options.join("&")
}
