//! What an update would change, for people.

use std::time::Duration;

use neco_process::exit::Failure;
use neco_schema::{ChangeKind, Lrn, Preview, StepPreview};

use crate::io::Io;
use crate::preview::Report;
use crate::words::{one_line, printable, span, table};

/// Writes a report: what concerns all servers first, then step by step what changes where.
///
/// # Errors
/// The output is closed.
pub fn show(io: &mut Io<'_>, report: &Report) -> Result<(), Failure> {
    write!(io.out, "{}", table(&head(report)))?;
    for server in &report.servers {
        let trouble = match &server.answer {
            Some(answer) => answer.error.as_str(),
            None => server.missing.as_str(),
        };
        if !trouble.is_empty() {
            io.line(format_args!("\nBoot server {}: {}", server.lrn, one_line(trouble)))?;
        }
    }
    let answers: Vec<(Lrn, &Preview)> = report
        .servers
        .iter()
        .filter_map(|server| Some((server.lrn, server.answer.as_ref()?)))
        .collect();
    let last = answers.iter().map(|(_, answer)| answer.steps.len()).max().unwrap_or(0);
    for at in 0..last {
        let steps: Vec<(Lrn, &StepPreview)> = answers
            .iter()
            .filter_map(|(lrn, answer)| Some((*lrn, answer.steps.get(at)?)))
            .filter(|(_, step)| !step.changes.is_empty())
            .collect();
        if !steps.is_empty() {
            step(io, at + 1, &steps)?;
        }
    }
    if !report.changes_something() && answers.iter().any(|(_, answer)| answer.error.is_empty()) {
        io.line("\nNothing would change.")?;
    }
    Ok(())
}

fn head(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    let servers = |lrns: &mut dyn Iterator<Item = Lrn>| {
        lrns.map(|lrn| lrn.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut from: Vec<String> = report
        .servers
        .iter()
        .filter_map(|server| Some(server.answer.as_ref()?.running.to_string()))
        .collect();
    from.sort();
    from.dedup();
    row("Plan", format!("{} \u{2192} {}", from.join(", "), report.version));
    row("Servers", servers(&mut report.servers.iter().map(|server| server.lrn)));
    let recipes: Vec<&str> = report.recipes.iter().map(|digest| short(digest)).collect();
    match recipes.as_slice() {
        [] => {}
        [one] => row("Recipe", (*one).to_owned()),
        several => {
            row(
                "Recipe",
                format!("{}: not the same everywhere, it would be aborted", several.join(", ")),
            );
        }
    }
    for outage in &report.outages {
        let mut told: Vec<&Vec<String>> = outage.because.values().collect();
        told.sort();
        told.dedup();
        let because = told.into_iter().map(|components| {
            let same = outage.because.iter().filter(|(_, other)| *other == components);
            format!("{} on {}", components.join(" and "), servers(&mut same.map(|(lrn, _)| *lrn)))
        });
        let because: Vec<String> = because.collect();
        let units = outage.units.join(" and ");
        let (from, to) = (outage.from, outage.to);
        let why = because.join("; ");
        row("Outage", format!("{units} on all servers from step {from} to {to}, for {why}"));
    }
    if !report.one_way.is_empty() {
        row("One way", format!("{}: an older version does not undo it", report.one_way.join(", ")));
    }
    if report.changes_something() {
        row(
            "Takes",
            match &report.estimate {
                None => "not known: no update was completed yet".to_owned(),
                Some(estimate) => {
                    let outage = match estimate.outage_seconds {
                        0 => String::new(),
                        seconds => format!(", outages of {}", span(Duration::from_secs(seconds))),
                    };
                    let whole = span(Duration::from_secs(estimate.seconds));
                    format!("about {whole}{outage}, as the update to {} did", estimate.by)
                }
            },
        );
    }
    rows
}

/// A digest for people.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// One step: servers on which the same would change are told together.
fn step(io: &mut Io<'_>, number: usize, steps: &[(Lrn, &StepPreview)]) -> Result<(), Failure> {
    let Some((_, first)) = steps.first() else { return Ok(()) };
    let scope = match first.scope.as_str() {
        "" => String::new(),
        scope => format!(" ({})", one_line(scope)),
    };
    io.line(format_args!("\nStep {number}  {}{scope}", one_line(&first.name)))?;
    let mut told: Vec<&StepPreview> = Vec::new();
    for (_, step) in steps {
        if told.iter().any(|other| other.changes == step.changes) {
            continue;
        }
        told.push(step);
        let same = steps.iter().filter(|(_, other)| other.changes == step.changes);
        let servers: Vec<String> = same.map(|(lrn, _)| lrn.to_string()).collect();
        io.line(format_args!("  on {}", servers.join(", ")))?;
        for change in &step.changes {
            let kind = match change.kind {
                ChangeKind::Image => "image",
                ChangeKind::Tools => "tools",
                ChangeKind::Package => "package",
                ChangeKind::File => "file",
                ChangeKind::Unit => "unit",
                ChangeKind::Action => "action",
                ChangeKind::Other => "other",
            };
            let (subject, what) = (one_line(&change.subject), one_line(&change.what));
            io.line(format_args!("    {kind:<8}{subject} {what}"))?;
            for line in change.diff.lines() {
                io.line(format!("      {}", printable(line)).trim_end())?;
            }
        }
    }
    Ok(())
}
