//! Why nothing moves.
