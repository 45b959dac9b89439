//! What an update would change, asked by `necoctl plan` at `preview/<id>` and answered at `preview/<id>/<LRN>`.
//!
//! Question and answers are bound to one lease, whose id in hexadecimal is `<id>`: they vanish with the one who asked.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::status::serde_record;
use crate::{Lrn, NecoVersion, RecipeDigest};

/// A question, at `preview/<id>`: what would an update change on each of these servers?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewQuestion {
    /// The version of the update.
    pub version: NecoVersion,
    /// Its members, ascending.
    pub servers: Vec<Lrn>,
    /// For how many seconds answers are waited for; older programs do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<u64>,
    /// Who asks.
    #[serde(default)]
    pub by: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(PreviewQuestion);

/// The answer of one boot server, at `preview/<id>/<LRN>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The version that runs there.
    pub running: NecoVersion,
    /// The recipe that it looked at; `None` where it could not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<RecipeDigest>,
    /// The steps of that recipe, in order.
    #[serde(default)]
    pub steps: Vec<StepPreview>,
    /// The outage groups of that recipe.
    #[serde(default)]
    pub groups: Vec<GroupPreview>,
    /// Why there is no more of an answer than this; empty where nothing is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Preview);

/// What one step would do on a boot server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPreview {
    /// Its name.
    pub name: String,
    /// Whether an older version cannot undo it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub one_way: bool,
    /// Who does it and when, in words, where not all servers do it at once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// What it would change; empty: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PreviewedChange>,
}

/// One change that a step would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewedChange {
    /// The component that it is about; empty for an action.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// What is changed.
    pub kind: ChangeKind,
    /// Of files their path, of units and images their names, of actions their own.
    pub subject: String,
    /// What would be done with it, in words.
    pub what: String,
    /// Of files whose content may be shown: the changed lines as a unified diff.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

impl PreviewedChange {
    /// A change that is about no component, and shows no lines.
    pub fn new(kind: ChangeKind, subject: impl Into<String>, what: impl Into<String>) -> Self {
        let (subject, what) = (subject.into(), what.into());
        Self { component: String::new(), kind, subject, what, diff: String::new() }
    }
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// An image is fetched.
    Image,
    /// Client programs of an image are installed.
    Tools,
    /// A Debian package is installed.
    Package,
    /// A file is written.
    File,
    /// A unit is enabled, started, restarted or reloaded.
    Unit,
    /// Code of the worker runs.
    Action,
    /// What this version does not know.
    #[serde(other)]
    Other,
}

/// An outage group as one boot server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPreview {
    /// Its name.
    pub name: String,
    /// The number of the step that stops its components, from 1.
    pub stop: u32,
    /// The number of the step that starts them again.
    pub apply: u32,
    /// The units that are stopped on all servers if anything of the group changes on any.
    pub units: Vec<String>,
    /// What changes here, by component; empty: nothing, so that this server is no reason for an outage.
    #[serde(default)]
    pub because: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    #[test]
    fn an_answer_of_a_later_version_is_read_and_kept() {
        let text = concat!(
            r#"{"running":"2026.11.21-40152","recipe":"ab","steps":[{"name":"serf","later":1,"#,
            r#""changes":[{"kind":"firmware","subject":"bmc","what":"flash"}]}],"groups":[],"later":true}"#
        );
        let answer = Preview::decode(text.as_bytes()).expect("an answer");
        assert_eq!(answer.steps[0].changes[0].kind, ChangeKind::Other);
        assert!(!answer.steps[0].one_way);
        let value: Value = serde_json::from_slice(&answer.encode()).expect("JSON");
        assert_eq!(value["later"], true);
        let question = r#"{"version":"2026.11.21-40152","servers":[0,1],"by":"me"}"#;
        let question = PreviewQuestion::decode(question.as_bytes()).expect("a question");
        assert_eq!(question.servers, [Lrn::new(0), Lrn::new(1)]);
        assert!(PreviewQuestion::decode(b"{}").is_err(), "a question has a version");
    }
}
