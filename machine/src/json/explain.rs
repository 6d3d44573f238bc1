//! Messages of serde and serde_json, in the words of this product.

use serde::de::IgnoredAny;

use crate::nearest::nearest;

/// The longest part of a document that a message repeats, in characters.
const PART_CHARS_MAX: usize = 80;
const VALUE_EXPECTED: &str = "a value is expected here";

/// What a message of serde or serde_json says about a document: what is there, what is expected, and what to
/// write instead. Other messages stay as they are. The position that serde_json appends is left out.
pub fn explain(message: &str) -> String {
    let message: String = message.chars().filter(|it| !it.is_control()).collect();
    let message = without_position(&message);
    for prefix in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = parts(message, prefix) {
            let (expected, found) = (expected_noun(expected), found_noun(found));
            return format!("expected {expected}, found {found}");
        }
    }
    if let Some((count, expected)) = parts(message, "invalid length ") {
        // An object of the wrong length is one with a missing or an unknown field.
        let expected = expected_noun(expected);
        return format!("expected {expected}, found a list of length {count}");
    }
    about_fields(message).unwrap_or_else(|| about_syntax(message))
}

/// What is wrong with a text that is read as JSON. The position is not part of it.
pub fn explain_json(text: &[u8], error: &serde_json::Error) -> String {
    let explained = explain(&error.to_string());
    // serde_json also says it of a value that should be one of an enum's kinds.
    match explained == VALUE_EXPECTED && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        true => "expected an object with one field, which names its kind".to_owned(),
        false => explained,
    }
}

/// A path of serde_path_to_error as far as it is known; none for the document itself.
pub fn known_path(path: &str) -> Option<&str> {
    match path.strip_suffix(".?").unwrap_or(path) {
        "." | "?" => None,
        known => Some(known),
    }
}

/// The message without ` at line 3 column 9` at its end.
fn without_position(message: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match message.rsplit_once(" at line ") {
        Some((before, position))
            if position
                .split_once(" column ")
                .is_some_and(|(line, column)| is_number(line) && is_number(column)) =>
        {
            before
        }
        _ => message,
    }
}

/// The two parts of `<prefix><found>, expected <expected>`.
fn parts<'m>(message: &'m str, prefix: &str) -> Option<(&'m str, &'m str)> {
    message.strip_prefix(prefix)?.rsplit_once(", expected ")
}

/// The parts of a message that stand between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A message about the fields of an object, or the variants of an enum.
fn about_fields(message: &str) -> Option<String> {
    let rest = |prefix| message.strip_prefix(prefix);
    if let Some(name) = rest("missing field `") {
        let name = name.trim_end_matches('`');
        return Some(format!("the field {name:?} is missing"));
    }
    if let Some(name) = rest("duplicate field `") {
        let name = name.trim_end_matches('`');
        return Some(format!("the field {name:?} appears twice; give it once"));
    }
    let is_field = message.starts_with("unknown field `");
    let rest = rest("unknown field `").or_else(|| rest("unknown variant `"))?;
    // The name may hold backticks, the list of what is known holds none but its own.
    let (name, known) = rest
        .rsplit_once("`, expected ")
        .or_else(|| rest.rsplit_once("`, there are no "))?;
    let known: Vec<_> = quoted(known).collect();
    let near = nearest(name, known.iter().copied());
    let hint = near.map(|near| format!("; did you mean {near:?}?"));
    let (name, known) = (shortened(name), known.join(", "));
    Some(match (is_field, hint) {
        (true, Some(hint)) => format!("there is no field {name:?}{hint}"),
        (true, None) if known.is_empty() => {
            format!("there is no field {name:?}; no field is allowed here")
        }
        (true, None) => format!("there is no field {name:?}; the fields are {known}"),
        (false, hint) => format!("{name:?} is none of {known}{}", hint.unwrap_or_default()),
    })
}

/// A message about the syntax of JSON.
fn about_syntax(message: &str) -> String {
    let plain = match message {
        it if it.starts_with("EOF while parsing") => "it ends too early",
        it if it.starts_with("data did not match any variant") => {
            "it has none of the forms that are allowed here"
        }
        it if it.starts_with("control character") => {
            "a text contains a control character; write it as an escape, such as \\n or \\u0007"
        }
        "expected value" | "expected ident" => VALUE_EXPECTED,
        "trailing characters" => "something follows the end of the document",
        "trailing comma" => "a comma is followed by nothing",
        "key must be a string" => "a key must be text in double quotes",
        "invalid number" => "a number is not written as in JSON",
        "number out of range" => "a number is too large",
        "invalid escape" => "a text contains an escape that JSON does not have",
        "invalid unicode code point"
        | "lone leading surrogate in hex escape"
        | "unexpected end of hex escape" => "a text contains what is not a Unicode character",
        "recursion limit exceeded" => "it is nested too deeply",
        other => return other.chars().take(5 * PART_CHARS_MAX).collect(),
    };
    plain.to_owned()
}

fn expected_noun(serde: &str) -> &str {
    let object = ["struct ", "internally tagged", "adjacently tagged"];
    match serde {
        "a string" | "a borrowed string" | "a character" | "a string key" | "char" => "text",
        "a boolean" | "boolean" | "bool" => "true or false",
        "a map" => "an object",
        "a sequence" => "a list",
        "unit" => "null",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => {
            "a whole number"
        }
        "f32" | "f64" | "a JSON number" => "a number",
        "option" => "a value or null",
        "field identifier" => "the name of a field",
        "variant identifier" | "string or map" => "one of its kinds",
        it if object.iter().any(|prefix| it.starts_with(prefix)) => "an object",
        it if it.starts_with("enum ") => "one of its kinds",
        it if it.contains("struct ") || it.contains(" variant ") => "an object",
        it if it.contains("tuple") || it.starts_with("an array of length") => "a list",
        it => it,
    }
}

fn found_noun(serde: &str) -> String {
    let quoted = |prefix| serde.strip_prefix(prefix)?.strip_suffix('`');
    match serde {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        "unit value" | "Option value" | "null" => "null".to_owned(),
        it if it.starts_with("string ") => {
            format!("the text {}", shortened(&it["string ".len()..]))
        }
        it => {
            let number = quoted("integer `").or_else(|| quoted("floating point `"));
            let number = number.map(|it| format!("the number {it}"));
            let flag = || quoted("boolean `").map(str::to_owned);
            number.or_else(flag).unwrap_or_else(|| shortened(it))
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(PART_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::library_words;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "is never read")]
    struct Sample {
        text: String,
        number: Option<u64>,
        list: Option<Vec<bool>>,
        kind: Option<Kind>,
        pair: Option<(u8, f64)>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Webhook,
        Database,
    }

    fn explained(json: &str) -> String {
        let error = serde_json::from_str::<Sample>(json).expect_err(json);
        explain_json(json.as_bytes(), &error)
    }

    #[test]
    fn a_path_is_shown_as_far_as_it_is_known() {
        for (path, known) in [
            (".", None),
            ("?", None),
            ("event", Some("event")),
            ("event?", Some("event?")),
            ("operations[0].check.?", Some("operations[0].check")),
        ] {
            assert_eq!(known_path(path), known, "{path}");
        }
    }

    #[test]
    fn messages_of_serde_are_put_in_plain_words() {
        for (json, expected) in [
            ("7", "expected an object, found the number 7"),
            ("null", "expected an object, found null"),
            (r#"{"text": 7}"#, "expected text, found the number 7"),
            (r#"{"text": true}"#, "expected text, found true"),
            (r#"{"text": []}"#, "expected text, found a list"),
            (
                r#"{"number": "x"}"#,
                "expected a whole number, found the text \"x\"",
            ),
            (
                r#"{"number": -1}"#,
                "expected a whole number, found the number -1",
            ),
            (r#"{"list": {}}"#, "expected a list, found an object"),
            (
                r#"{"list": [1.5]}"#,
                "expected true or false, found the number 1.5",
            ),
            (
                r#"{"kind": "webhok"}"#,
                r#""webhok" is none of webhook, database; did you mean "webhook"?"#,
            ),
            ("{}", "the field \"text\" is missing"),
            (
                r#"{"text": "a", "text": "b"}"#,
                "the field \"text\" appears twice; give it once",
            ),
            (
                r#"{"txet": 1}"#,
                "there is no field \"txet\"; did you mean \"text\"?",
            ),
            (
                r#"{"a`, expected `b": 1}"#,
                "there is no field \"a`, expected `b\"; the fields are text, number, list, kind, pair",
            ),
            (
                r#"{"text": "a"} at line 1 column 2"#,
                "something follows the end of the document",
            ),
            (
                r#"{"number": "x at line 3 column 4, expected u64"}"#,
                "expected a whole number, found the text \"x at line 3 column 4, expected u64\"",
            ),
        ] {
            assert_eq!(explained(json), expected, "{json}");
        }
        let long = explained(&format!(r#"{{"number": "{}"}}"#, "x".repeat(10_000)));
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn no_message_about_a_document_has_a_word_of_a_library() {
        for json in [
            "",
            "{",
            "[",
            "\"",
            "nul",
            "x",
            "{\"",
            "{\"text\"",
            "{\"text\": ",
            "{,",
            "[1,]",
            "{1: 2}",
            "\"\\q\"",
            "\"\\ud800\"",
            "\"\\u00",
            "\"\u{7}\"",
            "01",
            "1e999",
            "-",
            "[7]",
            "true",
            "\"x\"",
            "{\"text\": \"a\"",
            "{\"text\": \"a\"} {}",
            "{\"text\": {}}",
            "{\"number\": 1e3}",
            "{\"number\": 18446744073709551616}",
            "{\"list\": [null]}",
            "{\"list\": \"x\"}",
            "{\"kind\": 7}",
            "{\"kind\": {}}",
            "{\"kind\": {\"webhook\": 1}}",
            "{\"kind\": \"\"}",
            "{\"pair\": [1]}",
            "{\"pair\": [1, 2, 3]}",
            "{\"pair\": [256, 1]}",
            "{\"pair\": {}}",
            "{\"pair\": [1, \"x\"]}",
            "{\"text\": null}",
        ] {
            let explained = explained(json);
            assert_eq!(library_words(&explained), None, "{json}: {explained}");
        }
        for (json, words) in [
            ("[]", "expected an object, found a list of length 0"),
            ("{\"text\": \"a\", \"kind\": 7}", "names its kind"),
            ("{\"text\": \"a\", \"kind\": {}}", "names its kind"),
            ("{\"text\": x", "a value is expected here"),
        ] {
            let explained = explained(json);
            assert!(explained.contains(words), "{json}: {explained}");
        }
        let deep = "[".repeat(1000);
        let error = serde_json::from_str::<serde_json::Value>(&deep).unwrap_err();
        assert_eq!(explain(&error.to_string()), "it is nested too deeply");
    }
}
