//! Golden files: every form on disk, as written by earlier builds.
#![cfg(test)]

use std::io;

use crate::store::StoreError;
use crate::{consensus, store};

const HOW_TO_CHANGE: &str = "\
A form on disk has changed; nodes with older data could not read it, or older nodes not the new form. \
If an optional field was added, the committed file must still be read: add a value that has the field, \
under a new name, to `forms`, run with LOCKSTEP_WRITE_GOLDEN=1, and commit the new file beside the old \
one. Any other change needs a new format number, and code that still reads the old one. Never overwrite \
a committed file.";

type Rewrite = Box<dyn Fn(&[u8]) -> io::Result<Vec<u8>>>;
type Renumber = Box<dyn Fn(&mut Vec<u8>, u32)>;

/// A form on disk.
pub(crate) struct Form {
    /// Its golden file is `<name>.<format>.bin`.
    pub(crate) name: &'static str,
    /// The format that this build writes.
    pub(crate) format: u32,
    /// What this build writes.
    pub(crate) bytes: Vec<u8>,
    /// Reads the form and writes it again.
    pub(crate) rewrite: Rewrite,
    /// Gives it another format number, and the checksum that belongs to that.
    pub(crate) renumber: Renumber,
}

fn forms() -> Vec<Form> {
    let mut forms = consensus::wire::golden_tests::forms();
    forms.extend(store::golden_tests::forms());
    forms
}

#[test]
fn every_form_is_written_and_read_as_its_golden_file_has_it() {
    for form in forms() {
        let path = format!(
            "{}/tests/golden/{}.{}.bin",
            env!("CARGO_MANIFEST_DIR"),
            form.name,
            form.format
        );
        let write = std::env::var_os("LOCKSTEP_WRITE_GOLDEN").is_some();
        if write && !std::path::Path::new(&path).exists() {
            std::fs::write(&path, &form.bytes).unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(golden == form.bytes, "{path}: {HOW_TO_CHANGE}");
        match (form.rewrite)(&golden) {
            Ok(again) => assert!(again == golden, "{path}: {HOW_TO_CHANGE}"),
            Err(error) => panic!("{path}: {error}. {HOW_TO_CHANGE}"),
        }
    }
}

#[test]
fn another_format_is_an_unknown_format_that_names_both_versions_and_the_remedy() {
    for form in forms() {
        let Form {
            name,
            format,
            mut bytes,
            rewrite,
            renumber,
        } = form;
        renumber(&mut bytes, format + 1);
        let error = rewrite(&bytes).unwrap_err();
        let text = error.to_string();
        let store = error.downcast::<StoreError>().expect(name);
        assert!(matches!(store, StoreError::Format { .. }), "{name}: {text}");
        assert_eq!(store.code(), "store_format", "{name}");
        let expected = format!(
            "has format {}; this build reads format {format}: run the release that wrote it, or a later one",
            format + 1
        );
        assert!(text.ends_with(&expected), "{name}: {text}");
    }
}
