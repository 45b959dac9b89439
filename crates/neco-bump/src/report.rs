//! What a person, or a program, is told of the outcomes.

use std::path::Path;

use serde_json::{Value, json};

use crate::bump::{Decided, Outcome};

/// What has become of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was written.
    Written,
    /// It was not to be written.
    NotToBeWritten,
}

/// The table for people, and a line below it that sums up.
pub(crate) fn human(outcomes: &[Outcome], programs: usize, file: &Path, ending: Ending) -> String {
    let width = |text: fn(&Outcome) -> &str| {
        outcomes.iter().map(|outcome| text(outcome).len()).max().unwrap_or(0)
    };
    let (kinds, names) = (width(|outcome| outcome.pin.kind.as_str()), width(|o| &o.pin.name));
    let mut text = String::new();
    for outcome in outcomes {
        let Ok(decided) = &outcome.decided else { continue };
        if let Some(told) = told(&outcome.pin.version, decided) {
            let pin = &outcome.pin;
            text.push_str(&format!("{:kinds$}  {:names$}  {told}\n", pin.kind, pin.name));
        }
    }
    text.push_str(&sum(outcomes, programs, file, ending));
    text
}

/// What there is to tell of a pin; nothing where nothing is new.
fn told(version: &str, decided: &Decided) -> Option<String> {
    let remarks = decided.remarks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match &decided.version {
        Some(next) => {
            let sha256 = decided.sha256.as_ref().map(|sha256| format!(", SHA-256 {sha256}"));
            let remarks = if remarks.is_empty() { String::new() } else { format!("; {remarks}") };
            Some(format!("{version} → {next}{}{remarks}", sha256.unwrap_or_default()))
        }
        None => (!remarks.is_empty()).then(|| format!("{version} stays; {remarks}")),
    }
}

fn sum(outcomes: &[Outcome], programs: usize, file: &Path, ending: Ending) -> String {
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    let bumps = count(Outcome::is_bump);
    let failed = count(|outcome| outcome.decided.is_err());
    let mut parts = vec![format!(
        "{bumps} of {} {} to another version",
        outcomes.len(),
        if bumps == 1 { "goes" } else { "go" }
    )];
    if failed > 0 {
        parts.push(format!("{failed} could not be decided"));
    }
    match programs {
        0 => {}
        1 => parts.push("1 program is not looked up".to_owned()),
        _ => parts.push(format!("{programs} programs are not looked up")),
    }
    let file = file.display();
    parts.push(match ending {
        _ if bumps == 0 => format!("{file} stays as it is"),
        Ending::Written => format!("wrote {file}"),
        Ending::NotToBeWritten => format!("{file} is not written"),
    });
    parts.join("; ")
}

/// One JSON object.
pub(crate) fn json(outcomes: &[Outcome], programs: usize, ending: Ending) -> Value {
    let (mut changed, mut stays, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for Outcome { pin, decided } in outcomes {
        let mut entry =
            json!({ "kind": pin.kind.as_str(), "name": pin.name, "version": pin.version });
        match decided {
            Err(why) => {
                entry["why"] = json!(why);
                failed.push(entry);
            }
            Ok(Decided { version, sha256, remarks }) => {
                entry["remarks"] = remarks.iter().map(ToString::to_string).collect();
                let Some(next) = version else {
                    stays.push(entry);
                    continue;
                };
                entry["next"] = json!(next);
                if let Some(sha256) = sha256 {
                    entry["sha256"] = json!(sha256);
                }
                changed.push(entry);
            }
        }
    }
    let written = ending == Ending::Written && !changed.is_empty();
    json!({
        "format": 1,
        "changed": changed,
        "stays": stays,
        "failed": failed,
        "programs_not_looked_up": programs,
        "written": written,
    })
}
