//! How the bytes of the log are spread over its indexes, so that a bound in bytes can be turned into a
//! bound in log entries without reading the log.

use std::collections::VecDeque;

/// Bytes that one span covers, at least: the precision of every answer.
const SPAN_BYTES: u64 = 64 << 10;

/// Consecutive entries and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    bytes: u64,
}

/// The sizes of the entries in the log, in spans.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes {
    spans: VecDeque<Span>,
}

impl Sizes {
    /// The entry at `index` was appended.
    pub(super) fn push(&mut self, index: u64, bytes: usize) {
        let bytes = bytes as u64;
        match self.spans.back_mut() {
            Some(span) if span.bytes < SPAN_BYTES => span.bytes += bytes,
            _ => self.spans.push_back(Span {
                first: index,
                bytes,
            }),
        }
    }

    /// Everything from `index` on was cut off. The span that is cut keeps its size: it is too large by one
    /// span at most.
    pub(super) fn truncate_from(&mut self, index: u64) {
        let kept = self.spans.partition_point(|span| span.first < index);
        self.spans.truncate(kept);
    }

    /// Everything up to `index` was purged; with the same precision.
    pub(super) fn purge(&mut self, index: u64) {
        while self
            .spans
            .get(1)
            .is_some_and(|next| next.first <= index.saturating_add(1))
        {
            self.spans.pop_front();
        }
    }

    /// Bytes of the entries after `index`, at least.
    pub(super) fn after(&self, index: u64) -> u64 {
        let begin = self.spans.partition_point(|span| span.first <= index);
        // The span that holds `index` may reach beyond it.
        let begin = begin.saturating_sub(1);
        self.spans.range(begin..).map(|span| span.bytes).sum()
    }

    /// The lowest index from which on the entries take `bytes` at most; the last index of the log if even
    /// its last span is larger.
    pub(super) fn tail(&self, bytes: u64) -> Option<u64> {
        let mut sum = 0;
        let mut spans = self.spans.iter().rev();
        let mut first = spans.next()?.first;
        sum += self.spans.back()?.bytes;
        for span in spans {
            sum += span.bytes;
            if sum > bytes {
                break;
            }
            first = span.first;
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 10 to 19 of half a span each: five spans, which begin at 10, 12, 14, 16 and 18.
    fn ten() -> Sizes {
        let mut sizes = Sizes::default();
        (10..20).for_each(|index| sizes.push(index, SPAN_BYTES as usize / 2));
        sizes
    }

    #[test]
    fn bytes_after_an_index_are_known_to_a_span() {
        let sizes = ten();
        assert_eq!(sizes.after(0), 5 * SPAN_BYTES);
        assert_eq!(sizes.after(11), 5 * SPAN_BYTES);
        assert_eq!(sizes.after(12), 4 * SPAN_BYTES);
        assert_eq!(sizes.after(19), SPAN_BYTES);
        assert_eq!(Sizes::default().after(3), 0);
    }

    #[test]
    fn a_tail_of_so_many_bytes_begins_at_a_span() {
        let sizes = ten();
        assert_eq!(sizes.tail(u64::MAX), Some(10));
        assert_eq!(sizes.tail(3 * SPAN_BYTES), Some(14));
        assert_eq!(sizes.tail(3 * SPAN_BYTES - 1), Some(16));
        assert_eq!(sizes.tail(0), Some(18));
        assert_eq!(Sizes::default().tail(9), None);
    }

    #[test]
    fn what_is_cut_off_and_what_is_purged_no_longer_counts() {
        let mut sizes = ten();
        sizes.truncate_from(16);
        assert_eq!(sizes.after(0), 3 * SPAN_BYTES);
        sizes.purge(11);
        assert_eq!(sizes.after(0), 2 * SPAN_BYTES);
        sizes.purge(u64::MAX);
        sizes.truncate_from(0);
        assert_eq!(sizes.after(0), 0);
        sizes.push(30, 7);
        assert_eq!((sizes.after(0), sizes.tail(7)), (7, Some(30)));
    }
}
