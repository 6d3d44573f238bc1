//! The life of a node in its cluster: bootstrap, hand-over, the end.
