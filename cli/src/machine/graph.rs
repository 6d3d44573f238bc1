//! `lockstep machine graph`.

use clap::{Args, ValueEnum};
use lockstep_client::{DrawCall, MachineName, PictureFormat, Version};
use serde_json::json;

use crate::args::{self, Fresh, Maybe};
use crate::{Context, Failure, shape};

/// Draw a machine as Mermaid, Graphviz DOT or SVG
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep machine graph order                              for a Markdown file
  lockstep machine graph order --format dot | dot -Tpng > order.png
  lockstep machine graph order --format svg --instance 42 > order-42.svg")]
pub(crate) struct Graph {
    /// The machine
    #[arg(value_name = "NAME")]
    machine: MachineName,

    /// The format
    #[arg(long, value_enum, default_value_t = Drawing::Mermaid)]
    format: Drawing,

    /// The version to draw [default: the newest]
    #[arg(long, value_name = "N", value_parser = args::version, conflicts_with = "instance")]
    version: Option<Version>,

    /// Draw the version that this instance is pinned to, and highlight its state and the transitions in its history
    #[arg(long, value_name = "ID")]
    instance: Option<String>,

    #[command(flatten)]
    fresh: Fresh,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Drawing {
    /// Mermaid, which many Markdown viewers render
    Mermaid,
    /// DOT, for Graphviz
    Dot,
    /// SVG, for browsers
    Svg,
}

impl Graph {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let (name, format) = match self.format {
            Drawing::Mermaid => ("mermaid", PictureFormat::Mermaid),
            Drawing::Dot => ("dot", PictureFormat::Dot),
            Drawing::Svg => ("svg", PictureFormat::Svg),
        };
        let call = match &self.instance {
            None => DrawCall::machine(&self.machine),
            Some(text) => {
                let instance = args::within(&self.machine, text)
                    .map_err(|why| Failure::usage(format!("--instance: {why}")))?;
                DrawCall::instance(&instance)
            }
        };
        let call = call
            .maybe(self.version, DrawCall::version)
            .format(format)
            .freshness(self.fresh);
        let read = context.target.client()?.draw(call).await?;
        let picture = &read.found;
        let json = || {
            let body = json!({
                "machine": self.machine,
                "version": picture.version,
                "format": name,
                "picture": picture.text,
            });
            shape::read(body, &read)
        };
        Ok(context.show(json, || {
            format!("{}\n", picture.text.trim_end_matches('\n'))
        }))
    }
}
