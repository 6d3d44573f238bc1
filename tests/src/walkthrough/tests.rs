use super::*;

const TEXT: &str = "\
Type:
```console
$ one
first
second
$ two \\
> more
```
```yaml
$ not: this
```
```console
$ three
$ four
```
";

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_document_is_read_as_commands_with_their_output() {
    let steps = steps(TEXT).unwrap();
    let read: Vec<_> = steps
        .iter()
        .map(|step| (step.line, step.command.as_str(), step.output.join("|")))
        .collect();
    assert_eq!(
        read,
        [
            (3, "one", "first|second".to_owned()),
            (6, "two \\\nmore", String::new()),
            (13, "three", String::new()),
            (14, "four", String::new()),
        ]
    );
}

#[test]
fn an_invalid_document_is_reported_with_its_line() {
    for (text, place) in [
        ("```console\nof nothing\n```", "line 2"),
        ("```console\n$ one\n```\n```console\nlate\n```", "line 5"),
        ("```console\n$ one", "does not end"),
    ] {
        let error = steps(text).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn an_ellipsis_stands_for_text_or_for_lines_and_a_time_for_any() {
    for (written, said, fits) in [
        ("paid", "paid", true),
        ("paid  ", "paid", true),
        ("paid", "placed", false),
        ("revision …, late … ms", "revision 17, late 3 ms", true),
        ("revision …, late", "revision 17", false),
        ("AGE  …    here", "AGE  12s  here", true),
        ("AGE  …    here", "AGE  12shere", false),
        ("a\n…\nb", "a\nb", true),
        ("a\n…\nb", "a\n1\n2\nb", true),
        ("a\n…\nb", "a\n1\n2", false),
        (
            "at 2026-11-24T07:30:00.000Z.",
            "at 2031-01-02T03:04:05.678Z.",
            true,
        ),
        ("at 2026-11-24T07:30:00.000Z", "at noon", false),
    ] {
        assert_eq!(
            is_as_written(&lines(written), &lines(said)),
            fits,
            "{written:?} {said:?}"
        );
    }
}

#[test]
fn a_difference_shows_what_was_written_and_what_came() {
    let step = Step {
        line: 7,
        command: "lockstep get order/42".to_owned(),
        output_at: 7,
        indent: String::new(),
        output: lines("ID\norder/42  placed\nend"),
    };
    let shown = difference(&step, &lines("ID\norder/42  paid\nand more\nend"));
    assert!(
        shown.ends_with(
            "  $ lockstep get order/42\n  ID\n- order/42  placed\n+ order/42  paid\n+ and more\n  end\n"
        ),
        "{shown}"
    );
}

#[test]
fn a_document_is_corrected_in_place() {
    let mut steps = steps(TEXT).unwrap();
    let two = steps.remove(1);
    let one = steps.remove(0);
    let corrected = [(one, lines("other")), (two, lines("said\nsaid"))];
    let text = TEXT.replace("first\nsecond", "other");
    let text = text.replace("> more\n", "> more\nsaid\nsaid\n");
    assert_eq!(rewritten(TEXT, &corrected), text);
}

#[test]
fn a_block_in_a_list_is_read_and_corrected_without_its_indentation() {
    let text = "1. Type:\n\n   ```console\n   $ one\n   first\n   ```\n";
    let mut steps = steps(text).unwrap();
    let step = steps.remove(0);
    assert_eq!(
        (step.command.as_str(), step.output.join("|")),
        ("one", "first".to_owned())
    );
    let corrected = rewritten(text, &[(step, lines("second"))]);
    assert_eq!(corrected, text.replace("first", "second"));
}

#[test]
fn a_section_ends_at_the_next_heading() {
    let text = "# One\n\n```console\n$ one\n# output\n```\n### Two\ntext\n## Three\n";
    assert_eq!(section(text, "One"), Some(2..7));
    assert_eq!(section(text, "Two"), Some(8..9));
    assert_eq!(section(text, "Three"), Some(10..usize::MAX));
    assert_eq!(section(text, "output"), None);
}
