//! Finds, resolves and downloads GitHub releases; can serve a directory the same way.
