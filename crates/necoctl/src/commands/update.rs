//! `update`: the version to go for.

use clap::Args;
use neco_plan::operator::{self, Wish};
use neco_process::exit::{ExitCode, Failure};
use neco_schema::NecoVersion;

use crate::cli::Change;
use crate::order;
use crate::session::Session;

/// Name the version to go for, or follow releases again.
///
/// A version that is named is requested at once, whatever the release window, and newer releases are not followed until
/// --unpin. One that was aborted before is tried again.
#[derive(Debug, Args)]
pub struct Update {
    /// Go to this version and stay on it
    #[arg(
        long,
        value_name = "VERSION",
        required_unless_present = "unpin",
        conflicts_with = "unpin"
    )]
    to: Option<NecoVersion>,
    /// Allow the version to be older than what runs
    #[arg(long, requires = "to")]
    allow_downgrade: bool,
    /// Install although the package of the present version cannot be had to go back to
    #[arg(long, requires = "to")]
    allow_no_way_back: bool,
    /// Follow releases again
    #[arg(long, conflicts_with_all = ["allow_downgrade", "allow_no_way_back"])]
    unpin: bool,
    /// What every change takes.
    #[command(flatten)]
    pub change: Change,
}

impl Update {
    /// Writes the wish down.
    ///
    /// # Errors
    /// A safety rule forbids it; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let Some(version) = self.to else {
            return order::carry_out(
                session,
                &self.change,
                &|view, _, order| operator::unpin(view, order),
                &|view| match view.target.value() {
                    Some(target) => format!("follows releases again, not {}", target.version),
                    None => "follows releases again".to_owned(),
                },
            )
            .await;
        };
        let wish = Wish {
            version,
            allow_downgrade: self.allow_downgrade,
            allow_no_way_back: self.allow_no_way_back,
        };
        order::carry_out(
            session,
            &self.change,
            &|view, _, order| operator::update_to(view, &wish, order),
            &|view| {
                let before = match view.target.value() {
                    Some(target) if target.version != wish.version => {
                        format!(", before it was {}", target.version)
                    }
                    _ => String::new(),
                };
                format!(
                    "{} is the target{before}; 'necoctl update --unpin' follows releases again",
                    wish.version
                )
            },
        )
        .await
    }
}
