//! A machine that is wrong under a real process: its wall clock is off, or its disk refuses to flush, as it is told while
//! the process runs. The process itself is the product as it is; a small library is preloaded that stands between it and
//! the system's own, and is compiled here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// What is preloaded.
const SOURCE: &str = include_str!("wrong_machine.c");

/// The machine under one node's processes, one after the other.
pub struct WrongMachine {
    library: PathBuf,
    path: PathBuf,
    told: File,
}

impl WrongMachine {
    /// One machine for each of `count` nodes, right so far; `None`, which is then said, where there is no C compiler.
    ///
    /// # Errors
    /// When the library cannot be compiled or a file cannot be written.
    pub fn make(folder: &Path, count: usize) -> anyhow::Result<Option<Vec<WrongMachine>>> {
        let probe = Command::new("cc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !probe.is_ok_and(|status| status.success()) {
            println!("no C compiler is here: no clock goes wrong and no flush is refused");
            return Ok(None);
        }
        let (source, library) = (folder.join("wrong_machine.c"), folder.join("wrong_machine.so"));
        fs::write(&source, SOURCE)?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let output = compile.output()?;
        ensure!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr).trim());
        let machine = |number: usize| {
            let path = folder.join(format!("machine-{number}"));
            let told = File::create(&path).with_context(|| path.display().to_string())?;
            told.write_all_at(&[0; 16], 0)?;
            Ok(WrongMachine { library: library.clone(), path, told })
        };
        (1..=count).map(machine).collect::<anyhow::Result<_>>().map(Some)
    }

    /// Has the process that `command` starts run on it.
    pub fn carry(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("RECKONER_TESTS_TOLD", &self.path);
    }

    /// From now on its wall clock is ahead by so many nanoseconds, or behind.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn set_ahead(&self, nanos: i64) -> io::Result<()> {
        self.told.write_all_at(&nanos.to_ne_bytes(), 0)
    }

    /// From now on, or no more, its disk refuses to flush.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn refuse_flushes(&self, refuses: bool) -> io::Result<()> {
        self.told.write_all_at(&i64::from(refuses).to_ne_bytes(), 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since 1970 by the clock of a program that is started, and whether it could flush a file.
    fn seen_by_a_process(machine: &WrongMachine, folder: &Path) -> (i64, bool) {
        let mut date = Command::new("date");
        machine.carry(date.arg("+%s"));
        let said = date.output().expect("date starts").stdout;
        let mut sync = Command::new("sync");
        machine.carry(sync.arg(folder.join("wrong_machine.c")).stderr(Stdio::null()));
        let synced = sync.status().expect("sync starts").success();
        (String::from_utf8_lossy(&said).trim().parse().expect("seconds"), synced)
    }

    #[test]
    fn a_process_sees_what_its_machine_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let Some(machines) = WrongMachine::make(folder.path(), 2).unwrap() else { return };
        let (right, flushes) = seen_by_a_process(&machines[0], folder.path());
        machines[1].set_ahead(86_400 * 1_000_000_000).unwrap();
        machines[1].refuse_flushes(true).unwrap();
        let (ahead, refused) = seen_by_a_process(&machines[1], folder.path());
        assert!((86_400..86_500).contains(&(ahead - right)), "{right} and {ahead}");
        assert!(flushes && !refused);
        let (still_right, _) = seen_by_a_process(&machines[0], folder.path());
        assert!((0..100).contains(&(still_right - right)), "the other machine is as it was");
    }
}
