//! Measures what the design sets budgets for, on release programs.
//!
//! Every figure that depends on how fast a machine is stands beside a denominator that is measured in the same run: the
//! barrier beside bare puts and watches in the same etcd, a download beside `curl`, the start of a program beside that of
//! `true`. What is judged is the ratio, or a budget in absolute terms where the design sets one. `cargo xtask bench` builds
//! the programs and packages that are measured.

mod barrier;
pub mod cli;
mod download;
mod fetch;
mod figure;
mod image;
mod memory;
mod part;
mod payload;
mod plan;
mod proc_status;
mod process;
mod report;
mod rounds;
mod spread;
mod start_up;
mod suite;
mod workbench;

pub use process::run;
