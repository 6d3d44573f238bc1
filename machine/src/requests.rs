//! What was asked before: stored outcomes, so that sending twice never executes twice.
