//! Values from a document; a fault has its place.

use lockstep_document::SeveralDocuments;
use lockstep_machine::json::{explain_json, known_path};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{Language, Source};
use crate::Failure;

/// Parses a document of JSON or YAML; a fault has its path, its line and its column.
pub(crate) fn decode<T: DeserializeOwned>(
    source: &Source,
    text: &str,
    language: Language,
) -> Result<T, Failure> {
    // The document itself.
    let mut path = ".".to_owned();
    let decoded = match language {
        Language::Json => {
            let mut reader = serde_json::Deserializer::from_str(text);
            located(&mut reader, &mut path)
                .and_then(|value| reader.end().map(|()| value))
                .map_err(|error| {
                    let message = explain_json(text.as_bytes(), &error);
                    (message, error.line(), error.column())
                })
        }
        Language::Yaml => yaml(text, &mut path),
    };
    decoded.map_err(|(message, line, column)| {
        let subject = match known_path(&path) {
            None => source.to_string(),
            Some(path) => format!("{source}: {path}"),
        };
        let place = match line {
            0 => String::new(),
            line => format!(" (line {line}, column {column})"),
        };
        Failure::input("malformed_document", format!("{subject}: {message}{place}"))
            .with("path", path)
            .with("line", line)
            .with("column", column)
    })
}

/// Sets the path of a fault: `operations[0].create.id`.
fn located<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    reader: D,
    path: &mut String,
) -> Result<T, D::Error> {
    serde_path_to_error::deserialize(reader).map_err(|error| {
        *path = error.path().to_string();
        error.into_inner()
    })
}

fn yaml<T: DeserializeOwned>(text: &str, path: &mut String) -> Result<T, (String, usize, usize)> {
    let (lines_before, text) =
        lockstep_document::one_document(text).map_err(|SeveralDocuments { count, line }| {
            let message = format!("there are {count} documents; write all operations in one");
            (message, line, 1)
        })?;
    let options = lockstep_document::yaml_options(DuplicateKeyPolicy::Error);
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        located(reader, path)
    })
    .map_err(|error| {
        let place = error.location().map_or((0, 0), |at| {
            (lines_before + at.line() as usize, at.column() as usize)
        });
        (lockstep_document::explain_yaml(&error), place.0, place.1)
    })
}

#[cfg(test)]
mod tests {
    use super::super::lines::parse;
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "is never read")]
    struct Sample {
        id: lockstep_machine::InstanceId,
        version: Option<lockstep_machine::Version>,
        metadata: Option<lockstep_machine::Metadata>,
        kinds: Option<Vec<Kind>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "is never read")]
    enum Kind {
        Check(u8),
        Create,
    }

    #[test]
    fn no_error_about_a_document_or_a_line_quotes_a_library() {
        let good = r#"{"id": "a/b", "version": 1, "metadata": {"by": "ann"}, "kinds": ["create", {"check": 7}]}"#;
        let mut texts: Vec<String> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
        for wrong in [
            "7", "-1", "1.5", "null", "true", "[]", "{}", "\"x\"", "x", "*a", "&a",
        ] {
            let places = good.match_indices(": ").map(|(at, found)| at + found.len());
            texts.extend(places.map(|at| {
                let end = good[at..].find([',', '}']).map_or(good.len(), |it| at + it);
                format!("{}{wrong}{}", &good[..at], &good[end..])
            }));
        }
        let odd = [
            "{\"a\": 1}",
            "id: a\nid: b",
            "<<: {}",
            "- a",
            "a: b: c",
            "'",
            "? [a]\n: b",
            "!!set {a}",
        ];
        texts.extend(odd.map(str::to_owned));
        let mut faults = 0;
        for text in texts {
            let json = decode::<Sample>(&Source::Stdin, &text, Language::Json);
            let yaml = decode::<Sample>(&Source::Stdin, &text, Language::Yaml);
            let said = [json, yaml].into_iter().filter_map(Result::err);
            let said: Vec<String> = said.map(|it| it.message().to_owned()).collect();
            let line = parse::<Sample>(&text).err();
            for message in said.into_iter().chain(line) {
                let word = lockstep_machine::library_words(&message);
                assert_eq!(word, None, "{text}: {message}");
                faults += 1;
            }
        }
        assert!(faults > 200, "{faults}");
    }
}
