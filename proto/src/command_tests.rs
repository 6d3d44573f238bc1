use lockstep_machine::Request;

use super::*;
use crate::testing::*;

#[test]
fn a_fault_of_the_newer_commands_names_its_field_too() {
    let fault = |at: usize, damage: &dyn Fn(&mut raft::request::Command)| {
        let mut message = raft::Request::from(&with(commands().swap_remove(at)).requests[0]);
        damage(message.command.as_mut().unwrap());
        Request::try_from(message).unwrap_err().field
    };
    use raft::request::Command as Wire;
    macro_rules! break_it {
        ($at:literal, $kind:ident, $it:ident => $damage:expr) => {
            fault($at, &|command| match command {
                Wire::$kind($it) => $damage,
                other => panic!("{other:?}"),
            })
        };
    }
    let entry = || raft::MetadataEntry {
        key: String::new(),
        value: String::new(),
    };
    let faults = [
        break_it!(1, Define, it => it.name.clear()),
        break_it!(1, Define, it => it.states[0].name.clear()),
        break_it!(1, Define, it => it.moves[0].from_any = true),
        break_it!(2, DeleteDefinition, it => it.machine.clear()),
        break_it!(3, Create, it => it.instance.clear()),
        break_it!(3, Create, it => it.metadata.push(entry())),
        break_it!(4, Delete, it => it.expect_state = Some(String::new())),
        break_it!(5, Migrate, it => it.states.push(it.states[0].clone())),
        break_it!(6, Transaction, it => it.operations[0].operation = None),
        break_it!(7, Expire, it => it.expirations[0].machine.clear()),
        break_it!(8, Configure, it => it.keys_max = None),
    ];
    let expected = [
        "define.name",
        "define.states",
        "define.moves",
        "delete_definition.machine",
        "create.instance",
        "create.metadata",
        "delete.expect_state",
        "migrate.states",
        "transaction.operations",
        "expire.machine",
        "configure.keys_max",
    ];
    assert_eq!(faults, expected);
}
