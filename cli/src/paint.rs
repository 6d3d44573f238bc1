//! Colours. What prints them removes them unless it prints to a terminal, and without `NO_COLOR`.

use std::fmt::Display;

use clap::builder::styling::{AnsiColor, Effects, Style};

pub(super) const FAULT: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const TRANSITION: Style = AnsiColor::Cyan.on_default();
pub(super) const FAINT: Style = Style::new().effects(Effects::DIMMED);

pub(super) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
