//! Describes what runs on a boot server as data: components, templates, recipe, differences.
