//! Which cluster to connect to, and the timeout.

use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use lockstep_client::{
    Address, Builder, Client, Discover, DiscoveryError, InvalidAddress, TIMEOUT_MAX,
};
use lockstep_consul::{ConsulError, Directory, check_name};

use super::Failure;
use super::args::{self, Maybe};

#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct Target {
    /// gRPC addresses of nodes, host:port, separated by commas; may be repeated
    /// [env: LOCKSTEP_ENDPOINTS] [default: 127.0.0.1:4333,127.0.0.1:4334,127.0.0.1:4335]
    #[arg(
        long = "endpoint",
        short = 'e',
        value_name = "HOST:PORT",
        global = true,
        value_delimiter = ',',
        value_parser = endpoint
    )]
    endpoints: Vec<Address>,

    /// Find nodes through this Consul agent, for example http://127.0.0.1:8500 [env: LOCKSTEP_CONSUL]
    #[arg(long, value_name = "URL", global = true)]
    consul: Option<String>,

    /// The token for Consul [env: CONSUL_HTTP_TOKEN]
    #[arg(long, value_name = "TOKEN", global = true)]
    consul_token: Option<String>,

    /// The name of the service in Consul
    #[arg(long, value_name = "NAME", global = true, default_value = "lockstep", value_parser = service)]
    service: String,

    /// Only nodes registered in Consul with this tag
    #[arg(long, value_name = "TAG", global = true)]
    tag: Option<String>,

    /// Timeout of the command, for example 500ms, 5s or 1h; of a watch, how long it looks for a node, at the
    /// start and when it has lost one
    /// [default: 5s; 1m for `sink check`, and for a watch that has lost its node]
    #[arg(long, value_name = "DURATION", global = true, value_parser = args::duration)]
    pub(super) timeout: Option<Duration>,
}

/// An endpoint, which may have blanks around it in a list.
fn endpoint(text: &str) -> Result<Address, InvalidAddress> {
    text.trim().parse()
}

/// A service name that Consul receives as it is written.
fn service(text: &str) -> Result<String, ConsulError> {
    check_name(text)?;
    Ok(text.to_owned())
}

impl Target {
    /// Completes the arguments: those given take precedence over the environment, and that over the
    /// defaults. Of endpoints and Consul, both are used if both come from the same place. An empty
    /// variable, as Compose files set it, counts as not set.
    ///
    /// The environment is read here and not by the parser, which would show it in usage lines.
    ///
    /// # Errors
    ///
    /// `LOCKSTEP_ENDPOINTS` holds something that is no address.
    pub(super) fn settle(&mut self, env: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
        let env = |name| env(name).filter(|value| !value.trim().is_empty());
        let given = |it: Option<String>| it.filter(|value| !value.is_empty());
        self.consul = given(self.consul.take());
        self.consul_token = given(self.consul_token.take()).or_else(|| env("CONSUL_HTTP_TOKEN"));
        if self.endpoints.is_empty() && self.consul.is_none() {
            let list = env("LOCKSTEP_ENDPOINTS").unwrap_or_default();
            let named = list.split(',').filter(|it| !it.trim().is_empty());
            self.endpoints = named
                .map(endpoint)
                .collect::<Result<_, _>>()
                .map_err(|error| Failure::usage(error).about("LOCKSTEP_ENDPOINTS"))?;
            self.consul = env("LOCKSTEP_CONSUL");
        }
        if self.endpoints.is_empty() && self.consul.is_none() {
            let port = |port| format!("127.0.0.1:{port}").parse();
            let local: Result<_, InvalidAddress> =
                [4333, 4334, 4335].into_iter().map(port).collect();
            self.endpoints = local.map_err(Failure::usage)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn endpoints(&self) -> Vec<&str> {
        self.endpoints.iter().map(Address::as_str).collect()
    }

    pub(super) fn client(&self) -> Result<Client, Failure> {
        let timeout = self.timeout.map(|timeout| timeout.min(TIMEOUT_MAX));
        let registry = self.consul.is_some().then(|| self.registry());
        let builder = Client::builder()
            .endpoints(&self.endpoints)
            .maybe(timeout, Builder::timeout)
            .maybe(registry.transpose()?, Builder::discover);
        Ok(builder.build()?)
    }

    /// Where in Consul to look for nodes; an error when no Consul is given.
    pub(super) fn registry(&self) -> Result<Registry, Failure> {
        let Some(address) = &self.consul else {
            return Err(Failure::usage(
                "no Consul address: use --consul URL or set LOCKSTEP_CONSUL",
            ));
        };
        Ok(Registry {
            directory: Directory::new(address, self.consul_token.clone())
                .map_err(Failure::usage)?,
            service: self.service.clone(),
            tag: self.tag.clone(),
        })
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        target: Target,
    }

    fn settled(arguments: &str, env: &[(&str, &str)]) -> Result<Target, Failure> {
        let arguments = format!("lockstep {arguments}");
        let mut target = Arguments::parse_from(arguments.split_whitespace()).target;
        target.settle(|name| {
            let (_, value) = env.iter().find(|(it, _)| *it == name)?;
            Some((*value).to_owned())
        })?;
        Ok(target)
    }

    #[test]
    fn arguments_win_over_the_environment_and_that_over_the_defaults() {
        let (endpoints, consul) = ("LOCKSTEP_ENDPOINTS", "LOCKSTEP_CONSUL");
        let url = "http://127.0.0.1:8500";
        for (arguments, env, expected, by_consul) in [
            ("", &[][..], 3, false),
            ("", &[(endpoints, "a:1, b:2,")], 2, false),
            ("", &[(consul, url)], 0, true),
            ("", &[(endpoints, "a:1"), (consul, url)], 1, true),
            ("-e c:3", &[(endpoints, "a:1,b:2"), (consul, url)], 1, false),
            ("--consul http://x:1", &[(endpoints, "a:1")], 0, true),
            ("--consul http://x:1 -e c:3", &[], 1, true),
        ] {
            let target = settled(arguments, env).unwrap();
            let found = (target.endpoints.len(), target.consul.is_some());
            assert_eq!(found, (expected, by_consul), "{arguments:?} {env:?}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        for empty in ["", " ", ","] {
            let env = [
                ("LOCKSTEP_ENDPOINTS", empty),
                ("LOCKSTEP_CONSUL", ""),
                ("CONSUL_HTTP_TOKEN", ""),
            ];
            let target = settled("", &env).unwrap();
            assert_eq!((target.endpoints.len(), target.consul), (3, None));
            assert_eq!(target.consul_token, None);
        }
        let failure = settled("", &[("LOCKSTEP_ENDPOINTS", "a")]).err().unwrap();
        assert_eq!(failure.code(), "usage");
    }
}
