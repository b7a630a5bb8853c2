//! Commands by /bin/sh, and signals.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as Number, kill_process};

use super::clock::SystemClock;
use crate::ports::Clock;
use crate::ports::hook::{HookError, Hooks, Recipient, Signal};

/// How often an ending command is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// The most bytes of a file with a process's number.
const MAX_PID_BYTES: usize = 64;

/// The machine's processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processes;

impl Hooks for Processes {
    fn exec(
        &self,
        command: &str,
        environment: &[(&str, String)],
        timeout: Duration,
    ) -> Result<(), HookError> {
        let failed = |why: String| HookError::Failed {
            command: command.to_owned(),
            why,
        };
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            // What it prints is not our result.
            .stdout(std::io::stderr())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let deadline = SystemClock.monotonic() + timeout;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(status.to_string())),
                Err(error) => return Err(failed(error.to_string())),
                Ok(None) if SystemClock.monotonic() >= deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(HookError::Timeout {
                        command: command.to_owned(),
                        timeout,
                    });
                }
                Ok(None) => SystemClock.sleep(LOOK),
            }
        }
    }

    fn signal(&self, to: &Recipient, signal: Signal) -> Result<(), HookError> {
        let (name, process) = match to {
            Recipient::Process(process) => (process.to_string(), Ok(*process)),
            Recipient::File(path) => (path.display().to_string(), read_process(path)),
        };
        let failed = |why: String| HookError::Process {
            to: name.clone(),
            why,
        };
        let process = Pid::from_raw(process.map_err(&failed)?);
        let process = process.ok_or_else(|| failed("0 is no process".into()))?;
        let number = match signal {
            Signal::Hup => Number::HUP,
            Signal::Usr1 => Number::USR1,
            Signal::Usr2 => Number::USR2,
            Signal::Term => Number::TERM,
        };
        kill_process(process, number).map_err(|error| failed(error.to_string()))
    }
}

fn read_process(path: &std::path::Path) -> Result<i32, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let number = text.trim();
    match number.parse() {
        Ok(process) if process > 0 && number.len() <= MAX_PID_BYTES => Ok(process),
        _ => Err("it does not hold a process's number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Explain;

    fn run(command: &str) -> Result<(), HookError> {
        let environment = [("WORD", "yes".to_owned())];
        Processes.exec(command, &environment, Duration::from_millis(300))
    }

    #[test]
    fn commands_see_their_environment_and_are_told_apart() {
        run("test \"$WORD\" = yes").unwrap();
        assert_eq!(run("exit 3").unwrap_err().code(), "hook.failed");
        assert_eq!(run("exec sleep 30").unwrap_err().code(), "hook.timeout");
    }

    #[test]
    fn signals_reach_the_process_whose_number_is_in_a_file() {
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        std::fs::write(&file, format!("{}\n", child.id())).unwrap();
        let to = Recipient::parse(file.to_str().unwrap());
        Processes.signal(&to, Signal::Term).unwrap();
        assert!(!child.wait().unwrap().success());
        std::fs::write(&file, "-1\n").unwrap();
        let error = Processes.signal(&to, Signal::Hup).unwrap_err();
        assert_eq!(error.code(), "hook.process");
        assert_eq!(Recipient::parse("12"), Recipient::Process(12));
    }
}
