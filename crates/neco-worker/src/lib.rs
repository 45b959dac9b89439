//! Brings one boot server to the requested state, step by step, and resumes after any crash.
