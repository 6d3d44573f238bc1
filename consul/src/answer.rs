//! Reads the answers of an agent, and says what is wrong with one that cannot be read: where, what stands
//! there, and what was expected.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// The longest part of an answer that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Reads an answer of JSON.
///
/// # Errors
///
/// What is wrong with it, in a sentence.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader);
    let whole = read.map_err(|error| Some(error.path().clone()));
    whole
        .and_then(|value| reader.end().map(|()| value).map_err(|_| None))
        .map_err(|path| format!("{}; expected {expected}", fault(body, path.as_ref())))
}

fn fault(body: &[u8], path: Option<&Path>) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim().is_empty() {
        return "the answer is empty".to_owned();
    }
    match (serde_json::from_slice::<Value>(body), path) {
        (Ok(answer), Some(path)) => {
            let (place, found) = at(&answer, path);
            format!("{place} is {}", shown(&found.to_string()))
        }
        (Err(error), _) if error.is_eof() => {
            format!("the answer ends too early, after {} bytes", body.len())
        }
        _ => format!(
            "the answer is not JSON, it begins with {}",
            shown(text.trim())
        ),
    }
}

/// The value at a path, or the innermost one on the way to it, and its place in words.
fn at<'v>(answer: &'v Value, path: &Path) -> (String, &'v Value) {
    let (mut place, mut found) = (String::new(), answer);
    for segment in path.iter() {
        let inner = match segment {
            Segment::Seq { index } => found.get(index).map(|it| (format!("[{index}]"), it)),
            Segment::Map { key } => found.get(key).map(|it| (format!(".{key}"), it)),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some((step, inner)) = inner else { break };
        place += &step;
        found = inner;
    }
    match place.trim_start_matches('.') {
        "" => ("the answer".to_owned(), found),
        place => (place.to_owned(), found),
    }
}

fn shown(text: &str) -> String {
    let line: String = text.chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{HEALTHY, HealthyService, Service};
    use crate::registration::HeldCheck;
    use lockstep_machine::library_words;
    use std::collections::HashMap;

    fn services(body: &str) -> String {
        read::<Vec<HealthyService>>(body.as_bytes(), HEALTHY).expect_err(body)
    }

    #[test]
    fn an_answer_that_cannot_be_read_says_where_what_stands_there_and_what_is_expected() {
        for (body, fault) in [
            ("", "the answer is empty"),
            ("<html>\n", "the answer is not JSON, it begins with <html>"),
            ("[{\"Node\"", "the answer ends too early, after 8 bytes"),
            ("[] []", "the answer is not JSON, it begins with [] []"),
            ("{}", "the answer is {}"),
            ("\"x\"", "the answer is \"x\""),
            ("[7]", "[0] is 7"),
            (r#"[{"Node":{},"Service":{"ID":7}}]"#, "[0].Service.ID is 7"),
            (r#"[{"Node":{},"Service":{}}]"#, "[0].Service is {}"),
            (
                r#"[{"Service":{"ID":"a"}}]"#,
                r#"[0] is {"Service":{"ID":"a"}}"#,
            ),
            (
                r#"[{"Node":{},"Service":{"ID":"a","Meta":{"name":1}}}]"#,
                "[0].Service.Meta.name is 1",
            ),
        ] {
            assert_eq!(
                services(body),
                format!("{fault}; expected {HEALTHY}"),
                "{body}"
            );
        }
        let long = services(&format!("[{}7]", "0,".repeat(10_000)));
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn no_fault_of_an_answer_has_a_word_of_a_library() {
        let bodies = [
            "",
            "x",
            "nul",
            "{",
            "[",
            "[1",
            "\"",
            "7",
            "-",
            "null",
            "true",
            "[]",
            "{}",
            "[[]]",
            "[{}]",
            "{\"Service\":7}",
            "{\"Service\":\"a\",\"Port\":\"x\"}",
            "{\"Service\":\"a\",\"Port\":-1}",
            "{\"a\":7}",
            "{\"a\":{\"Notes\":7}}",
            "[{\"Node\":[],\"Service\":{\"ID\":\"a\"}}]",
            "[{\"Node\":{\"Address\":7},\"Service\":{\"ID\":\"a\"}}]",
            "[{\"Node\":{},\"Service\":{\"ID\":\"a\",\"Port\":\"x\",\"Tags\":7}}]",
            "\u{0}",
            "[1e999]",
        ];
        for body in bodies {
            let bytes = body.as_bytes();
            let read = [
                read::<Vec<HealthyService>>(bytes, HEALTHY).err(),
                read::<Service>(bytes, "a service").err(),
                read::<HashMap<String, HeldCheck>>(bytes, "checks").err(),
                read::<bool>(bytes, "true or false").err(),
            ];
            for fault in read.into_iter().flatten() {
                assert_eq!(library_words(&fault), None, "{body}: {fault}");
            }
        }
        assert!(read::<bool>(b"\xff", "true or false").is_err());
    }
}
