//! The languages that lay out a diagram themselves.

use super::Diagram;

impl Diagram<'_> {
    /// Writes it in Mermaid's language.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("stateDiagram-v2\n");
        for (i, state) in self.states().iter().enumerate() {
            text.push_str(&format!("    state \"{}\" as s{i}\n", state.name));
        }
        text.push_str(&format!("    [*] --> s{}\n", self.initial));
        for arrow in &self.arrows {
            // Mermaid has no style for the arrows of a state diagram.
            let taken = arrow.is_taken.then_some("(taken)");
            let labels = arrow.labels.join(", ");
            let label = [labels.as_str(), taken.unwrap_or_default()].join(" ");
            let label = match label.trim() {
                "" => String::new(),
                label => format!(": {label}"),
            };
            text.push_str(&format!("    s{} --> s{}{label}\n", arrow.from, arrow.to));
        }
        for (i, state) in self.states().iter().enumerate() {
            if state.is_final {
                text.push_str(&format!("    s{i} --> [*]\n"));
            }
        }
        if let Some(i) = self.current {
            text.push_str("    classDef current fill:#ffd54f,stroke:#333,stroke-width:3px\n");
            text.push_str(&format!("    class s{i} current\n"));
        }
        text
    }

    /// Writes it in Graphviz's language.
    pub fn dot(&self) -> String {
        let name = quoted(self.definition.name.as_str());
        let mut text = format!("digraph {name} {{\n");
        text.push_str("    node [shape=box, style=rounded];\n");
        text.push_str("    start [shape=point];\n");
        for (i, state) in self.states().iter().enumerate() {
            let mut marks = vec![format!("label={}", quoted(state.name.as_str()))];
            if state.is_final {
                marks.push("peripheries=2".to_owned());
            }
            if Some(i) == self.current {
                marks.push("style=\"rounded,filled\", fillcolor=\"#ffd54f\"".to_owned());
            }
            text.push_str(&format!("    s{i} [{}];\n", marks.join(", ")));
        }
        text.push_str(&format!("    start -> s{};\n", self.initial));
        for arrow in &self.arrows {
            let mut marks = vec![];
            if !arrow.labels.is_empty() {
                marks.push(format!("label={}", quoted(&arrow.labels.join("\n"))));
            }
            if arrow.is_timeout {
                marks.push("style=dashed".to_owned());
            }
            if arrow.is_taken {
                marks.push("color=\"#b26a00\", penwidth=3".to_owned());
            }
            let marks = match marks.join(", ") {
                marks if marks.is_empty() => marks,
                marks => format!(" [{marks}]"),
            };
            text.push_str(&format!("    s{} -> s{}{marks};\n", arrow.from, arrow.to));
        }
        text.push_str("}\n");
        text
    }
}

/// A text in Graphviz's quotes.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}
