//! Curves as an SVG document.

use std::fmt::{self, Write};

use crate::record::Record;

/// Curves over two axes.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The curves.
    pub series: Vec<Series>,
}

/// One axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: &'static str,
    /// Whether equal steps are equal factors; otherwise it starts at 0.
    pub is_logarithmic: bool,
    /// The text at a value.
    pub shown: fn(f64) -> String,
}

/// One curve.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points, in order of x. What a logarithmic axis cannot show is left out.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.;
const HEIGHT: f64 = 420.;
/// Of the area of the curves from each edge: left, top, right, bottom.
const MARGINS: [f64; 4] = [70., 64., 20., 50.];
/// Distinguishable without red and green, on white and on black.
const COLOURS: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
];
const STYLE: &str = r#"
.paper { fill: #fff }
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; fill: #1f2328 }
.title { font-size: 14px }
.grid { stroke: #d0d7de; stroke-width: 1 }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117 }
  text { fill: #e6edf3 }
  .grid { stroke: #30363d }
}
"#;

impl Chart {
    /// The latency of each operation by percentile.
    pub fn of_latencies(record: &Record, title: String) -> Self {
        let series = record.tallies.iter().map(|(operation, tally)| {
            let mut points = Vec::new();
            let mut below = 0;
            for step in tally.done.iter_recorded() {
                // The latency of the operation in whose place the step begins.
                let from = below as f64 / tally.done.len() as f64;
                points.push((1. / (1. - from), step.value_iterated_to() as f64 / 1e3));
                below += step.count_since_last_iteration();
            }
            points.extend(points.last().map(|(_, latency)| (below as f64, *latency)));
            Series {
                name: operation.name().to_owned(),
                points,
            }
        });
        Self {
            title,
            x: Axis {
                label: "percentile",
                is_logarithmic: true,
                shown: |x| format!("{} %", significant(100. - 100. / x)),
            },
            y: Axis {
                label: "latency, ms",
                is_logarithmic: true,
                shown: significant,
            },
            series: series.collect(),
        }
    }

    /// Writes it as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        self.write(&mut svg).expect("a string takes all text");
        svg
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let [left, top, right, bottom] = MARGINS;
        let (right, bottom) = (WIDTH - right, HEIGHT - bottom);
        let (x, y) = (self.scale(self.x, |it| it.0), self.scale(self.y, |it| it.1));
        let across = |value: f64| left + x.place(value) * (right - left);
        let up = |value: f64| bottom - y.place(value) * (bottom - top);
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">"#
        )?;
        let title = escaped(&self.title);
        writeln!(out, "<title>{title}</title>\n<style>{STYLE}</style>")?;
        writeln!(
            out,
            r#"<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>"#
        )?;
        writeln!(
            out,
            r#"<text class="title" x="{left}" y="22">{title}</text>"#
        )?;
        for (value, text) in x.ticks(self.x) {
            let at = across(value);
            writeln!(
                out,
                r#"<path class="grid" d="M{at:.1} {top}V{bottom}"/><text x="{at:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#,
                bottom + 18.
            )?;
        }
        for (value, text) in y.ticks(self.y) {
            let at = up(value);
            writeln!(
                out,
                r#"<path class="grid" d="M{left} {at:.1}H{right}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
                left - 8.,
                at + 4.
            )?;
        }
        let middle = f64::midpoint(left, right);
        writeln!(
            out,
            r#"<text x="{middle}" y="{:.1}" text-anchor="middle">{}</text>"#,
            HEIGHT - 10.,
            escaped(self.x.label)
        )?;
        let middle = f64::midpoint(top, bottom);
        writeln!(
            out,
            r#"<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">{}</text>"#,
            escaped(self.y.label)
        )?;
        let mut legend = left;
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let points = series.points.iter().filter(|it| x.has(it.0) && y.has(it.1));
            let points = points.map(|it| format!("{:.1},{:.1}", across(it.0), up(it.1)));
            let points = points.collect::<Vec<_>>().join(" ");
            writeln!(
                out,
                r#"<polyline class="curve" stroke="{colour}" points="{points}"/>"#
            )?;
            writeln!(
                out,
                r#"<path class="curve" stroke="{colour}" d="M{legend:.1} 44h18"/><text x="{:.1}" y="48">{}</text>"#,
                legend + 24.,
                escaped(&series.name)
            )?;
            legend += 50. + 7.3 * series.name.chars().count() as f64;
        }
        writeln!(out, "</svg>")
    }

    /// What an axis must span.
    fn scale(&self, axis: Axis, of: fn(&(f64, f64)) -> f64) -> Scale {
        let mut scale = Scale {
            is_logarithmic: axis.is_logarithmic,
            from: f64::INFINITY,
            to: f64::NEG_INFINITY,
        };
        let points = self.series.iter().flat_map(|it| &it.points);
        for value in points.map(of) {
            if !scale.has(value) {
                continue;
            }
            (scale.from, scale.to) = (scale.from.min(value), scale.to.max(value));
        }
        if !axis.is_logarithmic {
            scale.from = 0.;
        }
        if scale.from >= scale.to || !scale.from.is_finite() {
            (scale.from, scale.to) = match scale.to.is_finite() && scale.to > 0. {
                true => (scale.to / 2., scale.to * 2.),
                false => (1., 10.),
            };
        }
        scale
    }
}

/// The range of an axis.
struct Scale {
    is_logarithmic: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// Whether it can show the value.
    fn has(&self, value: f64) -> bool {
        value.is_finite() && (value > 0. || !self.is_logarithmic)
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.is_logarithmic {
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        }
    }

    /// The values at its grid lines, and their texts.
    fn ticks(&self, axis: Axis) -> Vec<(f64, String)> {
        let values: Vec<f64> = if self.is_logarithmic {
            let decades = (self.to / self.from).log10();
            let factors: &[f64] = if decades < 3. { &[1., 2., 5.] } else { &[1.] };
            let exponents = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
            exponents
                .flat_map(|exponent| factors.iter().map(move |it| it * 10f64.powi(exponent)))
                .collect()
        } else {
            let raw = (self.to - self.from) / 5.;
            let decade = 10f64.powf(raw.log10().floor());
            let step = [1., 2., 5., 10.].map(|it| it * decade);
            let step = step.into_iter().find(|it| *it >= raw).unwrap_or(raw);
            (0..=10).map(|n| self.from + step * f64::from(n)).collect()
        };
        let values = values.into_iter();
        // A grid line at an end is not lost to rounding.
        let inside = values.filter(|it| (-1e-9..=1. + 1e-9).contains(&self.place(*it)));
        inside.map(|it| (it, (axis.shown)(it))).collect()
    }
}

/// A number without digits that say nothing.
fn significant(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    rounded.to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::operation::Operation;

    #[test]
    fn latencies_are_drawn_by_percentile() {
        let mut record = Record::default();
        for n in 1..=1000 {
            record.add(Operation::Read, Duration::from_micros(n), &Ok(()));
        }
        let chart = Chart::of_latencies(&record, "reads & <more>".to_owned());
        let points = &chart.series[0].points;
        assert_eq!(points[0], (1., 0.001));
        assert_eq!(points.last(), Some(&(1000., 1.)));
        // Half of all took at most half a millisecond.
        assert_eq!(points[500], (2., 0.501));
        let svg = chart.svg();
        for part in [
            "<svg",
            "reads &amp; &lt;more&gt;",
            ">99.9 %<",
            ">0.01<",
            ">read<",
            "<polyline",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_chart_without_points_is_still_a_document() {
        let line = |points| Chart {
            title: String::new(),
            x: Axis {
                label: "clients",
                is_logarithmic: true,
                shown: significant,
            },
            y: Axis {
                label: "per second",
                is_logarithmic: false,
                shown: significant,
            },
            series: vec![Series {
                name: "a".to_owned(),
                points,
            }],
        };
        for points in [
            vec![],
            vec![(1., 5.)],
            vec![(0., f64::NAN)],
            vec![(1., 0.), (2., 0.)],
        ] {
            let svg = line(points).svg();
            assert!(svg.ends_with("</svg>\n"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let svg = line(vec![(1., 900.), (64., 21_234.)]).svg();
        assert!(svg.contains(">20000<") && svg.contains(">50<"), "{svg}");
    }
}
