//! Templates: Jinja with every undefined variable an error.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use neco_toml::{Problem, Report};
use serde::Serialize;

use crate::Facts;
use crate::circles;
use crate::facts::Context;

/// All templates of a folder, parsed.
#[derive(Debug)]
pub(crate) struct Templates {
    texts: BTreeMap<String, String>,
    environment: Environment<'static>,
}

impl Templates {
    /// Names that Jinja itself defines.
    const BUILTIN: [&str; 4] = ["range", "dict", "namespace", "debug"];

    /// Parses `texts`, reporting what is wrong with them, variables that do not exist included.
    pub(crate) fn parse(texts: &BTreeMap<String, String>, report: &Report) -> Self {
        let (mut environment, syntax) = environment();
        if let Err(error) = syntax {
            report.add(problem("", &error));
        }
        for (name, text) in texts {
            if let Err(error) = environment.add_template_owned(name.clone(), text.clone()) {
                report.add(problem(name, &error));
            }
        }
        let templates = Self { texts: texts.clone(), environment };
        templates.report_unknown_variables(report);
        templates
    }

    pub(crate) fn texts(&self) -> &BTreeMap<String, String> {
        &self.texts
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.texts.contains_key(name)
    }

    pub(crate) fn render(
        &self,
        name: &str,
        context: &Context<'_>,
    ) -> Result<String, minijinja::Error> {
        self.environment.get_template(name)?.render(Serde(context))
    }

    /// Renders `name` for no server in particular.
    ///
    /// # Errors
    /// It cannot be rendered.
    pub(crate) fn rehearse(&self, name: &str, context: &Context<'_>) -> Result<String, Problem> {
        self.render(name, context).map_err(|error| {
            let told = problem(error.name().unwrap_or(name), &error);
            if !goes_on_without_end(&error) {
                return told;
            }
            match circles::first(&self.texts, name) {
                Some(circle) => Problem {
                    file: file(circle.template()),
                    line: Some(circle.line()),
                    what: format!("the template leads back to itself: {circle}"),
                    remedy: "take one of these out".to_owned(),
                    ..told
                },
                None => Problem {
                    what: "the template goes on without end".to_owned(),
                    remedy: "look for a macro that calls itself".to_owned(),
                    ..told
                },
            }
        })
    }

    fn report_unknown_variables(&self, report: &Report) {
        for (name, text) in &self.texts {
            let Ok(template) = self.environment.get_template(name) else { continue };
            // Sorted, because the set has no order.
            let mut unknown: Vec<String> = template
                .undeclared_variables(false)
                .into_iter()
                .filter(|variable| {
                    !Facts::VARIABLES.contains(&variable.as_str())
                        && !Self::BUILTIN.contains(&variable.as_str())
                })
                .collect();
            unknown.sort();
            for variable in unknown {
                let line = text.lines().position(|line| line.contains(&variable));
                report.add(Problem {
                    file: file(name),
                    line: line.map(|index| index + 1),
                    field: variable,
                    what: "there is no such variable".to_owned(),
                    remedy: format!("use one of: {}", Facts::VARIABLES.join(", ")),
                });
            }
        }
    }
}

/// The language that all templates are written in.
fn environment() -> (Environment<'static>, Result<(), minijinja::Error>) {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build();
    let set = syntax.map(|syntax| environment.set_syntax(syntax));
    (environment, set)
}

/// Renders the data file `name`, which is a template as those of components are, with other variables.
///
/// # Errors
/// What is wrong with it, with its name and line.
pub fn render_data(name: &str, text: &str, variables: &impl Serialize) -> Result<String, String> {
    let wrong = |error: minijinja::Error| {
        let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
        let excerpt = error.line().and_then(|line| text.lines().nth(line.checked_sub(1)?));
        let excerpt = excerpt.map(|line| format!(" in {:?}", line.trim())).unwrap_or_default();
        format!("{name}{line}: {}{detail}{excerpt}", error.kind())
    };
    let (mut environment, syntax) = environment();
    syntax.map_err(wrong)?;
    environment.add_template_owned(name.to_owned(), text.to_owned()).map_err(wrong)?;
    let rendered =
        environment.get_template(name).and_then(|template| template.render(Serde(variables)));
    rendered.map_err(wrong)
}

fn file(template: &str) -> String {
    format!("templates/{template}")
}

/// Whether templates were rendered within templates until there were too many.
fn goes_on_without_end(error: &minijinja::Error) -> bool {
    let first: &dyn std::error::Error = error;
    std::iter::successors(Some(first), |error| error.source()).any(|error| {
        let error = error.downcast_ref::<minijinja::Error>();
        let detail = error.and_then(|error| error.detail()).unwrap_or_default();
        detail == "recursion limit exceeded" || detail.starts_with("cycle in template inheritance")
    })
}

fn problem(template: &str, error: &minijinja::Error) -> Problem {
    let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    Problem {
        file: file(template),
        line: error.line(),
        field: String::new(),
        what: format!("{}{detail}", error.kind()),
        remedy: "correct the template".to_owned(),
    }
}
