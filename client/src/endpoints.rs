//! The nodes that a client knows, their connections, and which one to try next.

use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::address::Address;
use crate::answer::root_cause;
use crate::discover::{Discover, DiscoveryError};

/// Connect timeout; a node that is up accepts a connection well within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that stopped without closing its connections is noticed after twice this.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Flow-control window of a watch.
const WATCH_WINDOW_BYTES: u32 = 256 * 1024;

/// One node: its address and, once used, its connection.
pub(crate) struct Slot {
    pub address: Address,
    connection: Mutex<Option<Arc<Channel>>>,
}

impl Slot {
    /// The connection, established now if there is none. An error here means that nothing was sent; with a
    /// lazy connection, that would be unknown.
    pub(crate) async fn connect(&self) -> Result<Arc<Channel>, String> {
        let mut connection = self.connection.lock().await;
        if let Some(channel) = &*connection {
            return Ok(channel.clone());
        }
        let channel = Arc::new(dial(self.address.endpoint()?).await?);
        Ok(connection.insert(channel).clone())
    }

    /// A separate connection for one watch, with a small window: a slow reader does not block other calls.
    pub(crate) async fn connect_apart(&self) -> Result<Channel, String> {
        let endpoint = self.address.endpoint()?;
        let endpoint = endpoint
            .initial_stream_window_size(WATCH_WINDOW_BYTES)
            .initial_connection_window_size(WATCH_WINDOW_BYTES);
        dial(endpoint).await
    }

    /// Forgets a connection that failed, unless it was replaced meanwhile.
    pub(crate) async fn disconnect(&self, failed: &Arc<Channel>) {
        let mut connection = self.connection.lock().await;
        connection.take_if(|current| Arc::ptr_eq(current, failed));
    }
}

impl Address {
    /// How to reach a node. Every wait is bounded: for a connection, and for signs of life on one
    /// that has requests or a watch open.
    fn endpoint(&self) -> Result<Endpoint, String> {
        let endpoint =
            Endpoint::from_shared(format!("http://{self}")).map_err(|error| root_cause(&error))?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE * 10))
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE))
    }
}

async fn dial(endpoint: Endpoint) -> Result<Channel, String> {
    endpoint.connect().await.map_err(|error| root_cause(&error))
}

/// Every node known, and the one that answered last.
pub(crate) struct Endpoints {
    fixed: Vec<Address>,
    discover: Option<Arc<dyn Discover>>,
    known: parking_lot::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    slots: Vec<Arc<Slot>>,
    preferred: usize,
}

impl Endpoints {
    pub(crate) fn new(fixed: Vec<Address>, discover: Option<Arc<dyn Discover>>) -> Self {
        let endpoints = Self {
            fixed,
            discover,
            known: parking_lot::Mutex::default(),
        };
        endpoints.replace(Vec::new());
        endpoints
    }

    /// Whether [`refresh`](Self::refresh) can bring anything new.
    pub(crate) fn are_discovered(&self) -> bool {
        self.discover.is_some()
    }

    /// Looks for nodes again. Without discovery there is nothing to do.
    pub(crate) async fn refresh(&self, deadline: Instant) -> Result<(), DiscoveryError> {
        let Some(discover) = &self.discover else {
            return Ok(());
        };
        let mut found = tokio::time::timeout_at(deadline, discover.nodes())
            .await
            .map_err(|_| DiscoveryError::TimedOut)??;
        // Every client gets the same order: without this, all would ask the same node.
        found.shuffle(&mut rand::rng());
        self.replace(found);
        Ok(())
    }

    /// Every node once, the preferred one first.
    pub(crate) fn round(&self) -> Vec<Arc<Slot>> {
        let known = self.known.lock();
        let (before, from) = known.slots.split_at(known.preferred.min(known.slots.len()));
        from.iter().chain(before).cloned().collect()
    }

    /// Every node in the order given.
    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.known.lock().slots.clone()
    }

    /// The node at an address, with its connection if it is a known one.
    pub(crate) fn at(&self, address: &Address) -> Arc<Slot> {
        self.known.lock().at(address)
    }

    /// Starts the following calls at this node.
    pub(crate) fn prefer(&self, slot: &Arc<Slot>) {
        let mut known = self.known.lock();
        if let Some(at) = known.position(slot) {
            known.preferred = at;
        }
    }

    /// Like [`prefer`](Self::prefer), for a node that may be new.
    pub(crate) fn adopt(&self, slot: &Arc<Slot>) {
        let mut known = self.known.lock();
        known.preferred = known.position(slot).unwrap_or(known.slots.len());
        if known.preferred == known.slots.len() {
            known.slots.push(slot.clone());
        }
    }

    /// Starts the following calls elsewhere, if they would start at this node.
    pub(crate) fn demote(&self, slot: &Arc<Slot>) {
        let mut known = self.known.lock();
        if known.position(slot) == Some(known.preferred) {
            known.preferred = (known.preferred + 1) % known.slots.len();
        }
    }

    /// Keeps the connections, and the preference, of nodes that stay.
    fn replace(&self, found: Vec<Address>) {
        let mut known = self.known.lock();
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for address in self.fixed.iter().chain(&found) {
            if !slots.iter().any(|slot| slot.address == *address) {
                slots.push(known.at(address));
            }
        }
        let preferred = known.slots.get(known.preferred).cloned();
        known.slots = slots;
        known.preferred = preferred
            .and_then(|slot| known.position(&slot))
            .unwrap_or(0);
    }
}

impl Known {
    fn at(&self, address: &Address) -> Arc<Slot> {
        let known = self.slots.iter().find(|slot| slot.address == *address);
        let new = || {
            Arc::new(Slot {
                address: address.clone(),
                connection: Mutex::default(),
            })
        };
        known.cloned().unwrap_or_else(new)
    }

    fn position(&self, slot: &Arc<Slot>) -> Option<usize> {
        self.slots
            .iter()
            .position(|other| other.address == slot.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().expect("a test address is valid")
    }

    fn order(endpoints: &Endpoints) -> Vec<String> {
        endpoints
            .round()
            .iter()
            .map(|slot| slot.address.to_string())
            .collect()
    }

    #[test]
    fn calls_start_at_the_node_that_answered_and_move_on_from_one_that_failed() {
        let endpoints = Endpoints::new(
            vec![
                address("a:1"),
                address("b:1"),
                address("a:1"),
                address("c:1"),
            ],
            None,
        );
        assert_eq!(order(&endpoints), ["a:1", "b:1", "c:1"]);
        let c = endpoints.at(&address("c:1"));
        endpoints.prefer(&c);
        assert_eq!(order(&endpoints), ["c:1", "a:1", "b:1"]);
        endpoints.demote(&c);
        assert_eq!(order(&endpoints), ["a:1", "b:1", "c:1"]);
        endpoints.demote(&c);
        assert_eq!(order(&endpoints), ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn discovery_keeps_nodes_that_stay_and_drops_those_that_left() {
        let endpoints = Endpoints::new(vec![address("a:1")], None);
        endpoints.replace(vec![address("b:1"), address("c:1")]);
        let b = endpoints.at(&address("b:1"));
        endpoints.prefer(&b);
        endpoints.replace(vec![address("d:1"), address("b:1")]);
        assert_eq!(order(&endpoints), ["b:1", "a:1", "d:1"]);
        assert!(Arc::ptr_eq(&b, &endpoints.at(&address("b:1"))));
        endpoints.replace(vec![]);
        assert_eq!(order(&endpoints), ["a:1"]);
    }
}
