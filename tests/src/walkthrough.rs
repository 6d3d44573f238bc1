//! Documents that are run: the commands they show, and their output.
//!
//! In a block marked `console`, a line that begins with `$ ` is given to a shell, with the lines
//! below it that begin with `> `; what follows is its whole output, standard error included. Two
//! things stand for what differs from run to run: `…` for any text within a line, or, alone in its
//! line, for any lines; and a time such as `2026-11-24T07:30:00.000Z` for any time.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::binaries;
use crate::program;

/// For one command; the longest waits ten seconds for a timeout.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);
/// The first HTTP port that documents name: that of `lockstepd dev` and of the Compose file.
const WRITTEN_HTTP_PORT: u16 = 3333;
/// What stands for any text.
const ANYTHING: &str = "…";
/// What times are compared as.
const SOME_TIME: &str = "<time>";
/// If set, the documents are updated instead of compared.
const UPDATE: &str = "LOCKSTEP_UPDATE_WALKTHROUGHS";

/// The folder of the repository.
pub fn repository() -> Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(tests.parent().context("the tests are in it")?.to_owned())
}

/// The walk-through of each example, by the example's name.
pub fn examples() -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(repository()?.join("examples"))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.insert(name, entry.path().join("README.md"));
        }
    }
    ensure!(!found.is_empty(), "there are no examples");
    Ok(found)
}

/// Where documents run: a shell that reaches a cluster as a reader's shell does.
pub struct Terminal {
    environment: Vec<(&'static str, OsString)>,
    /// Addresses and paths as documents name them, each with the real one.
    renamed: Vec<(&'static str, String)>,
    _home: TempDir,
}

impl Terminal {
    /// Where the nodes of a cluster are, HTTP and gRPC of each, at whatever ports: `lockstep` gets
    /// of them by its variable, and curl connects to them when it is given the written ones.
    pub fn of(nodes: impl IntoIterator<Item = (SocketAddr, SocketAddr)>) -> Result<Self> {
        let home = tempfile::tempdir().context("a folder for the shell")?;
        let (mut endpoints, mut curlrc) = (Vec::new(), String::new());
        for (written, (http, grpc)) in (WRITTEN_HTTP_PORT..).zip(nodes) {
            endpoints.push(grpc.to_string());
            writeln!(curlrc, "connect-to = \"localhost:{written}:{http}\"")?;
        }
        fs::write(home.path().join(".curlrc"), curlrc)?;
        Ok(Self {
            environment: vec![
                ("PATH", binaries::search_path()?),
                ("LOCKSTEP_ENDPOINTS", endpoints.join(",").into()),
                // curl reads `.curlrc` from here, and nothing from the home of whoever tests.
                ("CURL_HOME", home.path().into()),
                ("no_proxy", "*".into()),
                // Times are shown where the reader is.
                ("TZ", "UTC".into()),
            ],
            renamed: Vec::new(),
            _home: home,
        })
    }

    /// With one more variable of the environment.
    pub fn with(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((key, value.into()));
        self
    }

    /// Where a document names the address or path `written`, commands use `real`.
    pub fn renaming(mut self, written: &'static str, real: impl ToString) -> Self {
        self.renamed.push((written, real.to_string()));
        self
    }

    /// Runs a document from its first command to its last, in a copy of its folder. The first
    /// output that differs from what is written is the error.
    pub async fn run(&self, document: &Path) -> Result<()> {
        let text = fs::read_to_string(document).with_context(|| document.display().to_string())?;
        self.run_lines(document, &text, 0..usize::MAX).await
    }

    /// Runs the commands below a heading, up to the next heading.
    pub async fn run_section(&self, document: &Path, heading: &str) -> Result<()> {
        let text = fs::read_to_string(document).with_context(|| document.display().to_string())?;
        let lines = section(&text, heading)
            .with_context(|| format!("{} has no heading {heading:?}", document.display()))?;
        self.run_lines(document, &text, lines).await
    }

    async fn run_lines(&self, document: &Path, text: &str, lines: Range<usize>) -> Result<()> {
        let mut steps = steps(text).with_context(|| document.display().to_string())?;
        steps.retain(|step| lines.contains(&step.line));
        ensure!(!steps.is_empty(), "{} runs nothing", document.display());
        let folder = copied(document.parent().context("a document is in a folder")?)?;
        let mut corrected = Vec::new();
        for step in steps {
            let said = self.say(&step.command, folder.path()).await?;
            if is_as_written(&step.output, &said) {
                continue;
            }
            if std::env::var_os(UPDATE).is_none() {
                let place = format!("{}:{}", document.display(), step.line);
                bail!("{place}: {}", difference(&step, &said));
            }
            corrected.push((step, said));
        }
        if !corrected.is_empty() {
            fs::write(document, rewritten(text, &corrected))?;
        }
        Ok(())
    }

    /// What a command says, line by line.
    async fn say(&self, line: &str, folder: &Path) -> Result<Vec<String>> {
        let line = self
            .renamed
            .iter()
            .fold(line.to_owned(), |line, (written, real)| {
                line.replace(written, real)
            });
        // One stream for both outputs keeps them in order, as a terminal does.
        let mut command = binaries::shell(&format!("exec 2>&1\n{line}"));
        command.current_dir(folder).envs(self.environment.clone());
        let ended = program::run(command, COMMAND_DEADLINE).await?;
        let said = self
            .renamed
            .iter()
            .fold(ended.stdout, |said, (written, real)| {
                said.replace(real, written)
            });
        Ok(said.lines().map(str::to_owned).collect())
    }
}

/// The lines below a heading, up to the next one; the first line of a text is 1.
fn section(text: &str, heading: &str) -> Option<Range<usize>> {
    let mut in_block = false;
    let headings = text.lines().enumerate().filter(|(_, line)| {
        in_block ^= line.trim_start().starts_with("```");
        !in_block && line.starts_with('#')
    });
    let mut headings = headings.map(|(at, line)| (at + 1, line.trim_start_matches('#').trim()));
    let (begin, _) = headings.find(|(_, title)| *title == heading)?;
    let end = headings.next().map_or(usize::MAX, |(line, _)| line);
    Some(begin + 1..end)
}

/// The headings of a document below which commands are run.
pub fn sections(document: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(document).with_context(|| document.display().to_string())?;
    let mut sections: Vec<String> = Vec::new();
    for step in steps(&text)? {
        let above = text.lines().take(step.line);
        let heading = above.filter(|line| line.starts_with('#')).last();
        let heading = heading.unwrap_or_default().trim_start_matches('#').trim();
        if sections.last().is_none_or(|last| last != heading) {
            sections.push(heading.to_owned());
        }
    }
    Ok(sections)
}

/// A copy of the files in `folder`, so that what a walk-through writes stays out of it.
fn copied(folder: &Path) -> Result<TempDir> {
    let copy = tempfile::tempdir().context("a folder to run in")?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
        }
    }
    Ok(copy)
}

/// A command and what is written about it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// Where it is written, from 1.
    line: usize,
    command: String,
    /// Where its output begins, from 0.
    output_at: usize,
    /// What the lines of its block begin with, inside a list.
    indent: String,
    output: Vec<String>,
}

/// What a document has to be typed, in order.
fn steps(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    // Whether this is inside a block, and one that is run; and whether its last command goes on.
    let (mut block, mut typing) = (None, false);
    let mut indent = "";
    for (at, line) in text.lines().enumerate() {
        if let Some(mark) = line.trim_start().strip_prefix("```") {
            indent = &line[..line.len() - line.trim_start().len()];
            block = match block {
                None => Some(mark == "console"),
                Some(_) => None,
            };
            typing = false;
        } else if block == Some(true) {
            let line = line.strip_prefix(indent).unwrap_or(line);
            if let Some(command) = line.strip_prefix("$ ") {
                typing = true;
                steps.push(Step {
                    line: at + 1,
                    command: command.to_owned(),
                    output_at: at + 1,
                    indent: indent.to_owned(),
                    output: Vec::new(),
                });
                continue;
            }
            let step = steps.last_mut();
            let step = step.with_context(|| format!("line {}: output of nothing", at + 1))?;
            match line.strip_prefix("> ") {
                Some(more) if typing => {
                    step.command = format!("{}\n{more}", step.command);
                    step.output_at = at + 1;
                }
                _ => {
                    typing = false;
                    ensure!(
                        step.output_at + step.output.len() == at,
                        "line {}: the output of a command stands below it, in its block",
                        at + 1
                    );
                    step.output.push(line.to_owned());
                }
            }
        }
    }
    ensure!(block.is_none(), "the last block does not end");
    Ok(steps)
}

fn is_as_written(written: &[String], said: &[String]) -> bool {
    matches(
        written,
        said,
        &|line| line.trim() == ANYTHING,
        &|written, said| is_line_as_written(written, said),
    )
}

fn is_line_as_written(written: &str, said: &str) -> bool {
    let characters = |line: &str| some_times(line.trim_end()).chars().collect::<Vec<_>>();
    let anything = |character: &char| ANYTHING.chars().eq([*character]);
    matches(
        &characters(&without_padding(written)),
        &characters(said),
        &anything,
        &|a, b| a == b,
    )
}

/// In a table, the placeholder for any text also matches the spaces after it, except one, because the width of
/// a column depends on its content.
fn without_padding(written: &str) -> String {
    let mut parts = written.split(ANYTHING);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(' ');
        let space = if rest.len() < part.len() { " " } else { "" };
        text = text + ANYTHING + space + rest;
    }
    text
}

/// Whether `text` is as `pattern` says, of which an item that `is_any` stands for any items.
fn matches<P, T>(
    pattern: &[P],
    text: &[T],
    is_any: &impl Fn(&P) -> bool,
    is_one: &impl Fn(&P, &T) -> bool,
) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    if is_any(first) {
        return (0..=text.len()).any(|skipped| matches(rest, &text[skipped..], is_any, is_one));
    }
    text.split_first()
        .is_some_and(|(found, text)| is_one(first, found) && matches(rest, text, is_any, is_one))
}

/// The line with each time in it replaced by the same word.
fn some_times(line: &str) -> String {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";
    let is_time = |part: &[u8]| {
        part.len() == SHAPE.len()
            && part.iter().zip(SHAPE).all(|(found, shape)| match shape {
                b'0' => found.is_ascii_digit(),
                _ => found == shape,
            })
    };
    let (mut text, mut rest) = (String::new(), line);
    while let Some(at) = rest.as_bytes().windows(SHAPE.len()).position(is_time) {
        text.push_str(&rest[..at]);
        text.push_str(SOME_TIME);
        rest = &rest[at + SHAPE.len()..];
    }
    text + rest
}

/// What is written and what came, side by side; what both have in common only once.
fn difference(step: &Step, said: &[String]) -> String {
    let same = |(written, said): &(&String, &String)| is_line_as_written(written, said);
    let head = step.output.iter().zip(said).take_while(same).count();
    let (written, said_rest) = (&step.output[head..], &said[head..]);
    let tail = written.iter().rev().zip(said_rest.iter().rev());
    let tail = tail.take_while(same).count();
    let mut text = format!("the output is not as written\n  $ {}\n", step.command);
    let mut show = |mark: char, lines: &[String]| {
        for line in lines {
            text.push_str(&format!("{mark} {line}\n"));
        }
    };
    show(' ', &said[..head]);
    show('-', &written[..written.len() - tail]);
    show('+', &said_rest[..said_rest.len() - tail]);
    show(' ', &said_rest[said_rest.len() - tail..]);
    text
}

/// The document, with what was said in place of what is written.
fn rewritten(text: &str, corrected: &[(Step, Vec<String>)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (step, said) in corrected.iter().rev() {
        let written = step.output_at..step.output_at + step.output.len();
        lines.splice(written, said.iter().map(|line| step.indent.clone() + line));
    }
    lines.join("\n") + "\n"
}
