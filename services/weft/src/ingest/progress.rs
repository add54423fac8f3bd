//! How far an ingestion has come, while it runs.

use std::{
    fmt,
    io::{IsTerminal as _, stderr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::Report;
use crate::{terminal, units};

/// How often a line is written where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where progress is shown.
#[derive(Debug)]
pub enum Progress {
    /// A bar on a terminal.
    Bar(ProgressBar),
    /// Lines in a log.
    Lines {
        /// Files in all.
        total: u64,
        /// When the last line was written.
        last: Mutex<Instant>,
    },
    /// Nowhere.
    Silent,
}

impl Progress {
    /// A bar when stderr is a terminal, else lines.
    #[must_use]
    pub fn on_stderr(total: u64) -> Self {
        if !stderr().is_terminal() {
            return Self::Lines { total, last: Mutex::new(Instant::now()) };
        }
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} · {rate} · {elapsed}{msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─");
        bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A bar that cannot be written to is nobody's loss.
            let _ = write!(out, "{:.0}/s", state.per_sec());
        }));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Bar(bar)
    }

    /// Shows what has come of it so far.
    pub(super) fn show(&self, report: &Report) {
        let failed = report.failed.len() as u64;
        let done = report.ready + report.unchanged + failed;
        let note = if failed == 0 { String::new() } else { format!(" · {} failed", units::count(failed)) };
        match self {
            Self::Bar(bar) => {
                bar.set_position(done);
                if bar.message() != note {
                    bar.set_message(note);
                }
            }
            Self::Lines { total, last } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    terminal::tell(format!("{} of {}{note}", units::count(done), units::count(*total)));
                }
            }
            Self::Silent => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
