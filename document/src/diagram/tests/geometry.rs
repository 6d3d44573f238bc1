//! What is wrong with a layout: what overlaps, sticks out, or ends in the wrong place.

use crate::diagram::layout::{Layout, Point, Route, Stroke};
use crate::diagram::sizes::Block;
use crate::diagram::{Arrow, Diagram};

/// How near to a border still counts as outside of it.
const BORDER: f64 = 0.5;

/// Every fault of a layout, in words.
pub(super) fn faults(diagram: &Diagram<'_>, layout: &Layout) -> Vec<String> {
    let mut faults = vec![];
    let blocks = blocks(diagram, layout);
    let page = Block {
        width: layout.width,
        height: layout.height,
        ..Block::default()
    };
    for (i, (name, block)) in blocks.iter().enumerate() {
        if !is_within(block, &page) {
            faults.push(format!("{name} sticks out"));
        }
        for (other, at) in &blocks[..i] {
            if is_overlapping(block, at) {
                faults.push(format!("{name} overlaps {other}"));
            }
        }
    }
    for (i, arrow) in diagram.arrows.iter().enumerate() {
        let route = &layout.routes[i];
        let name = format!("the arrow {}", named(diagram, arrow));
        faults.extend(crossings(&name, route, &blocks));
        if !is_at_border(route.start, &layout.states[arrow.from]) {
            faults.push(format!("{name} does not start at its state"));
        }
        if !is_at_border(end(route), &layout.states[arrow.to]) {
            faults.push(format!("{name} does not end at its state"));
        }
    }
    faults.extend(crossings("the first arrow", &layout.entry, &blocks));
    if !is_at_border(end(&layout.entry), &layout.states[diagram.initial]) {
        faults.push("the first arrow does not end at the initial state".to_owned());
    }
    faults
}

/// All that takes room: states, labels and the dot.
fn blocks(diagram: &Diagram<'_>, layout: &Layout) -> Vec<(String, Block)> {
    let states = layout.states.iter().enumerate();
    let states = states.map(|(i, block)| (format!("the state {}", diagram.name(i)), block.clone()));
    let labels = diagram.arrows.iter().zip(&layout.routes);
    let labels = labels.filter(|(_, route)| !route.label.lines.is_empty());
    let labels = labels.map(|(arrow, route)| {
        (
            format!("the label {}", named(diagram, arrow)),
            route.label.clone(),
        )
    });
    let dot = Block {
        left: layout.dot.x - 6.,
        top: layout.dot.y - 6.,
        width: 12.,
        height: 12.,
        ..Block::default()
    };
    states
        .chain(labels)
        .chain([("the dot".to_owned(), dot)])
        .collect()
}

fn named(diagram: &Diagram<'_>, arrow: &Arrow) -> String {
    format!(
        "from {} to {} {:?}",
        diagram.name(arrow.from),
        diagram.name(arrow.to),
        arrow.labels
    )
}

/// What an arrow runs through, its line looked at every few pixels.
fn crossings(name: &str, route: &Route, blocks: &[(String, Block)]) -> Vec<String> {
    let points = points(route);
    let crossed = blocks
        .iter()
        .filter(|(_, block)| points.iter().any(|at| is_inside(*at, block)));
    crossed
        .map(|(other, _)| format!("{name} runs through {other}"))
        .collect()
}

fn points(route: &Route) -> Vec<Point> {
    let mut points = vec![];
    let mut at = route.start;
    for stroke in &route.strokes {
        let (a, b, end) = match *stroke {
            Stroke::Line(end) => (at, end, end),
            Stroke::Curve(a, b, end) => (a, b, end),
        };
        let count = ((end.x - at.x).abs() + (end.y - at.y).abs()).ceil().max(1.);
        for i in 0..=count as u32 {
            let t = f64::from(i) / count;
            let mix = |from: f64, a: f64, b: f64, to: f64| {
                let s = 1. - t;
                s * s * s * from + 3. * s * s * t * a + 3. * s * t * t * b + t * t * t * to
            };
            points.push(Point {
                x: mix(at.x, a.x, b.x, end.x),
                y: mix(at.y, a.y, b.y, end.y),
            });
        }
        at = end;
    }
    points
}

fn end(route: &Route) -> Point {
    match route.strokes.last() {
        Some(Stroke::Line(end) | Stroke::Curve(_, _, end)) => *end,
        None => route.start,
    }
}

fn is_inside(at: Point, block: &Block) -> bool {
    at.x > block.left + BORDER
        && at.x < block.right() - BORDER
        && at.y > block.top + BORDER
        && at.y < block.bottom() - BORDER
}

fn is_at_border(at: Point, block: &Block) -> bool {
    let grown = Block {
        left: block.left - 2. * BORDER,
        top: block.top - 2. * BORDER,
        width: block.width + 4. * BORDER,
        height: block.height + 4. * BORDER,
        ..Block::default()
    };
    is_inside(at, &grown) && !is_inside(at, block)
}

fn is_overlapping(a: &Block, b: &Block) -> bool {
    a.left < b.right() - BORDER
        && b.left < a.right() - BORDER
        && a.top < b.bottom() - BORDER
        && b.top < a.bottom() - BORDER
}

fn is_within(block: &Block, page: &Block) -> bool {
    block.left >= 0.
        && block.top >= 0.
        && block.right() <= page.width
        && block.bottom() <= page.height
}
