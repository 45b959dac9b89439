//! What a run of stories came to, for people and for programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use crate::host::cgroup::Memory;
use crate::instance::orders::Phase;

/// How a story ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it should be.
    Passed {
        /// What the auditor said, if there was something to judge.
        verdict: Option<String>,
    },
    /// Something was not.
    Failed {
        /// What.
        why: String,
        /// What the data centre said.
        artefacts: PathBuf,
    },
}

/// A story that was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its name.
    pub name: &'static str,
    /// What is seen in it.
    pub about: &'static str,
    /// How long it took, with its verdict.
    pub seconds: f64,
    /// What was measured in it.
    pub figures: BTreeMap<String, f64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// The stories.
    pub stories: Vec<Told>,
    /// What the time was spent on.
    pub phases: Vec<Phase>,
    /// All of it.
    pub seconds: f64,
    /// What each boot server had in memory, when it was last looked at.
    pub memory: BTreeMap<String, Memory>,
}

impl Results {
    /// How many passed, and how many failed.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let failed = |told: &&Told| matches!(told.outcome, Outcome::Failed { .. });
        let failed = self.stories.iter().filter(failed).count();
        (self.stories.len() - failed, failed)
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let (passed, failed) = self.count();
        let stories = self.stories.iter().map(|told| {
            let mut story = json!({ "name": told.name, "seconds": told.seconds });
            if !told.figures.is_empty() {
                story["figures"] = json!(told.figures);
            }
            match &told.outcome {
                Outcome::Passed { verdict } => {
                    story["outcome"] = "passed".into();
                    story["verdict"] = json!(verdict);
                }
                Outcome::Failed { why, artefacts } => {
                    story["outcome"] = "failed".into();
                    story["why"] = json!(why);
                    story["artefacts"] = json!(artefacts);
                }
            }
            story
        });
        json!({
            "passed": passed,
            "failed": failed,
            "seconds": self.seconds,
            "phases": self.phases,
            "stories": stories.collect::<Vec<_>>(),
            "memory": self.memory,
        })
    }

    /// Writes `results.json` and `junit.xml` into a folder.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let json = serde_json::to_string_pretty(&self.json())?;
        for (name, text) in [("results.json", json + "\n"), ("junit.xml", self.junit()?)] {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    fn junit(&self) -> Result<String> {
        let mut suite = TestSuite::new("dctest");
        for told in &self.stories {
            let status = match &told.outcome {
                Outcome::Passed { .. } => TestCaseStatus::success(),
                Outcome::Failed { why, artefacts } => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(why.clone());
                    status.set_description(format!("{why}\n{}", artefacts.display()));
                    status
                }
            };
            let mut case = TestCase::new(told.name, status);
            case.set_classname("dctest").set_time(Duration::from_secs_f64(told.seconds));
            suite.add_test_case(case);
        }
        let mut report = Report::new("dctest");
        report.set_time(Duration::from_secs_f64(self.seconds));
        report.add_test_suite(suite);
        report.to_string().context("writing JUnit's XML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let figures = BTreeMap::from([("seconds of an update".to_owned(), 8.5)]);
        let told = |name, outcome| {
            let figures = figures.clone();
            Told { name, about: "", seconds: 1.5, figures, outcome }
        };
        let why = "boot-1 < boot-2 & \"others\"".to_owned();
        Results {
            stories: vec![
                told("one", Outcome::Passed { verdict: Some("31 invariants hold".into()) }),
                told("other", Outcome::Failed { why, artefacts: "kept/other".into() }),
            ],
            phases: vec![Phase { phase: "down".into(), seconds: 0.5 }],
            seconds: 3.5,
            memory: BTreeMap::from([("boot-0".into(), Memory { anonymous: 40, all: 61 })]),
        }
    }

    #[test]
    fn the_object_tells_what_passed_and_what_took_how_long() {
        let json = results().json();
        assert_eq!((&json["passed"], &json["failed"]), (&json!(1), &json!(1)));
        assert_eq!(json["seconds"], 3.5);
        assert_eq!(json["phases"], json!([{ "phase": "down", "seconds": 0.5 }]));
        assert_eq!(json["stories"][1]["artefacts"], "kept/other");
        assert_eq!(json["stories"][0]["figures"], json!({ "seconds of an update": 8.5 }));
        assert_eq!(json["memory"]["boot-0"], json!({ "anonymous": 40, "all": 61 }));
    }

    #[test]
    fn junit_counts_failures_and_tells_them_as_text() {
        let xml = results().junit().unwrap();
        assert!(xml.contains("tests=\"2\"") && xml.contains("failures=\"1\""), "{xml}");
        assert!(xml.contains("boot-1 &lt; boot-2 &amp; &quot;others&quot;"), "{xml}");
    }
}
