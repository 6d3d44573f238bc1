//! How much room text, states and labels need.
//!
//! All text is set in a monospaced font: its width is known without the font.

use super::{Arrow, Diagram};

/// The radius of the dot that marks the initial state.
pub(super) const DOT: f64 = 6.;
/// The height of a line of text.
pub(super) const LINE: f64 = 17.;
/// The widths of a character in names, at 13 pixels, and in labels, at 12.
const CHARACTERS: (f64, f64) = (8., 7.4);
/// The most characters in a line: longer names are wrapped.
const CHARACTERS_MAX: usize = 28;
/// The most names in an arrow's label.
pub(super) const NAMES_MAX: usize = 8;
/// From an arrow to its label.
pub(super) const LABEL_GAP: f64 = 6.;
/// From a state's name to its border.
const PADDING: (f64, f64) = (16., 10.);
/// From one arrow to the next at a state's border, and from the first to its corner.
pub(super) const PORT_GAP: f64 = 14.;
/// The same where a state has so many that they make it wider.
const PORT_GAP_MIN: f64 = 9.;
/// How far a self-loop reaches out of its state.
pub(super) const LOOP: f64 = 24.;
/// From the center of one self-loop to that of the next.
pub(super) const LOOP_GAP: f64 = 18.;

/// Lines of text and the box they are in.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Block {
    pub(super) lines: Vec<String>,
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The room to the right of a state for its self-loops: at most one of events, and one of a timeout.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loops {
    count: usize,
    pub(super) width: f64,
    /// The height of the taller one.
    pub(super) tallest: f64,
}

impl Loops {
    fn add(&mut self, label: &Block) {
        self.count += 1;
        self.width = self.width.max(LOOP + label.width);
        self.tallest = self.tallest.max(label.height).max(LOOP_GAP);
    }

    pub(super) fn height(&self) -> f64 {
        self.count as f64 * self.tallest
    }
}

/// How much room things need.
pub(super) struct Sizes {
    /// The states' boxes, and last that of the dot.
    pub(super) nodes: Vec<Block>,
    /// The self-loops of each state.
    pub(super) loops: Vec<Loops>,
    /// The arrows' labels, without lines if they have none.
    pub(super) labels: Vec<Block>,
}

impl Block {
    fn of(lines: Vec<String>, character: f64) -> Self {
        let characters = lines.iter().map(|line| line.chars().count()).max();
        Self {
            width: characters.unwrap_or(0) as f64 * character,
            height: lines.len() as f64 * LINE,
            lines,
            ..Self::default()
        }
    }

    pub(super) fn centered(&self, x: f64, y: f64) -> Self {
        Self {
            left: x - self.width / 2.,
            top: y - self.height / 2.,
            ..self.clone()
        }
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// The space for an arrow's label, from the arrow on.
    pub(super) fn space(&self) -> f64 {
        match self.lines.is_empty() {
            true => 0.,
            false => LABEL_GAP + self.width,
        }
    }
}

impl Sizes {
    pub(super) fn of(diagram: &Diagram<'_>) -> Self {
        let labels: Vec<_> = diagram.arrows.iter().map(label).collect();
        let mut loops = vec![Loops::default(); diagram.states().len()];
        let mut degrees = vec![(0, 0); diagram.states().len()];
        for (arrow, label) in diagram.arrows.iter().zip(&labels) {
            degrees[arrow.from].0 += 1;
            degrees[arrow.to].1 += 1;
            if arrow.from == arrow.to {
                loops[arrow.from].add(label);
            }
        }
        let state = |(i, (leaving, arriving)): (usize, &(usize, usize))| {
            let name = Block::of(wrap(diagram.name(i)), CHARACTERS.0);
            let ports = *leaving.max(arriving) as f64 * PORT_GAP_MIN + 2. * PORT_GAP;
            Block {
                width: (name.width + 2. * PADDING.0).max(ports),
                height: name.height + 2. * PADDING.1,
                ..name
            }
        };
        let mut nodes: Vec<_> = degrees.iter().enumerate().map(state).collect();
        nodes.push(Block {
            width: 2. * DOT,
            height: 2. * DOT,
            ..Block::default()
        });
        Self {
            nodes,
            loops,
            labels,
        }
    }
}

/// The lines of an arrow's label.
fn label(arrow: &Arrow) -> Block {
    let names = arrow.labels.len();
    let shown = if names > NAMES_MAX {
        NAMES_MAX - 1
    } else {
        names
    };
    let mut lines: Vec<_> = arrow.labels[..shown]
        .iter()
        .flat_map(|it| wrap(it))
        .collect();
    if names > shown {
        lines.push(format!("and {} more", names - shown));
    }
    Block::of(lines, CHARACTERS.1)
}

/// A name in lines, broken after a separator where it has one.
fn wrap(name: &str) -> Vec<String> {
    let mut left: Vec<char> = name.chars().collect();
    let mut lines = vec![];
    while left.len() > CHARACTERS_MAX {
        let separator = left[..CHARACTERS_MAX]
            .iter()
            .rposition(|c| matches!(c, '-' | '_' | '.' | ' '));
        // Not after the first few characters: the lines would become many.
        let end = separator
            .map(|at| at + 1)
            .filter(|end| *end > CHARACTERS_MAX / 2);
        let rest = left.split_off(end.unwrap_or(CHARACTERS_MAX));
        lines.push(left.into_iter().collect());
        left = rest;
    }
    lines.push(left.into_iter().collect());
    lines
}
