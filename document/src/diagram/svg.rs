//! The SVG document.

use std::fmt::{self, Write};

use super::layout::{HEAD, Layout, Point, Route, Stroke};
use super::sizes::{Block, DOT, LINE, NAMES_MAX};
use super::{Diagram, DiagramTooLarge, SVG_ARROWS_MAX, SVG_STATES_MAX};

/// From the top of a line of text to its base.
const BASELINE: f64 = 13.;
/// The background is its own, so that it is readable on every page.
const STYLE: &str = r#"
.paper { fill: #fff }
text { font: 13px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; fill: #1f2328 }
.state rect { fill: #eef4fb; stroke: #44546a; stroke-width: 1.5 }
.state .inner { fill: none; stroke-width: 1 }
.arrow path { fill: none; stroke: #57606a; stroke-width: 1.5 }
.arrow .head, .dot { fill: #57606a; stroke: none }
.arrow text { font-size: 12px; fill: #424a53 }
.timeout path { stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117 }
  text { fill: #e6edf3 }
  .state rect { fill: #1c2836; stroke: #8ba3c0 }
  .arrow path { stroke: #8b949e }
  .arrow .head, .dot { fill: #8b949e }
  .arrow text { fill: #c4ccd4 }
}
"#;
const STYLE_CURRENT: &str = ".current rect { fill: #ffd54f } .current text { fill: #1f2328 }\n";
const STYLE_TAKEN: &str = "\
.taken path { stroke: #b26a00; stroke-width: 3 } .taken .head { fill: #b26a00 }
@media (prefers-color-scheme: dark) { .taken path { stroke: #ffb74d } .taken .head { fill: #ffb74d } }
";

impl Diagram<'_> {
    /// Writes it as an SVG document.
    ///
    /// # Errors
    ///
    /// [`DiagramTooLarge`]: the layout would take too long.
    pub fn svg(&self) -> Result<String, DiagramTooLarge> {
        let (states, arrows) = (self.states().len(), self.arrows.len());
        if states > SVG_STATES_MAX || arrows > SVG_ARROWS_MAX {
            return Err(DiagramTooLarge { states, arrows });
        }
        let mut svg = String::new();
        self.write(&Layout::of(self), &mut svg)
            .expect("a string takes all text");
        Ok(svg)
    }

    fn write(&self, layout: &Layout, out: &mut String) -> fmt::Result {
        let (width, height) = (Pixels(layout.width), Pixels(layout.height));
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">"#
        )?;
        writeln!(
            out,
            "<title>{}</title>",
            Escaped(self.definition.name.as_str())
        )?;
        writeln!(out, "<desc>{}</desc>", Escaped(&self.in_words()))?;
        let current = self.current.map_or("", |_| STYLE_CURRENT);
        let has_path = self.arrows.iter().any(|arrow| arrow.is_taken);
        let taken = if has_path { STYLE_TAKEN } else { "" };
        writeln!(out, "<style>{STYLE}{current}{taken}</style>")?;
        writeln!(
            out,
            r#"<rect class="paper" width="{width}" height="{height}" rx="8"/>"#
        )?;
        let Point { x, y } = layout.dot;
        writeln!(
            out,
            r#"<circle class="dot" cx="{}" cy="{}" r="{DOT}"/>"#,
            Pixels(x),
            Pixels(y)
        )?;
        write_arrow(&layout.entry, "arrow", None, out)?;
        for (arrow, route) in self.arrows.iter().zip(&layout.routes) {
            let class = match (arrow.is_timeout, arrow.is_taken) {
                (false, false) => "arrow",
                (false, true) => "arrow taken",
                (true, false) => "arrow timeout",
                (true, true) => "arrow timeout taken",
            };
            let is_cut = arrow.labels.len() > NAMES_MAX;
            let all = is_cut.then(|| arrow.labels.join(", "));
            write_arrow(route, class, all.as_deref(), out)?;
        }
        for (i, block) in layout.states.iter().enumerate() {
            self.write_state(i, block, out)?;
        }
        writeln!(out, "</svg>")
    }

    fn write_state(&self, i: usize, block: &Block, out: &mut String) -> fmt::Result {
        let state = &self.states()[i];
        let current = match self.current == Some(i) {
            true => " current",
            false => "",
        };
        writeln!(out, r#"<g class="state{current}">"#)?;
        write_title(Some(&*state.description).filter(|it| !it.is_empty()), out)?;
        write_rect("outer", block, 0., out)?;
        if state.is_final {
            write_rect("inner", block, 3.5, out)?;
        }
        write_lines(block, block.left + block.width / 2., "middle", out)?;
        writeln!(out, "</g>")
    }

    /// What it shows, for those who do not see it.
    fn in_words(&self) -> String {
        let mut sentences = vec![];
        if !self.definition.description.is_empty() {
            sentences.push(self.definition.description.clone());
        }
        sentences.push(format!("Starts in {}.", self.name(self.initial)));
        let finals = self.states().iter().filter(|state| state.is_final);
        let finals: Vec<_> = finals.map(|state| state.name.as_str()).collect();
        if !finals.is_empty() {
            sentences.push(format!("Ends in {}.", finals.join(" or ")));
        }
        for arrow in &self.arrows {
            let (from, to) = (self.name(arrow.from), self.name(arrow.to));
            let taken = if arrow.is_taken { " (taken)" } else { "" };
            sentences.push(match arrow.labels.join(", ") {
                labels if labels.is_empty() => format!("From {from} to {to}{taken}."),
                labels => format!("From {from} to {to}{taken}: {labels}."),
            });
        }
        if let Some(current) = self.current {
            sentences.push(format!("{} is highlighted.", self.name(current)));
        }
        sentences.join("\n")
    }
}

fn write_title(title: Option<&str>, out: &mut String) -> fmt::Result {
    match title {
        None => Ok(()),
        Some(title) => writeln!(out, "<title>{}</title>", Escaped(title)),
    }
}

fn write_rect(class: &str, block: &Block, inset: f64, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        r#"<rect class="{class}" x="{}" y="{}" width="{}" height="{}" rx="{}"/>"#,
        Pixels(block.left + inset),
        Pixels(block.top + inset),
        Pixels(block.width - 2. * inset),
        Pixels(block.height - 2. * inset),
        Pixels(8. - inset),
    )
}

/// The lines of a block, centered from top to bottom.
fn write_lines(block: &Block, x: f64, anchor: &str, out: &mut String) -> fmt::Result {
    let above = (block.height - block.lines.len() as f64 * LINE) / 2.;
    for (line, i) in block.lines.iter().zip(0..) {
        let y = block.top + above + f64::from(i) * LINE + BASELINE;
        let (x, y, line) = (Pixels(x), Pixels(y), Escaped(line));
        writeln!(
            out,
            r#"<text x="{x}" y="{y}" text-anchor="{anchor}">{line}</text>"#
        )?;
    }
    Ok(())
}

fn write_arrow(route: &Route, class: &str, title: Option<&str>, out: &mut String) -> fmt::Result {
    writeln!(out, r#"<g class="{class}">"#)?;
    write_title(title, out)?;
    let mut path = format!("M{}", At(route.start));
    let (mut at, mut before) = (route.start, route.start);
    for stroke in &route.strokes {
        before = at;
        at = match stroke {
            Stroke::Line(end) | Stroke::Curve(_, _, end) => *end,
        };
    }
    // The head's base and sides; the last stroke is upright or level.
    let (dx, dy) = (direction(at.x - before.x), direction(at.y - before.y));
    let behind = |by: f64, aside: f64| Point {
        x: at.x - dx * by - dy * aside,
        y: at.y - dy * by + dx * aside,
    };
    for (i, stroke) in route.strokes.iter().enumerate() {
        let is_last = i + 1 == route.strokes.len();
        match stroke {
            Stroke::Line(_) if is_last => write!(path, " L{}", At(behind(HEAD - 1., 0.)))?,
            Stroke::Line(end) => write!(path, " L{}", At(*end))?,
            Stroke::Curve(a, b, end) => write!(path, " C{} {} {}", At(*a), At(*b), At(*end))?,
        }
    }
    writeln!(out, r#"<path d="{path}"/>"#)?;
    let (left, right) = (At(behind(HEAD, 4.)), At(behind(HEAD, -4.)));
    writeln!(
        out,
        r#"<path class="head" d="M{} L{left} L{right} Z"/>"#,
        At(at)
    )?;
    write_lines(&route.label, route.label.left, "start", out)?;
    writeln!(out, "</g>")
}

fn direction(length: f64) -> f64 {
    if length == 0. { 0. } else { length.signum() }
}

/// A length, to a tenth of a pixel.
struct Pixels(f64);

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sum turns a negative zero into zero.
        write!(f, "{}", (self.0 * 10.).round() / 10. + 0.)
    }
}

struct At(Point);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", Pixels(self.0.x), Pixels(self.0.y))
    }
}

/// A text in XML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\n' | '\t' => f.write_char(c)?,
                // XML has no form for these.
                '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
