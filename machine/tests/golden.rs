//! Golden files: the bytes of every top-level form, as written by earlier builds.

mod fixtures;

use std::path::PathBuf;

use fixtures::{batch, commands, event, outcomes, sink_commands};
use lockstep_machine::codec::{self, Format};
use lockstep_machine::*;

const HOW_TO_CHANGE: &str = "\
A form that is logged, sent or kept has changed. If an optional field was added, the committed file \
must still be read: give the new form a new name in `forms`, run with LOCKSTEP_WRITE_GOLDEN=1, and \
commit the new file beside the old one. Any other change needs a new version of the format, and code \
that reads the old one. Never overwrite a committed file.";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.bin"))
}

/// A state with something of everything, made by the batch of every command.
fn state() -> State {
    let mut state = State::default();
    state.apply(&batch());
    state.apply(&Batch {
        stamp: Timestamp(1_700_000_000_001),
        requests: fixtures::lived(),
    });
    state
}

/// That state after the batch that raises its feature level.
fn raised() -> State {
    let mut state = state();
    state.apply(&raising());
    state
}

/// A batch that raises the feature level, and uses what level 2 adds.
fn raising() -> Batch {
    let setting = [(Setting::FeatureLevelMax, 9)].into();
    let commands = [
        Command::RaiseLevel(FeatureLevel::new(2).unwrap()),
        Command::UpdateSettings(setting),
    ];
    let request = |(n, command): (u64, Command)| Request {
        origin: fixtures::origin(n),
        key: None,
        command,
    };
    Batch {
        stamp: Timestamp(1_700_000_000_002),
        requests: (100..).zip(commands).map(request).collect(),
    }
}

fn snapshot(state: &State) -> Vec<u8> {
    let records = state.records();
    records
        .flat_map(|record| [&(record.len() as u32).to_be_bytes()[..], &record].concat())
        .collect()
}

/// Every top-level form, by the name of its file.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let outcomes = outcomes();
    vec![
        ("batch.1", batch().encode().to_vec()),
        ("outcome.1", OUTCOME_FORMAT.encode(&outcomes[2])),
        ("event.1", codec::encode(&event())),
        (
            "backup.1",
            backup_pieces(&backup_header(), &state())
                .flatten()
                .collect(),
        ),
        ("snapshot.4", snapshot(&state())),
        ("batch-level.1", raising().encode().to_vec()),
        ("snapshot-level.4", snapshot(&raised())),
    ]
}

fn backup_header() -> BackupHeader {
    BackupHeader {
        cluster_id: "c1".to_owned(),
        node: "node1".to_owned(),
        created_at: Timestamp(1_700_000_000_002),
        build: "0.1.0".to_owned(),
        ..BackupHeader::of(&state(), 17, 3)
    }
}

/// The header of a backup, and its state.
fn read_backup(bytes: &[u8]) -> Result<(BackupHeader, State), BackupError> {
    let mut decoder = BackupDecoder::new();
    decoder.push(bytes);
    let (mut header, mut records) = (None, vec![]);
    while let Some(part) = decoder.next_part()? {
        match part {
            BackupPart::Header(it) => header = Some(*it),
            BackupPart::Record(record) => records.push(record),
        }
    }
    decoder.finish()?;
    Ok((header.unwrap(), restored(&records).expect(HOW_TO_CHANGE)))
}

fn records(snapshot: &[u8]) -> Vec<Vec<u8>> {
    let (mut records, mut rest) = (vec![], snapshot);
    while let Some((length, behind)) = rest.split_at_checked(4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        records.push(behind[..length].to_vec());
        rest = &behind[length..];
    }
    records
}

fn restored(records: &[Vec<u8>]) -> Result<State, RestoreError> {
    let mut restore = Restore::new();
    records.iter().try_for_each(|it| restore.push(it))?;
    restore.finish()
}

#[test]
fn every_form_is_written_as_its_golden_file_has_it() {
    for (name, bytes) in forms() {
        let path = path(name);
        if std::env::var_os("LOCKSTEP_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap();
        assert!(golden == bytes, "{}: {HOW_TO_CHANGE}", path.display());
    }
}

#[test]
fn every_committed_file_is_read() {
    let golden = |name| std::fs::read(path(name)).unwrap();
    assert_eq!(
        Batch::decode(&golden("batch.1")),
        Ok(batch()),
        "{HOW_TO_CHANGE}"
    );
    let outcome = OUTCOME_FORMAT.decode(&golden("outcome.1"));
    assert_eq!(outcome.as_ref(), Ok(&outcomes()[2]), "{HOW_TO_CHANGE}");
    let event_read = codec::decode::<Event>("event", &golden("event.1"));
    assert_eq!(event_read, Ok(event()), "{HOW_TO_CHANGE}");
    let read = |name| restored(&records(&golden(name))).expect(HOW_TO_CHANGE);
    assert_eq!(read("snapshot.4").hash(), state().hash());
    assert_eq!(Batch::decode(&golden("batch-level.1")), Ok(raising()));
    assert_eq!(read("snapshot-level.4").hash(), raised().hash());
    let (header, restored) = read_backup(&golden("backup.1")).expect(HOW_TO_CHANGE);
    assert_eq!(header, backup_header());
    assert_eq!(restored.hash(), state().hash());
}

#[test]
fn a_state_without_a_level_is_at_the_first_and_one_with_a_newer_level_is_of_a_newer_build() {
    let golden = |name| records(&std::fs::read(path(name)).unwrap());
    let without = restored(&golden("snapshot.4")).unwrap();
    assert_eq!(without.level(), FeatureLevel::FIRST);
    let mut records = golden("snapshot-level.4");
    let with = restored(&records).unwrap();
    assert_eq!(with.level().get(), 2);
    assert_eq!(with.limits().feature_level_max, 9);
    // The level is the header's last field.
    let newer = FeatureLevel::NEWEST.get() + 1;
    *records[0].last_mut().unwrap() = newer as u8;
    let Err(RestoreError::Newer(error)) = restored(&records) else {
        panic!("a newer level is not known");
    };
    assert!(
        matches!(error, CodecError::UnknownLevel { found, .. } if found == newer),
        "{error}"
    );
}

#[test]
fn a_raise_beyond_what_this_build_supports_stops_the_whole_entry() {
    let command = Command::RaiseLevel(FeatureLevel::NEWEST);
    let mut body = RequestBody { command, key: None }.encode().to_vec();
    // The level ends the command.
    *body.last_mut().unwrap() = FeatureLevel::NEWEST.get() as u8 + 1;
    let refused = RequestBody::validate(&body).unwrap_err();
    assert!(
        matches!(refused, CodecError::UnknownLevel { .. }),
        "{refused}"
    );
    let mut batch = EncodedBatch::new(Timestamp(1));
    batch.push(fixtures::origin(1), &body);
    let payload = batch.into_bytes();
    let error = DecodedBatch::decode(&payload).map(drop).unwrap_err();
    assert_eq!(error, refused);
}

#[test]
fn a_newer_version_is_an_unknown_format() {
    let newer = |mut bytes: Vec<u8>| {
        bytes[0] += 1;
        bytes
    };
    let batch = newer(batch().encode().to_vec());
    let outcome = newer(OUTCOME_FORMAT.encode(&outcomes()[0]));
    for (format, error) in [
        (BATCH_FORMAT, DecodedBatch::decode(&batch).map(drop)),
        (
            OUTCOME_FORMAT,
            OUTCOME_FORMAT.decode::<Outcome>(&outcome).map(drop),
        ),
    ] {
        let Format { what, version } = format;
        let unknown = CodecError::UnknownFormat {
            what,
            found: version + 1,
            supported: version,
        };
        assert_eq!(error, Err(unknown));
    }
    let mut snapshot: Vec<_> = state().records().collect();
    snapshot[0][0] += 1;
    assert!(matches!(
        restored(&snapshot),
        Err(RestoreError::Newer(CodecError::UnknownFormat { .. }))
    ));
}

#[test]
fn every_command_survives_the_log_and_no_damage_to_it_panics() {
    for command in commands().into_iter().chain(sink_commands()) {
        let body = RequestBody { command, key: None }.encode();
        assert_eq!(RequestBody::validate(&body), Ok(()));
        let origin = fixtures::origin(1);
        let mut batch = EncodedBatch::new(Timestamp(1));
        batch.push(origin, &body);
        let payload = batch.into_bytes();
        assert_eq!(
            Batch::decode(&payload).map(|it| it.encode()),
            Ok(payload.clone())
        );
        for at in 0..payload.len() {
            let cut = DecodedBatch::decode(&payload[..at]);
            assert!(cut.is_err() || cut.is_ok_and(|it| it.requests().len() == 0));
            let mut payload = payload.to_vec();
            for byte in [0, 0x1b, 0x3b, 0x5b, 0x7f, 0x9f, 0xbf, 0xf6, 0xff] {
                payload[at] = byte;
                drop(DecodedBatch::decode(&payload));
            }
        }
    }
}

#[test]
fn a_malformed_body_rejects_that_request_alone() {
    let good = RequestBody {
        command: commands().remove(0),
        key: None,
    };
    let good = good.encode();
    let mut bad = good.to_vec();
    bad.truncate(bad.len() - 1);
    assert!(
        !RequestBody::validate(&bad)
            .unwrap_err()
            .is_from_newer_build()
    );
    let mut batch = EncodedBatch::new(Timestamp(1));
    batch.push(fixtures::origin(1), &bad);
    batch.push(fixtures::origin(2), &good);
    let payload = batch.into_bytes();
    let mut state = State::default();
    let replies = state.apply_decoded(&DecodedBatch::decode(&payload).unwrap());
    let malformed = Outcome::Rejected(Rejection::MalformedRequest);
    assert_eq!(replies[0].outcome, malformed);
    assert_eq!(replies[1].outcome.kind(), "unknown_machine");
    assert_eq!(state.revision(), GlobalRevision(0));
}

#[test]
fn a_command_or_format_of_a_newer_build_stops_the_whole_entry() {
    let good = RequestBody {
        command: commands().remove(0),
        key: None,
    };
    let good = good.encode().to_vec();
    // Format byte, array of one field, array of the variant's number and its fields.
    let mut newer_kind = good.clone();
    newer_kind[3] = 23;
    let mut newer_format = good;
    newer_format[0] += 1;
    let command = Command::UpdateSettings([(Setting::KeysMax, 7)].into());
    let mut newer_setting = RequestBody { command, key: None }.encode().to_vec();
    // The map of one entry ends the command: the setting's number is behind its head.
    let map = newer_setting.iter().rposition(|it| *it == 0xa1).unwrap();
    newer_setting[map + 1] = 23;
    for body in [newer_kind, newer_format, newer_setting] {
        assert!(
            RequestBody::validate(&body)
                .unwrap_err()
                .is_from_newer_build()
        );
        let mut batch = EncodedBatch::new(Timestamp(1));
        batch.push(fixtures::origin(1), &body);
        let payload = batch.into_bytes();
        let error = DecodedBatch::decode(&payload).map(drop).unwrap_err();
        assert!(error.is_from_newer_build(), "{error}");
    }
}

#[test]
fn the_hash_of_a_state_is_the_same_in_every_build() {
    assert_eq!(
        state().hash().to_string(),
        "4:cec467b183e96fc0024eb4d56126d212",
        "{HOW_TO_CHANGE}"
    );
}

#[test]
fn limits_that_an_older_build_did_not_know_have_their_defaults() {
    // An array of the first bound alone, and one with a bound that this build does not know.
    let first = codec::decode::<Limits>("limits", &[0x81, 7]).unwrap();
    let expected = Limits {
        keys_max: 7,
        ..Limits::default()
    };
    assert_eq!(first, expected);
    let bytes = codec::encode(&expected);
    assert_eq!(bytes[0], 0x93, "an array of the 19 settings of level 1");
    let all = Limits {
        feature_level_max: 3,
        ..expected
    };
    let mut bytes = codec::encode(&all);
    assert_eq!(bytes[0] as usize, 0x80 + Setting::ALL.len());
    bytes[0] += 1;
    bytes.push(5);
    assert_eq!(codec::decode("limits", &bytes), Ok(all));
}

#[test]
fn a_failed_operation_within_a_failed_operation_is_refused_at_any_depth() {
    let failed = OUTCOME_FORMAT.encode(&outcomes()[2]);
    // Format byte, [1, [19, position, reason]].
    let (start, level) = (&failed[..3], &failed[3..6]);
    let nested = [start, &level.repeat(1_000_000), &failed[6..]].concat();
    assert!(OUTCOME_FORMAT.decode::<Outcome>(&nested).is_err());
    assert!(OUTCOME_FORMAT.decode::<Outcome>(&failed).is_ok());
}
