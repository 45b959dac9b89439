//! Packages and recipes as files, and what becomes of them.

mod documentation;
mod package;
mod properties;
mod recipe;
