//! A node from start to stop: puts the rooms together.
