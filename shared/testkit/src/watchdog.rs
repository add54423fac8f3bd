//! Ends a server whose test process is gone, however it went.
use std::{
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

/// Reads the process group to end from each line of its input; at the end of input (the test process closed the pipe or
/// died) it waits for the process `$1` if there is one, then ends the group and removes the folders.
const SCRIPT: &str = r#"
runner=$1; shift; group=
while read -r line; do group=$line; done
while [ -n "$runner" ] && kill -0 "$runner" 2>/dev/null; do sleep 1; done
if [ -n "$group" ]; then kill -s KILL -- "-$group" 2>/dev/null; fi
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$@" 2>/dev/null && exit 0; sleep 0.1; done
"#;

/// How long a server lives.
#[derive(Clone, Debug)]
pub(crate) enum Life {
    /// Until its value is dropped or this process ends.
    Ours,
    /// Until the process `runner` ends, which started several test processes; then `registry` is removed too.
    Run { runner: u32, registry: PathBuf },
}

/// A small shell process in a group of its own, so that neither Ctrl-C nor the end of the test takes it along.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
    detached: bool,
}

impl Watchdog {
    /// Watches over nothing yet but the server's folder.
    pub(crate) fn start(life: &Life, folder: &Path) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "weft-testkit-watchdog"]);
        match life {
            Life::Ours => command.arg("").arg(folder),
            Life::Run { runner, registry } => command.arg(runner.to_string()).args([folder, registry]),
        };
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.process_group(0).spawn()?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe, detached: matches!(life, Life::Run { .. }) })
    }

    /// From now on this process group is ended; `None` when it has ended in order and its number may be reused.
    pub(crate) fn guard(&mut self, group: Option<u32>) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        writeln!(pipe, "{}", group.map(|group| group.to_string()).unwrap_or_default())
    }

    /// Whether the server is to live on when this process lets go of it.
    pub(crate) fn outlives_us(&self) -> bool {
        self.detached
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if !self.detached {
            // Nothing useful can be done about a shell that cannot be waited for.
            let _ = self.shell.wait();
        }
    }
}
