//! `lockstep watch`.

use clap::Args;
use lockstep_client::{
    Cause, Error, Event, EventCursor, EventKind, GlobalRevision, StateName, WatchCall, Watched,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{self, Maybe, Subject};
use super::output::{self, Format};
use super::paint::{FAINT, FAULT, GOOD, NOTE, TRANSITION, paint};
use super::{Context, Failure, time};

const EXAMPLES: &str = "\
Prints one line per event, from now on or from a revision of the cluster on: in order, once, and
without gaps. When its node is lost, it continues on another one. -o json prints JSON lines. Ctrl-C
ends it with exit code 0.

The cluster keeps a bounded number of recent events (the cluster setting events_max). A watch that should start
before them (`compacted`) or was too slow for them (`lagged`) prints the revision from which it can
continue, and exits with 3.

Examples:
  lockstep watch
  lockstep watch order --state paid
  lockstep watch order/42 -o json
  lockstep watch order --prefix 2026- --from-revision 1200";

/// Watch the events of all machines, of one machine or of one instance
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Watch {
    /// The machine or instance to watch [default: all]
    #[arg(value_name = "MACHINE[/ID]")]
    subject: Option<Subject>,

    /// Only instances whose name starts with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// Only events into this state
    #[arg(long, value_name = "STATE")]
    state: Option<StateName>,

    /// Start at this revision of the cluster [default: after the latest]
    #[arg(long, value_name = "N", value_parser = args::from(0))]
    from_revision: Option<u64>,

    /// Exit after this many events
    #[arg(long, value_name = "N", value_parser = args::from(1))]
    count: Option<u64>,
}

impl Watch {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::local)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::local)?;
        tokio::select! {
            ended = output::while_read(self.print_events(context)) => ended?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(String::new())
    }

    async fn print_events(&self, context: &Context) -> Result<(), Failure> {
        let client = context.target.client()?;
        let format = context.output;
        let begun = client.watch(self.call(context)).await;
        let mut watch = begun.map_err(|error| self.explained(error, None))?;
        let mut left = self.count.unwrap_or(u64::MAX);
        while let Some(watched) = watch.next().await {
            match watched.map_err(|error| self.explained(error, watch.reached()))? {
                Watched::Event(event) => {
                    let text = match format {
                        Format::Json => output::json_line(&json!(event)),
                        _ => line(&event),
                    };
                    left -= 1;
                    output::print(&text)?;
                    if left == 0 {
                        return Ok(());
                    }
                }
                Watched::Lost { endpoint, cause } => {
                    let message = format!(
                        "lost the connection to {endpoint} ({cause}); looking for another node"
                    );
                    output::note(format, "lost", &message, endpoint);
                }
                Watched::Resumed { endpoint } => {
                    let message = format!("resumed on {endpoint}, after the last event received");
                    output::note(format, "resumed", &message, endpoint);
                }
                Watched::Bookmark(_) => {}
            }
        }
        Ok(())
    }

    fn call(&self, context: &Context) -> WatchCall {
        let call = match &self.subject {
            None => WatchCall::all(),
            Some(Subject::Machine(machine)) => WatchCall::of(machine),
            Some(Subject::Instance(id)) => WatchCall::instance(id),
        };
        let from_revision = self.from_revision.map(GlobalRevision);
        call.maybe(self.prefix.as_deref(), WatchCall::prefix)
            .maybe(self.state.clone(), WatchCall::state)
            .maybe(from_revision, WatchCall::from_revision)
            .maybe(context.target.timeout, WatchCall::timeout)
    }

    /// The failure, with the command that continues where this one ends.
    fn explained(&self, error: Error, reached: Option<EventCursor>) -> Failure {
        let resume = match &error {
            Error::Compacted { oldest } | Error::Lagged { oldest, .. } => Some(oldest.0),
            _ => reached.map(|it| it.next_revision().0),
        };
        let mut failure = Failure::from(error);
        let Some(resume) = resume else {
            return match self.instead(failure.code()) {
                Some(hint) => failure.hint(hint),
                None => failure,
            };
        };
        let is_gap = matches!(failure.code(), "compacted" | "lagged");
        let field = if is_gap {
            "oldest_revision"
        } else {
            "from_revision"
        };
        failure = failure.with(field, resume);
        if let Some(reached) = reached {
            failure = failure.with("reached", json!(reached.revision));
        }
        let first = match &self.subject {
            Some(subject) if is_gap => {
                format!("`lockstep instance list {}`, then ", subject.machine())
            }
            _ => String::new(),
        };
        failure.hint(format!("{first}`{}`", self.resumed(resume)))
    }

    /// What to do where this can never be watched.
    fn instead(&self, code: &str) -> Option<String> {
        match (code, &self.subject) {
            ("revision_ahead", _) => Some(format!(
                "`{}` starts after the latest revision",
                self.command()
            )),
            ("unknown_state", Some(subject)) => Some(format!(
                "`lockstep machine show {}` lists the states",
                subject.machine()
            )),
            _ => None,
        }
    }

    /// This command, from another revision on.
    fn resumed(&self, from_revision: u64) -> String {
        format!("{} --from-revision {from_revision}", self.command())
    }

    /// This command, from now on.
    fn command(&self) -> String {
        let mut command = "lockstep watch".to_owned();
        match &self.subject {
            None => {}
            Some(Subject::Machine(machine)) => command.push_str(&format!(" {machine}")),
            Some(Subject::Instance(id)) => command.push_str(&format!(" {id}")),
        }
        if let Some(prefix) = &self.prefix {
            command.push_str(&format!(" --prefix {prefix:?}"));
        }
        if let Some(state) = &self.state {
            command.push_str(&format!(" --state {state}"));
        }
        command
    }
}

/// One line: when, at which revision of the cluster, what, and what happened to it.
fn line(event: &Event) -> String {
    let when = paint(FAINT, time::local(event.at));
    let revision = paint(FAINT, format!("r{}", event.revision));
    let subject = output::subject(event);
    let style = match event.kind {
        EventKind::Created | EventKind::Defined => GOOD,
        EventKind::Deleted | EventKind::DefinitionDeleted => FAULT,
        EventKind::Migrated => NOTE,
        EventKind::Transitioned | EventKind::Seeded => TRANSITION,
    };
    let kind = paint(style, event.kind.name());
    let mut text = format!("{when}  {revision}  {subject}  {kind}");
    for part in [what(event), by(event)].into_iter().flatten() {
        text.push_str(&format!("  {part}"));
    }
    if !event.metadata.is_empty() {
        text.push_str(&format!("  {}", output::metadata(&event.metadata)));
    }
    text.push('\n');
    text
}

/// From where to where.
fn what(event: &Event) -> Option<String> {
    let states = match (&event.from, &event.to) {
        (Some(from), Some(to)) => Some(format!("{from} -> {to}")),
        (Some(only), None) | (None, Some(only)) => Some(only.to_string()),
        (None, None) => None,
    };
    match (event.kind, event.from_version) {
        (EventKind::Migrated, Some(from)) => {
            let states = states.unwrap_or_default();
            Some(format!("{states}  version {from} -> {}", event.version))
        }
        (EventKind::Defined | EventKind::DefinitionDeleted, _) => {
            Some(format!("version {}", event.version))
        }
        _ => states,
    }
}

/// What caused it: the event's name or the timeout.
fn by(event: &Event) -> Option<String> {
    match (&event.event, event.cause) {
        (_, Cause::Timeout { late_ms }) => Some(format!("(timeout, {late_ms} ms late)")),
        (Some(event), _) => Some(format!("by {event}")),
        (None, _) => None,
    }
}
