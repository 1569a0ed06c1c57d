//! `--report`: what was measured as a page to read, `index.html`, and for programs, `results.json`.
//!
//! The page needs nothing but itself: tables and plots as SVG, no script, no network.

mod html;
mod machine;
mod plot;

use super::measured::Measured;
use super::{Args, json};
use crate::error::{Error, Result};
use crate::units::{bytes, count};
use machine::Machine;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a report says besides the measurements.
pub(super) struct Report {
    dir: PathBuf,
    about: About,
}

/// Where they are from.
struct About {
    version: String,
    begun: String,
    command: String,
    machine: Machine,
    /// (name, value in words, value).
    options: Vec<(&'static str, String, Value)>,
    /// Why it is not complete, if so.
    failure: Option<String>,
}

impl Report {
    /// Into `dir`, which is made; so that an error of that comes before the work.
    pub(super) fn begin(dir: &Path, args: &Args) -> Result<Report> {
        std::fs::create_dir_all(dir).map_err(|e| Error::file("making", dir, e))?;
        let build = if cfg!(debug_assertions) { ", a debug build" } else { "" };
        let about = About {
            version: format!("{}{build}", env!("CARGO_PKG_VERSION")),
            begun: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: std::env::args()
                .enumerate()
                .map(|(i, arg)| if i == 0 { "ashlar".into() } else { arg })
                .collect::<Vec<_>>()
                .join(" "),
            machine: Machine::this(&args.dir)?,
            options: options(args),
            failure: None,
        };
        let report = Report { dir: dir.to_owned(), about };
        report.write_file("results.json", "{}\n")?;
        Ok(report)
    }

    /// Writes it; with what there is, where an error has ended the run.
    pub(super) fn write(mut self, all: &[Measured], failure: Option<&Error>) -> Result<()> {
        self.about.failure = failure.map(Error::to_string);
        let results: Vec<Value> = all.iter().map(json::object).collect();
        let object = json!({
            "version": self.about.version, "begun": self.about.begun, "command": self.about.command,
            "machine": self.about.machine.object(),
            "options": self.about.options.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())).collect::<serde_json::Map<_, _>>(),
            "failure": self.about.failure, "results": results,
        });
        self.write_file("results.json", &format!("{object:#}\n"))?;
        self.write_file("index.html", &html::page(&self.about, all)?)
    }

    fn write_file(&self, name: &str, content: &str) -> Result<()> {
        let path = self.dir.join(name);
        std::fs::write(&path, content).map_err(|e| Error::file("writing", &path, e))
    }
}

fn options(args: &Args) -> Vec<(&'static str, String, Value)> {
    let number = |name, n: u64| (name, count(n), n.into());
    let cache = args.open.cache_mb.map(|mib| mib << 20);
    let durability =
        args.durability.map_or("eventual", |d| if d == super::DurabilityArg::Immediate { "immediate" } else { "eventual" });
    let mut options = vec![
        number("entries", args.n),
        number("threads", args.threads.into()),
        ("seconds", args.seconds.to_string(), args.seconds.into()),
        number("value_bytes", args.value_size),
        number("page_bytes", args.page_size.unwrap_or(8192) as u64),
        ("cache_bytes", cache.map_or_else(|| "a quarter of the memory".into(), bytes), cache.into()),
        ("durability", durability.into(), durability.into()),
    ];
    for (name, is_set) in [("cold", args.cold), ("buffered", args.open.buffered)] {
        options.push((name, if is_set { "yes" } else { "no" }.into(), is_set.into()));
    }
    options
}
