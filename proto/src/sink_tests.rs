use lockstep_machine::{Command, Request};

use super::*;
use crate::testing::*;

#[test]
fn a_fault_of_a_sink_names_its_field() {
    use raft::request::Command as Wire;
    use raft::sink::Change;
    let fault = |kind: &str, damage: &dyn Fn(&mut raft::Sink)| {
        let command = sink_commands().into_iter().find(|it| match it {
            Command::Sink(it) => format!("{:?}", it.change).starts_with(kind),
            other => panic!("{other:?}"),
        });
        let mut message = raft::Request::from(&with(command.unwrap()).requests[0]);
        match &mut message.command {
            Some(Wire::Sink(sink)) => damage(sink),
            other => panic!("{other:?}"),
        }
        Request::try_from(message).unwrap_err().field
    };
    let event = |damage: &dyn Fn(&mut raft::Event)| {
        fault("Bury", &|sink| match &mut sink.change {
            Some(Change::Bury(it)) => damage(it.event.as_mut().unwrap()),
            other => panic!("{other:?}"),
        })
    };
    let faults = [
        fault("Seed", &|sink| sink.name = "Audit".to_owned()),
        fault("Seed", &|sink| sink.change = None),
        fault("Advance", &|sink| match &mut sink.change {
            Some(Change::Advance(it)) => it.cursor = None,
            other => panic!("{other:?}"),
        }),
        fault("Settle", &|sink| match &mut sink.change {
            Some(Change::Settle(it)) => it.cursor = None,
            other => panic!("{other:?}"),
        }),
        fault("Bury", &|sink| match &mut sink.change {
            Some(Change::Bury(it)) => it.event = None,
            other => panic!("{other:?}"),
        }),
        event(&|it| it.cursor = None),
        event(&|it| it.kind = 0),
        event(&|it| it.kind = 99),
        event(&|it| it.machine.clear()),
        event(&|it| it.instance = Some(String::new())),
        event(&|it| it.from = Some(String::new())),
        event(&|it| it.to = Some(String::new())),
        event(&|it| it.event = Some(String::new())),
        event(&|it| it.metadata.push(it.metadata[0].clone())),
    ];
    let expected = [
        "sink.name",
        "sink.change",
        "sink.cursor",
        "sink.cursor",
        "sink.event",
        "event.cursor",
        "event.kind",
        "event.kind",
        "event.machine",
        "event.instance",
        "event.from",
        "event.to",
        "event.event",
        "event.metadata",
    ];
    assert_eq!(faults, expected);
}
