//! One measurement after another.

use std::io::Write;

use neco_process::exit::{ExitCode, Failure};
use neco_process::signals::Shutdown;

use crate::cli::{Cli, Measurement, Output, Part};
use crate::figure::Figure;
use crate::report::Report;
use crate::workbench::{Bench, need, say};
use crate::{barrier, download, fetch, image, memory, plan, start_up};

/// How many servers wait for one another.
const BARRIERS: [u32; 2] = [3, 5];

/// How many servers the other sites have.
const SERVERS: u32 = 3;

/// Measures what is asked for, and prints it. A missed budget is shown, and is no failure: figures are of one machine, and
/// whoever asked for them reads them.
///
/// # Errors
/// Something is missing on this machine (77), or a measurement did not come to its end (1).
pub(crate) async fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.part {
        Some(Part::Fetch { root, version }) => return fetch::run(root, version).await,
        Some(Part::ServeImage { size, directory }) => return image::serve(*size, directory).await,
        Some(Part::UploadImage { etcd, image, sabakan, asset }) => {
            return image::upload(etcd, image, sabakan, asset).await;
        }
        None => {}
    }
    // Heard to the end: whoever does not want to wait for it says so once more.
    let shutdown = Shutdown::listen();
    let measured = match &shutdown {
        Ok(shutdown) => measured(cli, shutdown).await,
        Err(error) => Err(anyhow::anyhow!("listening for signals: {error}").into()),
    };
    let reason = match &measured {
        Ok(Some(report)) => return print(cli, report),
        Ok(None) => "interrupted".to_owned(),
        Err(failure) => format!("{:#}", failure.error),
    };
    if cli.output == Output::Json {
        let line = serde_json::json!({ "format": 1, "outcome": "failed", "reason": reason });
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    match measured {
        Err(failure) => Err(failure),
        Ok(_) => {
            say("interrupted");
            Ok(ExitCode::No)
        }
    }
}

/// The figures; nothing if a signal came before them. Whatever was begun then ends by being dropped.
async fn measured(cli: &Cli, shutdown: &Shutdown) -> Result<Option<Report>, Failure> {
    let stop = shutdown.token();
    let figures = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(None),
        figures = figures(cli) => figures?,
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Some(Report::new(figures, processors)))
}

async fn figures(cli: &Cli) -> Result<Vec<Figure>, Failure> {
    let chosen = cli.chosen();
    let wanted = |measurement: Measurement| chosen.contains(&measurement);
    let (Some(packages), Some(empty_steps)) = (&cli.packages, &cli.empty_steps) else {
        return Err(Failure::new(ExitCode::Usage, anyhow::anyhow!("there are no packages")));
    };
    // What cannot be done is told before an hour is spent on what can.
    if wanted(Measurement::Download) || wanted(Measurement::Image) {
        need("curl", "curl")?;
        download::need_room()?;
    }
    if wanted(Measurement::Download) {
        need("dpkg-deb", "dpkg")?;
    }
    let mut figures = Vec::new();
    if wanted(Measurement::Barrier) {
        for servers in BARRIERS {
            say(&format!("updates of empty steps on {servers} servers"));
            let bench = Bench::begin(empty_steps, servers).await?;
            figures.extend(barrier::measure(&bench, servers).await?);
            bench.site.stop().await;
        }
    }
    let on_a_site = [Measurement::Memory, Measurement::StartUp, Measurement::Plan];
    if on_a_site.into_iter().any(&wanted) {
        let mut bench = Bench::begin(packages, SERVERS).await?;
        if wanted(Measurement::Memory) {
            say("memory of the daemons 60 s after an update");
            figures.extend(memory::measure(&mut bench).await?);
        }
        if wanted(Measurement::StartUp) {
            say("the start of necoctl");
            figures.extend(start_up::measure(&bench).await?);
        }
        if wanted(Measurement::Plan) {
            say("plans over the default recipe");
            figures.extend(plan::measure(&bench).await?);
        }
        bench.site.stop().await;
    }
    if wanted(Measurement::Download) {
        say("a package of 1 GiB");
        figures.extend(download::measure().await?);
    }
    if wanted(Measurement::Image) {
        say("an image of 1 GiB");
        figures.extend(image::measure().await?);
    }
    Ok(figures)
}

fn print(cli: &Cli, report: &Report) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    match cli.output {
        Output::Human => write!(out, "{}", report.table())?,
        Output::Json => {
            let _ = write!(std::io::stderr(), "{}", report.table());
            writeln!(out, "{}", report.json()?)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::Done)
}
