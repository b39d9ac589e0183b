//! Compares candidates for the broker's embedded store: `cargo run --release -- run`.
//!
//! Each workload of each candidate runs in a process of its own, the candidates in turn within each workload. The same
//! program is the driver and, with other arguments, those processes.

mod bodies;
mod candidates;
mod cells;
mod crash;
mod keyvalue;
mod measure;
mod report;
mod store;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use candidates::{ALL, Candidate};
use cells::Cell;
use crash::Tear;
use report::{CELLS, Outcome, Report};
use store::{Error, Result};

const USAGE: &str = "usage: store-benchmark run [--candidates NAME,...] [--cells NAME,...] [--repetitions N]
                           [--directory DIR] [--output FILE.md]
Cells: see `--cells help`. DIR has to be on the disk that is to be measured; all that is made there is removed.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Result<()> {
    match words {
        ["run", options @ ..] => run(&Options::parse(options)?),
        ["cell", cell, candidate, directory] => {
            let (cell, directory) = (named_cell(cell)?, Path::new(directory));
            let figures = with_store!(named(candidate)?, cells::run(cell, directory))?;
            for (name, value) in figures {
                println!("{name}\t{value}");
            }
            measure::vanish()
        }
        ["write", candidate, directory, first] => {
            with_store!(named(candidate)?, crash::write_for_ever(Path::new(directory), first.parse()?))
        }
        ["write-and-vanish", candidate, directory] => {
            with_store!(named(candidate)?, crash::write_and_vanish(Path::new(directory)))
        }
        ["dump", candidate, directory] => with_store!(named(candidate)?, crash::dump(Path::new(directory))),
        _ => Err(USAGE.into()),
    }
}

fn named(name: &str) -> Result<Candidate> {
    Candidate::named(name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|candidate| candidate.name()).collect();
        Error::from(format!("no candidate {name}; this build has {}", names.join(", ")))
    })
}

fn named_cell(name: &str) -> Result<Cell> {
    CELLS.iter().find(|(known, _)| *known == name).map(|(_, cell)| *cell).ok_or_else(|| {
        let names: Vec<_> = CELLS.iter().map(|(name, _)| *name).collect();
        Error::from(format!("no cell {name}; there are {}, {}", names.join(", "), CRASHES.join(", ")))
    })
}

/// The cells that are no measurement: run once for each candidate.
const CRASHES: [&str; 3] = ["kill", "cut", "zeros"];

/// What was asked for.
struct Options {
    candidates: Vec<Candidate>,
    cells: Vec<String>,
    repetitions: usize,
    directory: PathBuf,
    output: Option<PathBuf>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            candidates: ALL.to_vec(),
            cells: CELLS.iter().map(|(name, _)| *name).chain(CRASHES).map(str::to_owned).collect(),
            repetitions: 3,
            directory: std::env::temp_dir(),
            output: None,
        };
        for pair in words.chunks(2) {
            match pair {
                ["--candidates", names] => options.candidates = names.split(',').map(named).collect::<Result<_>>()?,
                ["--cells", names] => {
                    options.cells = names.split(',').map(str::to_owned).collect();
                    for name in options.cells.iter().filter(|name| !CRASHES.contains(&name.as_str())) {
                        named_cell(name)?;
                    }
                }
                ["--repetitions", count] => options.repetitions = count.parse()?,
                ["--directory", directory] => options.directory = PathBuf::from(directory),
                ["--output", file] => options.output = Some(PathBuf::from(file)),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }

    fn has(&self, cell: &str) -> bool {
        self.cells.iter().any(|name| name == cell)
    }
}

fn run(options: &Options) -> Result<()> {
    let root = options.directory.join(format!("store-benchmark-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let mut report = Report::new(&options.candidates, options.repetitions, &root)?;
    for (cell, _) in CELLS.iter().filter(|(cell, _)| options.has(cell)) {
        for repetition in 0..options.repetitions {
            for turn in 0..options.candidates.len() {
                let candidate = options.candidates[(turn + repetition) % options.candidates.len()];
                if let Err(error) = measure_cell(cell, candidate, &root, &mut report) {
                    eprintln!("{cell} {}: {error}", candidate.name());
                }
            }
        }
    }
    for &candidate in &options.candidates {
        for cell in CRASHES.iter().filter(|cell| options.has(cell)) {
            // Without a store, a kill has to take everything: that shows that the test sees what is lost.
            if candidate == Candidate::Memory && *cell != "kill" {
                continue;
            }
            let directory = fresh(&root)?;
            let outcome = match *cell {
                "kill" => Outcome::Kills(crash::kill_writers(candidate, &directory)?),
                "cut" => Outcome::Torn(crash::tear_files(candidate, &directory, Tear::Cut)?),
                _ => Outcome::Torn(crash::tear_files(candidate, &directory, Tear::Zeros)?),
            };
            eprintln!("{cell} {}: {outcome:?}", candidate.name());
            report.crashed(cell, candidate, outcome);
        }
    }
    std::fs::remove_dir_all(&root)?;
    let text = report.markdown();
    if let Some(file) = &options.output {
        std::fs::write(file, text)?;
    } else {
        print!("{text}");
    }
    Ok(())
}

/// An empty directory.
fn fresh(root: &Path) -> Result<PathBuf> {
    let directory = root.join("store");
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir(&directory)?;
    Ok(directory)
}

/// Runs a cell in a process of its own. The cell with two processes has the second one here, too.
fn measure_cell(cell: &'static str, candidate: Candidate, root: &Path, report: &mut Report) -> Result<()> {
    if cell == report::REOPENED {
        return Ok(());
    }
    let directory = fresh(root)?;
    measure_process(cell, candidate, &directory, report)?;
    if cell == report::MILLION && candidate != Candidate::Memory {
        measure_process(report::REOPENED, candidate, &directory, report)?;
    }
    Ok(())
}

fn measure_process(cell: &'static str, candidate: Candidate, directory: &Path, report: &mut Report) -> Result<()> {
    let output =
        Command::new(std::env::current_exe()?).args(["cell", cell, candidate.name()]).arg(directory).output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let text = String::from_utf8(output.stdout)?;
    eprintln!("{cell} {}: {}", candidate.name(), text.trim().replace('\t', " ").replace('\n', ", "));
    for (name, value) in text.lines().filter_map(|line| line.split_once('\t')) {
        report.measured(cell, candidate, name, value.parse()?);
    }
    Ok(())
}
