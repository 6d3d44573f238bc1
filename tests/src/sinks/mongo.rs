//! MongoDB as a destination.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail, ensure};
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{ClientOptions, IndexOptions, ServerAddress};
use mongodb::{Database, IndexModel};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Destination, States, Written};
use crate::disk::Disk;
use crate::mongo::{Mongo, Saved, StandIn};

/// Room for a new server's data, and some more.
const SMALL: u64 = 24 * 1024 * 1024;
/// A document that occupies the names of an instance, so that the sink's is rejected.
const IN_THE_WAY: &str = "in the way";

/// A database for the sink.
pub struct Documents {
    server: Mongo,
    address: SocketAddr,
    saved: Option<Saved>,
}

/// A document of the history. What the stand-in gives back narrower than it got it, a number of 64
/// bits as one of 32, is the same number.
#[derive(Deserialize)]
struct Kept {
    #[serde(rename = "_id")]
    id: String,
    revision: u64,
    position: u32,
    kind: String,
    machine: String,
    instance: Option<String>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    instance_revision: u64,
    at: DateTime,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A document of the instances that is no tombstone. Its times are left out: the stand-in makes texts
/// of them when they change.
#[derive(Deserialize)]
struct Shown {
    #[serde(rename = "_id")]
    id: String,
    machine: String,
    instance: String,
    state: String,
    instance_revision: u64,
}

impl Documents {
    /// In a stand-in, or in the real server that the environment names.
    pub async fn start() -> Result<Self> {
        Self::on(Mongo::start().await?).await
    }

    /// In a server that the test may stop, kill and restore; none if it is not the test's.
    pub async fn start_own() -> Result<Option<Self>> {
        Self::on_some(Mongo::start_own().await?).await
    }

    /// In a server on a small disk that can be filled; none where no disk can be mounted.
    pub async fn start_on_small_disk() -> Result<Option<Self>> {
        Self::on_some(Mongo::start_on_disk(SMALL).await?).await
    }

    async fn on_some(server: Option<Mongo>) -> Result<Option<Self>> {
        match server {
            Some(server) => Self::on(server).await.map(Some),
            None => Ok(None),
        }
    }

    async fn on(server: Mongo) -> Result<Self> {
        let hosts = ClientOptions::parse(server.address()).await?.hosts;
        let [ServerAddress::Tcp { host, port }] = hosts.as_slice() else {
            bail!("a cable leads to one server, not to {hosts:?}");
        };
        let mut addresses = (host.as_str(), port.unwrap_or(27017)).to_socket_addrs()?;
        let address = addresses.next().context("its host has no address")?;
        Ok(Self {
            server,
            address,
            saved: None,
        })
    }

    /// The database, bypassing the cable.
    pub async fn database(&self) -> Result<Database> {
        self.server.connect().await
    }

    /// What is to be dropped when the test is over: nothing in a server that ends with it.
    pub async fn shared(&self) -> Result<Option<Database>> {
        match self.server.is_own() {
            true => Ok(None),
            false => self.database().await.map(Some),
        }
    }

    fn own(&mut self) -> Result<&mut StandIn> {
        self.server.stand_in().context("the server is another's")
    }

    fn disk(&mut self) -> Result<&Disk> {
        self.own()?.disk().context("its disk is not small")
    }

    async fn all<T>(&self, collection: &str, filter: Document, order: Document) -> Result<Vec<T>>
    where
        T: DeserializeOwned + Send + Sync,
    {
        let collection = self.database().await?.collection::<T>(collection);
        let mut found = collection.find(filter).sort(order).await?;
        let mut all = vec![];
        while found.advance().await? {
            all.push(found.deserialize_current()?);
        }
        Ok(all)
    }
}

impl Destination for Documents {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn settings(&self, through: SocketAddr) -> Vec<(&'static str, String)> {
        vec![
            ("LOCKSTEP_SINK_FAR_KIND", "mongo".to_owned()),
            (
                "LOCKSTEP_SINK_FAR_ADDRESS",
                through_cable(self.server.address(), through),
            ),
            (
                "LOCKSTEP_SINK_FAR_DATABASE",
                self.server.database().to_owned(),
            ),
        ]
    }

    async fn kill9(&mut self) -> Result<()> {
        self.own()?.kill9()
    }

    async fn start(&mut self) -> Result<()> {
        self.own()?.restart().await
    }

    async fn pause(&mut self) -> Result<()> {
        self.own()?.pause()
    }

    async fn resume(&mut self) -> Result<()> {
        self.own()?.resume()
    }

    async fn save(&mut self) -> Result<()> {
        self.saved = Some(self.own()?.save()?);
        Ok(())
    }

    async fn restore(&mut self) -> Result<()> {
        let saved = self.saved.take().context("nothing was saved")?;
        self.own()?.restore(&saved).await?;
        self.saved = Some(saved);
        Ok(())
    }

    /// Validators would do, and the stand-in does not enforce them. It does enforce unique indexes: one
    /// over what names an instance, and another document that has that name.
    async fn reject(&mut self, instance: &str) -> Result<()> {
        let (machine, instance) = instance.split_once('/').context("machine/name")?;
        let instances = self.database().await?.collection::<Document>("instances");
        // Tombstones have neither.
        let options = IndexOptions::builder().unique(true).sparse(true).build();
        let index = IndexModel::builder()
            .keys(doc! { "machine": 1, "instance": 1 })
            .options(options)
            .build();
        instances.create_index(index).await?;
        instances
            .delete_one(doc! { "machine": machine, "instance": instance })
            .await?;
        // Newer than all the sink may do to what is older.
        let in_the_way = doc! {
            "_id": IN_THE_WAY, "machine": machine, "instance": instance, "revision": i64::MAX,
        };
        instances.insert_one(in_the_way).await?;
        Ok(())
    }

    async fn accept(&mut self) -> Result<()> {
        let database = self.database().await?;
        let instances = database.collection::<Document>("instances");
        let gone = instances.delete_one(doc! { "_id": IN_THE_WAY }).await?;
        ensure!(gone.deleted_count == 1, "nothing was in the way");
        Ok(())
    }

    async fn lock_out(&mut self) -> Result<()> {
        bail!("the stand-in lets everyone in")
    }

    async fn let_in(&mut self) -> Result<()> {
        bail!("the stand-in lets everyone in")
    }

    async fn fill(&mut self) -> Result<()> {
        self.disk()?.fill()
    }

    async fn make_room(&mut self) -> Result<()> {
        self.disk()?.make_room()
    }

    /// A document does not say when it came: in which order those of one instance did cannot be seen.
    async fn history(&mut self) -> Result<Vec<Written>> {
        let order = doc! { "revision": 1, "position": 1 };
        let kept: Vec<Kept> = self.all("history", doc! {}, order).await?;
        let events = kept.into_iter().map(written);
        let events: Vec<Written> = events.collect::<Result<_>>()?;
        for pair in events.windows(2) {
            ensure!(
                pair[0].place < pair[1].place,
                "{pair:?} are there in one place"
            );
        }
        Ok(events)
    }

    async fn states(&mut self) -> Result<States> {
        let living = doc! { "machine": { "$exists": true } };
        let shown: Vec<Shown> = self.all("instances", living, doc! { "_id": 1 }).await?;
        let mut states = States::new();
        for it in shown {
            let named = format!("{}/{}", it.machine, it.instance);
            ensure!(it.id == named, "{named} is there as {}", it.id);
            states.insert(it.id, (it.state, it.instance_revision));
        }
        Ok(states)
    }
}

/// A server's address through a cable. The driver must not discover the server's own address, which
/// would bypass the cable.
fn through_cable(address: &str, through: SocketAddr) -> String {
    let rest = address.strip_prefix("mongodb://").unwrap_or(address);
    let (server, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let user = server.rsplit_once('@').map(|(user, _)| format!("{user}@"));
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    let path = if path.is_empty() { "/" } else { path };
    let mut options: Vec<&str> = options
        .split('&')
        .filter(|it| !it.is_empty() && !it.starts_with("directConnection="))
        .collect();
    options.push("directConnection=true");
    format!(
        "mongodb://{}{through}{path}?{}",
        user.unwrap_or_default(),
        options.join("&")
    )
}

fn written(kept: Kept) -> Result<Written> {
    let place = (kept.revision, kept.position);
    let id = format!("{}-{}", place.0, place.1);
    ensure!(kept.id == id, "{id} is there as {}", kept.id);
    let as_it_was = |(key, value): (String, String)| (plain(&key), value);
    Ok(Written {
        place,
        kind: kept.kind,
        machine: kept.machine,
        instance: kept.instance,
        from: kept.from,
        to: kept.to,
        instance_revision: kept.instance_revision,
        at_ms: u64::try_from(kept.at.timestamp_millis())?,
        metadata: kept.metadata.into_iter().map(as_it_was).collect(),
    })
}

/// A name of metadata, of which MongoDB cannot have every character.
fn plain(key: &str) -> String {
    key.replace("%2E", ".")
        .replace("%24", "$")
        .replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_through_a_cable_changes_only_its_server() -> Result<()> {
        let through: SocketAddr = "127.0.0.1:9".parse()?;
        for (address, expected) in [
            ("mongodb://h:1", "127.0.0.1:9/?directConnection=true"),
            ("mongodb://h/", "127.0.0.1:9/?directConnection=true"),
            (
                "mongodb://ann:p%40ss@h:1/db?authSource=x&directConnection=false",
                "ann:p%40ss@127.0.0.1:9/db?authSource=x&directConnection=true",
            ),
            ("mongodb://h?w=1", "127.0.0.1:9/?w=1&directConnection=true"),
        ] {
            let expected = format!("mongodb://{expected}");
            assert_eq!(through_cable(address, through), expected);
        }
        Ok(())
    }
}
