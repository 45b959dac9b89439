//! Packages and recipes as files, and what becomes of them.

mod documentation;
mod formats;
mod package;
mod properties;
mod recipe;
