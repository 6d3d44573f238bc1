//! How rate and latency depend on clients, nodes, instances, payload, watchers and sinks, as charts.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lockstep_load::{Axis, Chart, Series};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::sinks::{Destination, Webhook};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::generator::{Speed, bench};

/// How rate and latency depend on clients, nodes, instances, payload, watchers and sinks
#[derive(Debug, Args)]
pub struct Curves {
    /// Which; all without it
    #[arg(value_enum)]
    curves: Vec<Curve>,
    /// The folder for the charts
    #[arg(long, value_name = "FOLDER", default_value = "docs/images")]
    out: PathBuf,
    /// Seconds for each point
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The most instances; 10,000,000 take about 6 GB in each node
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    instances_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Curve {
    /// 1 to 1,024 clients
    Clients,
    /// 1, 3 and 5 nodes
    Nodes,
    /// 10 to 10,000,000 instances
    Instances,
    /// Transitions with 0 to 4,000 bytes of metadata
    Payload,
    /// 0 to 1,000 watchers of all changes
    Watchers,
    /// 0 to 3 sinks
    Sinks,
}

/// For each operation, what was measured where on the curve.
type Points = Vec<(&'static str, Vec<(u64, Speed)>)>;

/// Where the curve is not about clients.
const CLIENTS: u64 = 64;
/// Where there may be ten instances.
const CLIENTS_FEW: u64 = 8;

impl Curves {
    pub async fn run(self) -> Result<()> {
        let curves = match self.curves.is_empty() {
            true => Curve::value_variants().to_vec(),
            false => self.curves.clone(),
        };
        fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let mut text = String::from("===== curves\n");
        for curve in curves {
            let name = curve.to_possible_value().context("a name")?;
            let name = name.get_name();
            let points = self.measure(curve).await?;
            text.push_str(&table(name, &points));
            for (what, chart) in [
                ("rate", rates(curve, &points)),
                ("latency", latencies(curve, &points)),
            ] {
                let path = self.out.join(format!("bench-{name}-{what}.svg"));
                fs::write(&path, chart.svg()).with_context(|| path.display().to_string())?;
            }
        }
        // Below the logs of all nodes.
        print!("{text}");
        Ok(())
    }

    async fn measure(&self, curve: Curve) -> Result<Points> {
        let mut points: Points = vec![("transition", vec![])];
        match curve {
            Curve::Clients => {
                points.push(("read", vec![]));
                let cluster = Cluster::start().await?;
                for clients in [1, 4, 16, 64, 256, 1024] {
                    self.add(&mut points, clients, &cluster, clients, &[])
                        .await?;
                }
            }
            Curve::Nodes => {
                points.push(("read", vec![]));
                for size in [1, 3, 5] {
                    let plan = Plan {
                        size,
                        ..Plan::default()
                    };
                    let cluster = Cluster::start_as(plan).await?;
                    self.add(&mut points, size as u64, &cluster, CLIENTS, &[])
                        .await?;
                }
            }
            Curve::Instances => {
                points.push(("read", vec![]));
                let mut count = 10;
                while count <= self.instances_max {
                    let plan = Plan::default().setting("instances_max", 20_000_000);
                    let cluster = Cluster::start_as(plan).await?;
                    let options = [format!("--instances={count}")];
                    self.add(&mut points, count, &cluster, CLIENTS_FEW, &options)
                        .await?;
                    count *= 10;
                }
            }
            Curve::Payload => {
                let cluster = Cluster::start().await?;
                for bytes in [16, 64, 256, 1024, 4000] {
                    let options = [format!("--payload={bytes}")];
                    self.add(&mut points, bytes, &cluster, CLIENTS, &options)
                        .await?;
                }
            }
            Curve::Watchers => {
                let cluster = Cluster::start().await?;
                for count in [1, 10, 100, 1000] {
                    let watchers = watch(&cluster, count).await?;
                    self.add(&mut points, count, &cluster, CLIENTS, &[]).await?;
                    drop(watchers);
                }
            }
            Curve::Sinks => {
                for count in 0..=3 {
                    let (cluster, _sinks) = with_sinks(count).await?;
                    self.add(&mut points, count, &cluster, CLIENTS, &[]).await?;
                }
            }
        }
        Ok(points)
    }

    /// Adds a point to the curve of each operation.
    async fn add(
        &self,
        points: &mut Points,
        x: u64,
        cluster: &Cluster,
        clients: u64,
        options: &[String],
    ) -> Result<()> {
        for (operation, points) in points {
            let mut all = vec![format!("--clients={clients}"), format!("--mix={operation}")];
            all.extend_from_slice(options);
            let report = bench(cluster, Duration::from_secs(self.seconds), &all).await?;
            let speed = Speed::of(&report)?;
            eprintln!("{x}: {operation}: {:.0}/s", speed.per_second);
            points.push((x, speed));
        }
        Ok(())
    }
}

/// Watchers of every change, spread over the nodes. They end when the set is dropped.
async fn watch(cluster: &Cluster, count: u64) -> Result<JoinSet<()>> {
    let nodes: Vec<_> = cluster.running().map(|node| node.http_address()).collect();
    let mut watchers = JoinSet::new();
    for address in nodes.into_iter().cycle().take(count as usize) {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "GET /v1/machines/triad/watch HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        // The head of the answer: it watches now.
        let mut buffer = vec![0; 64 * 1024];
        let read = stream.read(&mut buffer).await?;
        let head = String::from_utf8_lossy(&buffer[..read]);
        anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "a watch: {head}");
        watchers.spawn(async move { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} });
    }
    Ok(watchers)
}

/// A cluster with sinks, and the receivers that these write into.
async fn with_sinks(count: u64) -> Result<(Cluster, Vec<Webhook>)> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    let mut sinks = Vec::new();
    for number in 1..=count {
        let sink = Webhook::start().await?;
        for (key, value) in sink.settings(sink.address()) {
            let key = key.replace("_FAR_", &format!("_FAR{number}_"));
            for node in &mut cluster.nodes {
                node.set(&key, &value);
            }
        }
        sinks.push(sink);
    }
    cluster.start_all()?;
    cluster.wait_ready().await?;
    Ok((cluster, sinks))
}

impl Curve {
    /// What it is over, and whether in steps of equal factors.
    fn axis(self) -> (&'static str, bool) {
        match self {
            Self::Clients => ("clients", true),
            Self::Nodes => ("nodes", false),
            Self::Instances => ("instances", true),
            Self::Payload => ("bytes of metadata", true),
            Self::Watchers => ("watchers", true),
            Self::Sinks => ("sinks", false),
        }
    }
}

fn rates(curve: Curve, points: &Points) -> Chart {
    let series = points.iter();
    let series = series.map(|(operation, points)| one(operation, points, |it| it.per_second));
    chart("Operations per second", curve, "per second", series)
}

fn latencies(curve: Curve, points: &Points) -> Chart {
    let series = points.iter().flat_map(|(operation, points)| {
        [
            one(&format!("{operation}, p50"), points, |it| it.p50_ms),
            one(&format!("{operation}, p99"), points, |it| it.p99_ms),
        ]
    });
    chart("Latency", curve, "ms", series)
}

fn chart(
    what: &str,
    curve: Curve,
    unit: &'static str,
    series: impl Iterator<Item = Series>,
) -> Chart {
    let (label, is_logarithmic) = curve.axis();
    let axis = |label, is_logarithmic| Axis {
        label,
        is_logarithmic,
        shown: |value| value.to_string(),
    };
    Chart {
        title: format!("{what}, by {label}"),
        x: axis(label, is_logarithmic),
        // Rates start at 0.
        y: axis(unit, unit == "ms"),
        series: series.collect(),
    }
}

fn one(name: &str, points: &[(u64, Speed)], of: fn(&Speed) -> f64) -> Series {
    Series {
        name: name.to_owned(),
        points: points.iter().map(|(x, it)| (*x as f64, of(it))).collect(),
    }
}

/// The same as a table in Markdown.
fn table(name: &str, points: &Points) -> String {
    let mut text =
        format!("\n| {name} | operation | per second | p50 | p99 |\n|---:|---|---:|---:|---:|\n");
    for (operation, points) in points {
        for (x, it) in points {
            text.push_str(&format!(
                "| {x} | {operation} | {:.0} | {:.2} ms | {:.2} ms |\n",
                it.per_second, it.p50_ms, it.p99_ms
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_a_table_and_a_chart() {
        let point = |x, per_second| {
            let (p50_ms, p99_ms) = (1., 2.);
            let speed = Speed {
                per_second,
                p50_ms,
                p99_ms,
            };
            (x, speed)
        };
        let points = vec![("transition", vec![point(1, 900.), point(64, 12_000.)])];
        assert_eq!(
            table("clients", &points).lines().last(),
            Some("| 64 | transition | 12000 | 1.00 ms | 2.00 ms |")
        );
        for curve in Curve::value_variants() {
            let svg = rates(*curve, &points).svg();
            assert!(svg.contains(">10000<") && !svg.contains("NaN"), "{svg}");
            let svg = latencies(*curve, &points).svg();
            assert!(svg.contains(">transition, p99<"), "{svg}");
        }
    }
}
