//! Colours, only on a terminal and without `NO_COLOR`.

use std::fmt::Display;
use std::io::{self, IsTerminal};

use clap::builder::styling::{AnsiColor, Effects, Style};

pub(super) const FAULT: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const MOVE: Style = AnsiColor::Cyan.on_default();
pub(super) const FAINT: Style = Style::new().effects(Effects::DIMMED);

/// Whether one of the standard streams takes colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn stdout() -> Self {
        Self(io::stdout().is_terminal() && is_wanted())
    }

    pub(super) fn stderr() -> Self {
        Self(io::stderr().is_terminal() && is_wanted())
    }

    /// The text in the style, or as it is.
    pub(super) fn apply(self, style: Style, text: impl Display) -> String {
        if self.0 {
            format!("{style}{text}{style:#}")
        } else {
            text.to_string()
        }
    }
}

/// See no-color.org: any value but an empty one disables colours.
fn is_wanted() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_the_text_is_as_it_is() {
        assert_eq!(Paint(false).apply(FAULT, "x"), "x");
        let painted = Paint(true).apply(FAULT, "x");
        assert!(painted.starts_with('\u{1b}') && painted.contains('x') && painted.ends_with("[0m"));
    }
}
