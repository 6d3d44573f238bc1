//! Which cluster to talk to, and for how long.

use std::time::Duration;

use async_trait::async_trait;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use lockstep_client::{Address, Client, Discover, DiscoveryError, TIMEOUT_MAX};
use lockstep_consul::{ConsulError, Directory, check_name};

use super::failure::Failure;

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct Target {
    /// A node's gRPC interface, host:port; several in a list or by repeating the option
    #[arg(
        long = "endpoint",
        short = 'e',
        value_name = "HOST:PORT",
        global = true,
        value_delimiter = ',',
        env = "LOCKSTEP_ENDPOINTS",
        default_value = "127.0.0.1:4333,127.0.0.1:4334,127.0.0.1:4335"
    )]
    endpoints: Vec<Address>,

    /// Find nodes through this Consul agent, for example http://127.0.0.1:8500
    #[arg(long, value_name = "URL", global = true, env = "LOCKSTEP_CONSUL")]
    consul: Option<String>,

    /// The token for Consul
    #[arg(
        long,
        value_name = "TOKEN",
        global = true,
        env = "CONSUL_HTTP_TOKEN",
        hide_env_values = true
    )]
    consul_token: Option<String>,

    /// The name of the service in Consul
    #[arg(long, value_name = "NAME", global = true, default_value = "lockstep", value_parser = service)]
    service: String,

    /// Only nodes registered in Consul with this tag
    #[arg(long, value_name = "TAG", global = true)]
    tag: Option<String>,

    /// How long the command may take, for example 500ms or 5s
    #[arg(long, value_name = "DURATION", global = true, default_value = "5s", value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text)
        .map_err(|error| format!("{error} (for example 500ms, 5s, 1m)"))?;
    if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
        return Err("it must be from 1ms to 1h".to_owned());
    }
    Ok(timeout)
}

/// A service name that Consul receives as it is written.
fn service(text: &str) -> Result<String, ConsulError> {
    check_name(text)?;
    Ok(text.to_owned())
}

impl Target {
    /// Decides between endpoints and Consul by their source: arguments take precedence over the
    /// environment, and that over the defaults; given in the same way, both are used.
    pub(super) fn settle(&mut self, matches: &ArgMatches) {
        // An empty variable, as Compose files set it, counts as not set.
        self.consul = self.consul.take().filter(|address| !address.is_empty());
        self.consul_token = self.consul_token.take().filter(|token| !token.is_empty());
        if self.consul.is_none() {
            return;
        }
        match (rank(matches, "endpoints"), rank(matches, "consul")) {
            (endpoints, consul) if endpoints < consul => self.endpoints.clear(),
            (endpoints, consul) if endpoints > consul => self.consul = None,
            _ => {}
        }
    }

    #[cfg(test)]
    pub(super) fn endpoints(&self) -> Vec<&str> {
        self.endpoints.iter().map(Address::as_str).collect()
    }

    pub(super) fn client(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .endpoints(&self.endpoints)
            .timeout(self.timeout);
        if self.consul.is_some() {
            builder = builder.discover(self.registry()?);
        }
        Ok(builder.build()?)
    }

    /// Where in Consul to look for nodes; an error when no Consul is given.
    pub(super) fn registry(&self) -> Result<Registry, Failure> {
        let Some(address) = &self.consul else {
            return Err(Failure::usage(
                "no Consul given: use --consul URL or set LOCKSTEP_CONSUL",
            ));
        };
        Ok(Registry {
            directory: Directory::new(address, self.consul_token.clone())
                .map_err(Failure::usage)?,
            service: self.service.clone(),
            tag: self.tag.clone(),
        })
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

fn rank(matches: &ArgMatches, argument: &str) -> u8 {
    match matches.value_source(argument) {
        Some(ValueSource::CommandLine) => 2,
        Some(ValueSource::EnvVariable) => 1,
        _ => 0,
    }
}

/// Where in Consul to look for nodes.
pub(super) struct Registry {
    pub(super) directory: Directory,
    pub(super) service: String,
    pub(super) tag: Option<String>,
}

#[async_trait]
impl Discover for Registry {
    async fn nodes(&self) -> Result<Vec<Address>, DiscoveryError> {
        let entries = self
            .directory
            .services(&self.service, self.tag.as_deref())
            .await
            .map_err(|error| DiscoveryError::Failed(error.into()))?;
        let found: Vec<Address> = entries
            .iter()
            .filter_map(|entry| entry.grpc_address.parse().ok())
            .collect();
        if found.is_empty() {
            let tag = self.tag.as_ref().map(|tag| format!(" with tag {tag:?}"));
            return Err(DiscoveryError::Empty(format!(
                "Consul has no passing instance of service {:?}{}",
                self.service,
                tag.unwrap_or_default()
            )));
        }
        Ok(found)
    }
}
