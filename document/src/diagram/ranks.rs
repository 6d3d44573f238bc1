//! Finds places for states and arrows: in which rank, and where in it.
//!
//! The crate `dagre` assigns the ranks, orders each so that few arrows cross, and spaces it out. It is given
//! the width of every box and label, and arrows that all point down.

use std::collections::VecDeque;

use dagre::graph::{Graph, GraphOptions};
use dagre::layout::types::LabelPos;
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, Ranker};

use super::Diagram;
use super::sizes::Sizes;

/// From one box to the next within a rank.
const BOX_GAP: f64 = 24.;
/// From one arrow to the next within a rank.
const LINE_GAP: f64 = 14.;

/// A place: a rank, counted from the top, and the center in it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spot {
    pub(super) rank: usize,
    pub(super) x: f64,
}

/// An arrow between two nodes, from the upper to the lower one.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Which arrow it is; none if it leads from the dot to the initial state.
    pub(super) arrow: Option<usize>,
    pub(super) upper: usize,
    pub(super) lower: usize,
    /// Whether the arrow points up.
    pub(super) is_upward: bool,
    /// Where it passes through the ranks between the two.
    pub(super) stops: Vec<Spot>,
    /// Which of the stops has space for the label.
    pub(super) label_stop: usize,
}

impl Link {
    /// The arrow whose label is at this stop.
    pub(super) fn label_at(&self, stop: usize) -> Option<usize> {
        self.arrow.filter(|_| stop == self.label_stop)
    }
}

/// The places of a diagram.
#[derive(Debug, Clone)]
pub(super) struct Ranks {
    /// The states, and last the dot that marks the initial one.
    pub(super) nodes: Vec<Spot>,
    /// First the arrow to the initial state, then the others except self-loops.
    pub(super) links: Vec<Link>,
}

impl Ranks {
    pub(super) fn of(diagram: &Diagram<'_>, sizes: &Sizes) -> Self {
        let mut links = links(diagram);
        let mut graph = graph(sizes, &links);
        let options = LayoutOptions {
            nodesep: BOX_GAP,
            edgesep: LINE_GAP,
            // The default, network simplex, has no bound on its steps.
            ranker: Ranker::TightTree,
            ..LayoutOptions::default()
        };
        dagre::layout(&mut graph, Some(options));

        let place = |i: usize| {
            let node = graph.node(&i.to_string());
            node.and_then(|it| spot(it.rank?, it.x?))
                .unwrap_or_default()
        };
        let nodes: Vec<_> = (0..=diagram.states().len()).map(place).collect();
        for (i, link) in links.iter_mut().enumerate() {
            let between = nodes[link.upper].rank + 1..nodes[link.lower].rank;
            let [upper, lower, name] = [link.upper, link.lower, i].map(|it| it.to_string());
            let Some(edge) = graph.edge(&upper, &lower, Some(&name)) else {
                continue;
            };
            let label_rank = edge.label_rank.unwrap_or_default() as usize;
            link.label_stop = label_rank.saturating_sub(between.start);
            // The first point is on the upper node's border; each of the next is in the next rank.
            let points = edge.points.iter().skip(1).zip(between);
            link.stops = points.map(|(at, rank)| Spot { rank, x: at.x }).collect();
        }
        Self { nodes, links }
    }

    /// How many ranks there are.
    pub(super) fn count(&self) -> usize {
        self.nodes
            .iter()
            .map(|spot| spot.rank + 1)
            .max()
            .unwrap_or(0)
    }
}

/// A place, if it is one.
fn spot(rank: i32, x: f64) -> Option<Spot> {
    let rank = rank.try_into().ok()?;
    Some(Spot { rank, x })
}

fn graph(sizes: &Sizes, links: &[Link]) -> Graph<NodeLabel, EdgeLabel> {
    let mut graph = Graph::with_options(GraphOptions {
        directed: true,
        multigraph: true,
        compound: false,
    });
    let node = |width| NodeLabel {
        width,
        height: 1.,
        ..NodeLabel::default()
    };
    let edge = |width| EdgeLabel {
        width,
        height: 1.,
        labelpos: LabelPos::Center,
        ..EdgeLabel::default()
    };
    for (i, size) in sizes.nodes.iter().enumerate() {
        graph.set_node(i.to_string(), Some(node(size.width)));
    }
    for (i, loops) in sizes
        .loops
        .iter()
        .enumerate()
        .filter(|(_, it)| it.width > 0.)
    {
        // Reserves room on the right.
        graph.set_edge(i.to_string(), i.to_string(), Some(edge(loops.width)), None);
    }
    for (i, link) in links.iter().enumerate() {
        // The label is on the right of the arrow; as much on the left keeps the arrow straight.
        let width = link
            .arrow
            .map_or(0., |arrow| 2. * sizes.labels[arrow].space());
        let [upper, lower, name] = [link.upper, link.lower, i].map(|it| it.to_string());
        graph.set_edge(upper, lower, Some(edge(width)), Some(&name));
    }
    graph
}

/// The arrows, all pointing down: one that leads back towards the initial state on a cycle is turned round.
fn links(diagram: &Diagram<'_>) -> Vec<Link> {
    let count = diagram.states().len();
    let steps: Vec<_> = (0..count).map(|from| distances(diagram, from)).collect();
    // The states nearer to the initial one come first, then the author's order counts.
    let depth = |state: usize| (steps[diagram.initial][state].unwrap_or(count), state);
    let link = |arrow, from, to, is_upward| Link {
        arrow,
        upper: if is_upward { to } else { from },
        lower: if is_upward { from } else { to },
        is_upward,
        stops: vec![],
        label_stop: 0,
    };
    let mut links = vec![link(None, count, diagram.initial, false)];
    for (i, arrow) in diagram.arrows.iter().enumerate() {
        let (from, to) = (arrow.from, arrow.to);
        if from != to {
            let is_upward = steps[to][from].is_some() && depth(to) < depth(from);
            links.push(link(Some(i), from, to, is_upward));
        }
    }
    links
}

/// How many arrows away each state is.
fn distances(diagram: &Diagram<'_>, from: usize) -> Vec<Option<usize>> {
    let mut found = vec![None; diagram.states().len()];
    found[from] = Some(0);
    let mut next = VecDeque::from([(from, 0)]);
    while let Some((state, steps)) = next.pop_front() {
        for arrow in diagram.arrows.iter().filter(|it| it.from == state) {
            if found[arrow.to].is_none() {
                found[arrow.to] = Some(steps + 1);
                next.push_back((arrow.to, steps + 1));
            }
        }
    }
    found
}
