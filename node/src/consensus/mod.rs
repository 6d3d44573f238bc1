//! Consensus: openraft behind our own names.
