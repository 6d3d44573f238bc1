//! The machine that most tests use.

/// An order, in YAML: placed, paid, shipped. It expires if it stays in `placed` for `timeout`.
pub fn order(timeout: &str) -> String {
    format!(
        "
name: order
description: A customer's order
initial: placed
states:
  placed: {{ timeout: {{ after: {timeout}, to: expired }} }}
  paid: {{}}
  shipped: {{ final: true }}
  expired: {{ final: true }}
transitions:
  - {{ from: placed, to: paid, event: pay }}
  - {{ from: paid, to: shipped, event: ship }}
"
    )
}
