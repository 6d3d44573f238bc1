//! A round trip through a collection of its own.

use std::time::{Duration, Instant};

use mongodb::Collection;
use mongodb::bson::{Document, doc};

use super::super::{CheckStep, SinkError};
use super::fault;
use super::link::Link;
use super::options::Settings;

/// Steps taken so far.
#[derive(Default)]
struct Steps(Vec<CheckStep>);

impl Steps {
    /// Takes a step, and notes it; whether to go on.
    async fn take(
        &mut self,
        step: &str,
        doing: impl Future<Output = Result<String, SinkError>>,
    ) -> bool {
        let begun = Instant::now();
        let result = doing.await.map_err(|error| error.to_string());
        let went = result.is_ok();
        self.note(step, begun.elapsed(), result);
        went
    }

    fn note(&mut self, step: &str, took: Duration, result: Result<String, String>) {
        let step = step.to_owned();
        self.0.push(CheckStep { step, took, result });
    }
}

/// Goes through the steps as far as they go. What was made is dropped in any case.
pub(super) async fn round_trip(settings: &Settings) -> Vec<CheckStep> {
    let mut steps = Steps::default();
    let begun = Instant::now();
    let connected = connect(settings).await;
    let took = begun.elapsed();
    let link = match connected {
        Err(error) => {
            steps.note("connect", took, Err(error.to_string()));
            return steps.0;
        }
        Ok(link) => link,
    };
    steps.note(
        "connect",
        took,
        Ok(format!("database {}", settings.database)),
    );
    let name = format!("lockstep_check_{:016x}", rand::random::<u64>());
    let scratch = link.collection::<Document>(&name);
    let went = steps.take("insert 3", insert(&link, &scratch)).await
        && steps.take("find one", find(&link, &scratch)).await;
    let dropping = drop_it(&link, &scratch);
    if went {
        steps.take("drop", dropping).await;
    } else {
        // What went wrong is said already; that this may go wrong too says nothing more.
        let _ = dropping.await;
    }
    steps.0
}

async fn connect(settings: &Settings) -> Result<Link, SinkError> {
    let link = Link::open(settings).await?;
    let pong = link.database.run_command(doc! { "ping": 1 });
    link.exchange("connecting", pong).await?;
    Ok(link)
}

async fn insert(link: &Link, scratch: &Collection<Document>) -> Result<String, SinkError> {
    let documents = [1, 2, 3].map(|n| doc! { "_id": n, "n": n });
    let inserted = link
        .exchange("inserting", scratch.insert_many(documents))
        .await?;
    match inserted.inserted_ids.len() {
        3 => Ok(format!("into {}", scratch.name())),
        some => Err(fault::unavailable(format!("{some} of 3 were inserted"))),
    }
}

async fn find(link: &Link, scratch: &Collection<Document>) -> Result<String, SinkError> {
    let found = scratch.find_one(doc! { "n": 2 });
    match link.exchange("finding", found).await? {
        Some(document) => Ok(document.to_string()),
        None => Err(fault::unavailable("what was inserted is not found")),
    }
}

async fn drop_it(link: &Link, scratch: &Collection<Document>) -> Result<String, SinkError> {
    link.exchange("dropping", scratch.drop()).await?;
    Ok(format!("{} is gone", scratch.name()))
}
