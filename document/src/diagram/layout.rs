//! Boxes and lines.
//!
//! An arrow runs straight down through a rank, at the place reserved for it, and bends only in the gap
//! between two ranks, where nothing else is; its label is to its right, in one of the ranks. So no arrow
//! runs through a state or a label, and no label touches anything.

use super::ranks::{Link, Ranks, Spot};
use super::sizes::{Block, DOT, LABEL_GAP, LOOP, LOOP_GAP, Loops, PORT_GAP, Sizes};
use super::{Arrow, Diagram};

/// The length of an arrow's head.
pub(super) const HEAD: f64 = 8.;
/// The height in which arrows bend between two ranks.
const BEND: f64 = 16.;
/// How far arrows run straight above and below a rank: heads need it at states.
const STRAIGHT: (f64, f64) = (11., 3.);
/// Half the height of a self-loop.
const LOOP_HALF: f64 = 6.;
/// How much more height an arrow needs to bend, for each pixel that it moves sideways, and at most.
const SLOPE: f64 = 0.12;
const BEND_MORE_MAX: f64 = 60.;
const MARGIN: f64 = 16.;

/// A position, in pixels from the top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A piece of an arrow's line, from where the last one ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stroke {
    Line(Point),
    /// A Bézier curve: two control points and its end.
    Curve(Point, Point, Point),
}

/// An arrow. Its last stroke is a line, which its head covers.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Route {
    pub(super) start: Point,
    pub(super) strokes: Vec<Stroke>,
    pub(super) label: Block,
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) width: f64,
    pub(super) height: f64,
    /// The states, in the definition's order.
    pub(super) states: Vec<Block>,
    /// The center of the dot that marks the initial state.
    pub(super) dot: Point,
    /// From the dot to the initial state.
    pub(super) entry: Route,
    /// The arrows, in the diagram's order.
    pub(super) routes: Vec<Route>,
}

impl Layout {
    pub(super) fn of(diagram: &Diagram<'_>) -> Self {
        let sizes = Sizes::of(diagram);
        let mut ranks = Ranks::of(diagram, &sizes);
        let width = move_to_margin(&mut ranks, &sizes);
        let ports = ports(&ranks, &sizes);
        let bands = bands(&ranks, &sizes, &ports);

        let node = |(spot, size): (&Spot, &Block)| size.centered(spot.x, bands[spot.rank].center());
        let mut nodes: Vec<_> = ranks.nodes.iter().zip(&sizes.nodes).map(node).collect();
        let mut entry = Route::default();
        let mut routes = loops(diagram, &sizes, &nodes);
        for (link, port) in ranks.links.iter().zip(ports) {
            let (start, strokes) = line(link, port, &nodes, &ranks, &bands);
            let label = match (link.arrow, link.stops.get(link.label_stop)) {
                (Some(arrow), Some(at)) => {
                    beside(&sizes.labels[arrow], at.x, bands[at.rank].center())
                }
                _ => Block::default(),
            };
            let route = Route {
                start,
                strokes,
                label,
            };
            match link.arrow {
                Some(arrow) => routes[arrow] = route,
                None => entry = route,
            }
        }
        let dot = nodes.pop().unwrap_or_default();
        Self {
            width,
            height: bands.last().map_or(0., |band| band.bottom) + MARGIN,
            states: nodes,
            dot: Point {
                x: dot.left + DOT,
                y: dot.top + DOT,
            },
            entry,
            routes,
        }
    }
}

/// A label to the right of its arrow.
fn beside(label: &Block, x: f64, y: f64) -> Block {
    label.centered(x + LABEL_GAP + label.width / 2., y)
}

/// Moves everything to the margin, and returns the width of the whole.
fn move_to_margin(ranks: &mut Ranks, sizes: &Sizes) -> f64 {
    let nodes = ranks.nodes.iter().zip(&sizes.nodes).enumerate();
    let nodes = nodes.map(|(i, (spot, size))| {
        let loops = sizes.loops.get(i).map_or(0., |it| it.width);
        (spot.x - size.width / 2., spot.x + size.width / 2. + loops)
    });
    let stops = ranks.links.iter().flat_map(|link| {
        let stops = link.stops.iter().enumerate();
        stops.map(|(j, stop)| {
            let label = link.label_at(j);
            let space = label.map_or(0., |arrow| sizes.labels[arrow].space());
            (stop.x, stop.x + space)
        })
    });
    let (left, right) = nodes.chain(stops).fold((f64::INFINITY, 0_f64), |all, it| {
        (all.0.min(it.0), all.1.max(it.1))
    });
    let stops = ranks.links.iter_mut().flat_map(|link| &mut link.stops);
    for spot in ranks.nodes.iter_mut().chain(stops) {
        spot.x += MARGIN - left;
    }
    right - left + 2. * MARGIN
}

/// Where each link leaves the upper node and arrives at the lower one: as straight as there is room.
fn ports(ranks: &Ranks, sizes: &Sizes) -> Vec<(f64, f64)> {
    let mut ports = vec![(0., 0.); ranks.links.len()];
    for (i, (spot, size)) in ranks.nodes.iter().zip(&sizes.nodes).enumerate() {
        let half = (size.width / 2. - PORT_GAP).max(0.);
        let range = (spot.x - half, spot.x + half);
        let links = || ranks.links.iter().enumerate();
        let below = links().filter(|(_, link)| link.upper == i);
        let below = below.map(|(at, link)| (link.stops.first().map_or(spot.x, |it| it.x), at));
        for (x, at) in spread(below.collect(), range) {
            ports[at].0 = x;
        }
        let above = links().filter(|(_, link)| link.lower == i);
        let above = above.map(|(at, link)| (link.stops.last().map_or(spot.x, |it| it.x), at));
        for (x, at) in spread(above.collect(), range) {
            ports[at].1 = x;
        }
    }
    ports
}

/// Moves positions into a range, and apart.
fn spread(mut found: Vec<(f64, usize)>, (left, right): (f64, f64)) -> Vec<(f64, usize)> {
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let gap = PORT_GAP.min((right - left) / found.len().saturating_sub(1).max(1) as f64);
    let mut least = left;
    for (x, _) in &mut found {
        *x = x.max(least);
        least = *x + gap;
    }
    let mut most = right;
    for (x, _) in found.iter_mut().rev() {
        *x = x.min(most);
        most = *x - gap;
    }
    found
}

/// The height that a rank takes.
#[derive(Debug, Clone, Copy, Default)]
struct Band {
    top: f64,
    bottom: f64,
    /// How far arrows run straight above and below it.
    straight: f64,
}

impl Band {
    fn start(&self) -> f64 {
        self.top - self.straight
    }

    fn end(&self) -> f64 {
        self.bottom + self.straight
    }

    fn center(&self) -> f64 {
        (self.top + self.bottom) / 2.
    }
}

/// The bands of all ranks, from the top. Where arrows move far sideways, there is more room to bend.
fn bands(ranks: &Ranks, sizes: &Sizes, ports: &[(f64, f64)]) -> Vec<Band> {
    let count = ranks.count();
    let mut heights = vec![0_f64; count];
    let mut straights = vec![STRAIGHT.1; count];
    for (i, (spot, size)) in ranks.nodes.iter().zip(&sizes.nodes).enumerate() {
        let loops = sizes.loops.get(i).map_or(0., Loops::height);
        heights[spot.rank] = heights[spot.rank].max(size.height).max(loops);
        straights[spot.rank] = STRAIGHT.0;
    }
    let mut slants = vec![0_f64; count];
    for (link, (leaves, arrives)) in ranks.links.iter().zip(ports) {
        let mut at = (ranks.nodes[link.upper].rank, *leaves);
        for (j, stop) in link.stops.iter().enumerate() {
            if let Some(arrow) = link.label_at(j) {
                heights[stop.rank] = heights[stop.rank].max(sizes.labels[arrow].height);
            }
            slants[at.0] = slants[at.0].max((stop.x - at.1).abs());
            at = (stop.rank, stop.x);
        }
        slants[at.0] = slants[at.0].max((arrives - at.1).abs());
    }
    let mut bands: Vec<Band> = vec![];
    for rank in 0..count {
        let straight = straights[rank];
        let top = bands.last().map_or(MARGIN, |above| {
            // Nothing but lines pass an empty rank.
            let is_empty = heights[rank - 1].min(heights[rank]) == 0.;
            let bend = if is_empty { BEND / 2. } else { BEND };
            let bend = bend + (slants[rank - 1] * SLOPE).min(BEND_MORE_MAX);
            above.bottom + above.straight + bend + straight
        });
        bands.push(Band {
            top,
            bottom: top + heights[rank],
            straight,
        });
    }
    bands
}

/// The line of an arrow: straight through ranks, bent between them.
fn line(
    link: &Link,
    (leaves, arrives): (f64, f64),
    nodes: &[Block],
    ranks: &Ranks,
    bands: &[Band],
) -> (Point, Vec<Stroke>) {
    let (above, below) = (ranks.nodes[link.upper].rank, ranks.nodes[link.lower].rank);
    let straight = |stop: &Spot| (stop.x, bands[stop.rank].start(), bands[stop.rank].end());
    let mut runs = vec![(leaves, nodes[link.upper].bottom(), bands[above].end())];
    runs.extend(link.stops.iter().map(straight));
    runs.push((arrives, bands[below].start(), nodes[link.lower].top));
    if link.is_upward {
        runs.reverse();
        for (_, start, end) in &mut runs {
            std::mem::swap(start, end);
        }
    }
    let mut at = Point {
        x: runs[0].0,
        y: runs[0].1,
    };
    let (start, mut strokes) = (at, vec![]);
    for (x, from, to) in runs {
        if x != at.x {
            let half = (at.y + from) / 2.;
            strokes.push(Stroke::Curve(
                Point { y: half, ..at },
                Point { x, y: half },
                Point { x, y: from },
            ));
        } else {
            strokes.pop();
        }
        at = Point { x, y: to };
        strokes.push(Stroke::Line(at));
    }
    (start, strokes)
}

/// The self-loops, each at the place of its arrow.
fn loops(diagram: &Diagram<'_>, sizes: &Sizes, nodes: &[Block]) -> Vec<Route> {
    let mut routes = vec![Route::default(); diagram.arrows.len()];
    for (state, node) in nodes.iter().enumerate() {
        let own = |(_, it): &(usize, &Arrow)| it.from == state && it.to == state;
        let own: Vec<_> = diagram.arrows.iter().enumerate().filter(own).collect();
        for (i, (arrow, _)) in own.iter().enumerate() {
            // Of two, one is above the middle and one below.
            let below = i as f64 - (own.len() - 1) as f64 / 2.;
            let middle = node.top + node.height / 2.;
            let label_middle = middle + below * sizes.loops[state].tallest;
            let y = middle + below * LOOP_GAP;
            let upper = |reach| Point {
                x: node.right() + reach,
                y: y - LOOP_HALF,
            };
            let lower = |reach| Point {
                x: node.right() + reach,
                y: y + LOOP_HALF,
            };
            routes[*arrow] = Route {
                start: upper(0.),
                strokes: vec![
                    Stroke::Line(upper(HEAD)),
                    Stroke::Curve(upper(LOOP), lower(LOOP), lower(HEAD)),
                    Stroke::Line(lower(0.)),
                ],
                label: beside(
                    &sizes.labels[*arrow],
                    upper(LOOP).x - LABEL_GAP,
                    label_middle,
                ),
            };
        }
    }
    routes
}
