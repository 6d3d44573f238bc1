//! Three nodes of Lockstep, loaded by `lockstep bench`.

use std::time::Duration;

use anyhow::{Context, Result};
use lockstep_load::Operation;
use lockstep_tests::cluster::Cluster;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Load, System, until_acknowledged};
use crate::generator::bench;

pub struct Nodes {
    cluster: Cluster,
    /// The value of `--via`.
    via: &'static str,
    kills: usize,
}

impl Nodes {
    pub async fn start(via: &'static str) -> Result<Self> {
        let cluster = Cluster::start().await?;
        Ok(Self {
            cluster,
            via,
            kills: 0,
        })
    }
}

impl System for Nodes {
    fn name(&self) -> String {
        format!("Lockstep, {}", self.via)
    }

    fn processes(&self) -> Vec<u32> {
        self.cluster
            .running()
            .filter_map(|node| node.process_id())
            .collect()
    }

    fn takes(&self, load: Load) -> bool {
        load != Load::STREAMED || self.via == "grpc"
    }

    async fn load(&self, load: Load, measured: Duration) -> Result<Value> {
        let via = match load {
            Load::STREAMED => "stream",
            _ => self.via,
        };
        let mut options = vec![
            "--keep".to_owned(),
            "--warm-up=0s".to_owned(),
            format!("--via={via}"),
            format!("--clients={}", load.clients),
            format!("--mix={}", load.operation),
        ];
        if load.operation == Operation::Transition {
            options.push(format!("--batch={}", load.batch));
        }
        bench(&self.cluster, measured, &options).await
    }

    async fn fail_over(&mut self) -> Result<Option<Duration>> {
        let leader = self.cluster.leader().await?;
        let mut apis = Vec::new();
        for (position, node) in self.cluster.nodes.iter().enumerate() {
            if position != leader {
                apis.push(node.api().clone());
            }
        }
        self.kills += 1;
        let kill = self.kills;
        let write = |number: usize| {
            let api = apis[number % apis.len()].clone();
            async move {
                let body = json!({ "id": format!("failover-{kill}-{number}") });
                let answer = api.post("/v1/machines/triad/instances", &body).await?;
                answer.expect(StatusCode::CREATED).map(drop)
            }
        };
        // Both are connected.
        for number in [usize::MAX, usize::MAX - 1] {
            write(number).await.context("a write before the kill")?;
        }
        self.cluster.nodes[leader].kill9()?;
        let gap = until_acknowledged(Instant::now(), write).await?;
        self.cluster.nodes[leader].restart().await?;
        self.cluster.agree().await?;
        Ok(Some(gap))
    }
}
