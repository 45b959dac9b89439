//! Describes what runs on a boot server as data: components, templates, recipe, differences.
//!
//! A folder such as `/usr/share/neco` says everything: `recipe.toml` lists the steps, `components/*.toml` say what the
//! programs need, `templates/*.j2` what their files look like, `artifacts.toml` which images they run.
//! `docs/components.md` describes the formats.
//!
//! ```text
//! folder ──Sources::read──▶ Sources ──Recipe::parse──▶ Recipe ─▶ Step, Component
//!                                                                      │ + Facts
//!                                                                Desired::render
//!                                                                      ▼
//!                    what the worker finds: Observed ──────diff──▶ Vec<Difference> ──effects──▶ Vec<Effect>
//! ```
//!
//! All of it is pure but [`Sources::read`] (and [`Recipe::load`], which calls it), [`read_ignitions`] and [`read_text`]. The
//! whole folder is checked when it is read, templates included, and all problems stand in one report: what loads can be
//! rendered. What is read is fixed by [`Recipe::digest`].

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod circles;
mod component;
mod desired;
mod diff;
mod digest;
mod facts;
mod load;
mod observed;
mod preview;
mod recipe;
mod step;
mod templates;

pub use component::{
    Access, Component, FileSpec, InstallTools, Probe, Ready, Restart, Scope, SecretSpec,
    ToolOutput, UnitRole, UnitSpec,
};
pub use desired::{Desired, DesiredFile, DesiredUnit, FileKind, RenderError};
pub use diff::{Difference, Effect, FileChange, UnitChange, absent_unit, diff, effects};
pub use digest::ContentDigest;
pub use facts::{Facts, ServerFacts};
pub use load::{LoadError, Sources, read_ignitions, read_text};
pub use neco_artifacts::{Artifacts, Deb, Image, ListedImage, OsImage};
pub use neco_toml::{Name, NameError, Problem, Problems, Report};
pub use observed::{Observed, ObservedFile, ObservedUnit};
pub use preview::preview;
pub use recipe::Recipe;
pub use step::{Group, Part, Phase, Step, StepScope, Work};
pub use templates::render_data;
