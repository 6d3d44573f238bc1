//! The documents of a file.

use lockstep_machine::{Definition, DocumentError, Limits};
use serde::de::IgnoredAny;

use super::{Language, Source};
use crate::Failure;

/// The most documents in one file: as many as a cluster has machines unless that limit is raised.
const DOCUMENTS_MAX: usize = 1000;

impl Source {
    /// The documents of a YAML stream or of a file of JSON values, in order. Those without content are left
    /// out.
    pub(crate) fn documents(&self) -> Result<Vec<Document>, Failure> {
        let (text, language) = self.document()?;
        let found = match language {
            Language::Json => json_values(&text),
            Language::Yaml => lockstep_document::documents(&text),
        };
        match found.len() {
            0 => return Err(self.empty()),
            1..=DOCUMENTS_MAX => {}
            _ => {
                let message = format!("{self} has more than {DOCUMENTS_MAX} documents; split it");
                return Err(Failure::input("document_too_large", message));
            }
        }
        let is_alone = found.len() == 1;
        let read = |(number, (lines_before, text)): (usize, (usize, &str))| {
            let blank = &text[..text.len() - text.trim_start().len()];
            // The indentation of the first line counts in YAML.
            let begin = blank.rfind('\n').map_or(0, |at| at + 1);
            Document {
                number: (!is_alone).then_some(number),
                line: lines_before + newlines(blank) + 1,
                text: text[begin..].to_owned(),
                language,
            }
        };
        Ok((1..).zip(found).map(read).collect())
    }
}

/// One document of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Which of the file's documents it is, from 1, if there are several.
    pub(crate) number: Option<usize>,
    /// The line of the file on which it begins, from 1.
    pub(crate) line: usize,
    /// Its text, from that line on.
    pub(crate) text: String,
    pub(crate) language: Language,
}

impl Document {
    /// A message about the syntax of this document, with the file's line in place of the document's.
    pub(crate) fn with_line_of_file(&self, message: &str) -> String {
        let syntax = |text: &str| match self.parsed(text) {
            Err(error @ DocumentError::Syntax { .. }) => Some(error.to_string()),
            _ => None,
        };
        let in_document = syntax(&self.text);
        let in_file = syntax(&("\n".repeat(self.line - 1) + &self.text));
        match in_document.zip(in_file) {
            Some((in_document, in_file)) => message.replace(&in_document, &in_file),
            None => message.to_owned(),
        }
    }

    /// The definition in a text. The limits are the cluster's: here it has none.
    fn parsed(&self, text: &str) -> Result<Definition, DocumentError> {
        let limits = Limits {
            states_max: u64::MAX,
            transitions_max: u64::MAX,
            document_bytes_max: u64::MAX,
            metadata_entries_max: u64::MAX,
            metadata_bytes_max: u64::MAX,
            ..Limits::default()
        };
        match self.language {
            Language::Json => lockstep_document::parse_json(text, &limits),
            Language::Yaml => lockstep_document::parse_yaml(text, &limits),
        }
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// The JSON values of a text, each with the number of lines before it. What cannot be parsed is the last one.
fn json_values(text: &str) -> Vec<(usize, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let (mut found, mut start, mut lines_before) = (vec![], 0, 0);
    while let Some(value) = values.next() {
        let end = match value {
            Ok(_) => values.byte_offset(),
            Err(_) => text.len(),
        };
        found.push((lines_before, &text[start..end]));
        if end == text.len() || found.len() > DOCUMENTS_MAX {
            break;
        }
        lines_before += newlines(&text[start..end]);
        start = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents of a file with this text.
    fn documents_of(name: &str, text: &str) -> Vec<Document> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        Source::File(path).documents().expect("it can be read")
    }

    #[test]
    fn the_lines_before_a_document_do_not_count_towards_its_size() {
        let comments = "# nothing\n".repeat(1000);
        let yaml = format!("{comments}---\n  a: 1\n---\n\nb: [1\n");
        let found = documents_of("a.yaml", &yaml);
        let expected = [(1002, "  a: 1\n"), (1005, "b: [1\n")];
        let read: Vec<_> = found.iter().map(|it| (it.line, it.text.as_str())).collect();
        assert_eq!(read, expected);

        let json = format!("{}{{}}\n\n  {{\n  ]\n", "\n".repeat(1000));
        let found = documents_of("a.json", &json);
        let read: Vec<_> = found.iter().map(|it| (it.line, it.text.as_str())).collect();
        assert_eq!(read, [(1001, "{}"), (1003, "  {\n  ]\n")]);

        // A fault's line is still that of the file.
        let fault = found[1]
            .parsed(&found[1].text)
            .expect_err("it is no JSON")
            .to_string();
        assert!(fault.contains("(line 2, column 3)"), "{fault}");
        let fault = found[1].with_line_of_file(&format!("document: {fault}"));
        assert!(fault.contains("(line 1004, column 3)"), "{fault}");
    }

    #[test]
    fn json_values_are_separated_and_keep_their_lines() {
        assert_eq!(json_values(" {}\n"), [(0, " {}")]);
        assert_eq!(
            json_values("{}\n\n{\n}{\"a\": 1}\n"),
            [(0, "{}"), (0, "\n\n{\n}"), (3, "{\"a\": 1}")]
        );
        assert_eq!(
            json_values("{}\n{]\n{}"),
            [(0, "{}"), (0, "\n{]\n{}")],
            "what cannot be parsed is left to the cluster to explain"
        );
        assert_eq!(json_values(&"{}".repeat(5000)).len(), DOCUMENTS_MAX + 1);
    }
}
