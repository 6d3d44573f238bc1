//! The table of a comparison.

use std::fmt::Write;
use std::time::Duration;

use super::{Figures, Load};

/// What was measured of one system.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// In each round.
    pub loads: Vec<(Load, Vec<Figures>)>,
    /// Of a node after all loads, in MiB, in each round.
    pub memory: Vec<f64>,
    /// Without an acknowledged write after the leader was killed, in each round.
    pub gaps: Vec<Duration>,
}

impl Column {
    pub fn new(name: String) -> Self {
        Self {
            name,
            loads: Vec::new(),
            memory: Vec::new(),
            gaps: Vec::new(),
        }
    }

    fn of(&self, load: Load, figure: fn(&Figures) -> f64) -> Vec<f64> {
        let found = self.loads.iter().find(|(it, _)| *it == load);
        found.map_or_else(Vec::new, |(_, rounds)| rounds.iter().map(figure).collect())
    }
}

/// Adds the column of one round.
pub fn add(columns: &mut Vec<Column>, new: Column) {
    let Some(column) = columns.iter_mut().find(|it| it.name == new.name) else {
        columns.push(new);
        return;
    };
    for ((_, rounds), (_, figures)) in column.loads.iter_mut().zip(new.loads) {
        rounds.extend(figures);
    }
    column.memory.extend(new.memory);
    column.gaps.extend(new.gaps);
}

/// One row: its name, the values of a column in each round, and how one is shown.
struct Row {
    name: String,
    of: Values,
    shown: fn(f64) -> String,
}

enum Values {
    Load(Load, fn(&Figures) -> f64),
    Memory,
    Gaps,
}

impl Values {
    fn of(&self, column: &Column) -> Vec<f64> {
        match self {
            Self::Load(load, figure) => column.of(*load, *figure),
            Self::Memory => column.memory.clone(),
            Self::Gaps => column.gaps.iter().map(Duration::as_secs_f64).collect(),
        }
    }
}

fn rows() -> Vec<Row> {
    let row = |name: String, of, shown| Row { name, of, shown };
    let mut rows = Vec::new();
    for load in Load::ALL {
        let name = load.name();
        let ms = |it| format!("{it:.2} ms");
        rows.push(row(
            name.clone(),
            Values::Load(load, |it| it.speed.per_second),
            |it| format!("{it:.0}/s"),
        ));
        rows.push(row(
            format!("{name}: p50"),
            Values::Load(load, |it| it.speed.p50_ms),
            ms,
        ));
        rows.push(row(
            format!("{name}: p99"),
            Values::Load(load, |it| it.speed.p99_ms),
            ms,
        ));
    }
    let cost = Load::COST.name();
    let us = |it| format!("{it:.1} us");
    rows.extend([
        row(
            format!("processor time of all nodes for each {cost}"),
            Values::Load(Load::COST, |it| it.cpu_us),
            us,
        ),
        row(
            format!("processor time of the generator for each {cost}"),
            Values::Load(Load::COST, |it| it.generator_us),
            us,
        ),
        row(
            format!("bytes written by all nodes for each {cost}"),
            Values::Load(Load::COST, |it| it.written),
            |it| format!("{it:.0} B"),
        ),
        row(
            "memory of a node after all loads".to_owned(),
            Values::Memory,
            |it| format!("{it:.0} MiB"),
        ),
        row(
            "leader killed until the next acknowledged write".to_owned(),
            Values::Gaps,
            |it| format!("{it:.2} s"),
        ),
    ]);
    rows
}

/// Medians of all rounds, and the ratios of Lockstep to etcd: the median of the ratios within a round, and the lowest
/// and the highest.
pub fn markdown(columns: &[Column], rounds: usize, measured: Duration) -> String {
    let named = |start: &'static str| columns.iter().filter(move |it| it.name.starts_with(start));
    let own: Vec<_> = named("Lockstep").collect();
    let all: Vec<_> = named("etcd")
        .chain(named("PostgreSQL"))
        .chain(own.clone())
        .collect();
    let other = named("etcd").next();
    let mut text = format!(
        "Rounds: {rounds}, {} s for each load. Medians; in brackets the lowest and the highest ratio of a round.\n\n",
        measured.as_secs()
    );
    let names = all.iter().map(|it| it.name.clone());
    let heads = own.iter().map(|it| format!("{} / etcd", it.name));
    let heads: Vec<_> = names.chain(heads.filter(|_| other.is_some())).collect();
    let _ = writeln!(text, "| | {} |", heads.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(heads.len()));
    for row in rows() {
        let values = all.iter().map(|it| match median(row.of.of(it)) {
            Some(value) => (row.shown)(value),
            None => "-".to_owned(),
        });
        let ratios = own
            .iter()
            .filter_map(|it| Some(ratio(&row.of.of(it), &row.of.of(other?))));
        let cells: Vec<_> = values.chain(ratios).collect();
        let _ = writeln!(text, "| {} | {} |", row.name, cells.join(" | "));
    }
    text
}

fn ratio(one: &[f64], other: &[f64]) -> String {
    let mut ratios: Vec<_> = one
        .iter()
        .zip(other)
        .map(|(one, other)| one / other)
        .collect();
    ratios.sort_by(f64::total_cmp);
    match (ratios.first(), median(ratios.clone()), ratios.last()) {
        (Some(least), Some(median), Some(most)) if median.is_finite() => {
            format!("{median:.2} ({least:.2} to {most:.2})")
        }
        _ => "-".to_owned(),
    }
}

/// None without a value. Of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Speed;

    fn column(name: &str, rates: &[f64]) -> Column {
        let mut column = Column::new(name.to_owned());
        let figures = |per_second: &f64| Figures {
            speed: Speed {
                per_second: *per_second,
                p50_ms: 1.,
                p99_ms: 2.,
            },
            cpu_us: 3.,
            written: 4.,
            generator_us: 5.,
        };
        let loads = Load::ALL.map(|load| (load, rates.iter().map(figures).collect()));
        column.loads = loads.to_vec();
        column.memory = vec![50.; rates.len()];
        column
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut columns = Vec::new();
        // The machine was half as fast in the second round.
        for (own, other) in [(400., 100.), (200., 50.), (300., 100.)] {
            add(&mut columns, column("Lockstep, http", &[own]));
            add(&mut columns, column("etcd", &[other]));
        }
        let text = markdown(&columns, 3, Duration::from_secs(5));
        let row = text
            .lines()
            .find(|line| line.starts_with("| write, 1 client |"));
        assert_eq!(
            row,
            Some("| write, 1 client | 100/s | 300/s | 4.00 (3.00 to 4.00) |"),
            "{text}"
        );
        let gap = text.lines().find(|line| line.contains("killed"));
        assert!(
            gap.is_some_and(|line| line.ends_with("| - | - | - |")),
            "{text}"
        );
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3., 1., 2.]), Some(2.));
        assert_eq!(median(vec![4., 1., 3., 2.]), Some(2.5));
    }
}
