//! Programs that run to their end.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use super::{Session, Streams, append};
use crate::error::{Error, Result};
use crate::patience::{patience, told};
use crate::spec::Spec;

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Session {
    /// Runs a program to its end and returns what it wrote.
    pub async fn run(&self, spec: Spec, limit: Duration) -> Result<Finished> {
        let (name, folder) = self.place(&spec)?;
        let is_own = spec.folder.is_none();
        let (out, err) =
            (self.0.folder.join(format!("{name}.out")), self.0.folder.join(format!("{name}.log")));
        let streams = Streams { output: append(&out)?, errors: append(&err)? };
        let process = self.launch(spec, name, &folder, err.clone(), streams).await?;
        let status = match process.ended(limit).await {
            Ok(status) => status,
            Err(trouble) => {
                process.kill().await?;
                return Err(trouble);
            }
        };
        let finished = Finished { status, stdout: read(&out)?, stderr: read(&err)? };
        if status.success() {
            // Hundreds of small helpers run in a session; what they wrote is returned.
            let _ = std::fs::remove_file(&out);
            let _ = std::fs::remove_file(&err);
        }
        if is_own {
            // Only programs that left something in their folder keep it.
            let _ = std::fs::remove_dir(&folder);
        }
        Ok(finished)
    }

    /// Runs a program that takes minutes, telling people now and then that it still does.
    pub(crate) async fn run_long(&self, spec: Spec, what: &str, limit: Duration) -> Result<()> {
        const REMIND: Duration = Duration::from_secs(30);
        let begin = std::time::Instant::now();
        let patience = patience(limit);
        let process = self.spawn(spec).await?;
        loop {
            let left = patience.saturating_sub(begin.elapsed());
            match tokio::time::timeout(REMIND.min(left), process.exit_of()).await {
                Ok(status) if status.success() => return Ok(()),
                Ok(status) => {
                    let problem = format!("ended with {status}");
                    return Err(process.trouble(problem, what, "its own messages are below"));
                }
                Err(_) if begin.elapsed() >= patience => {
                    let problem = format!("still runs after {}", told(limit));
                    let trouble = process.trouble(problem, what, "look into its log for what it is doing");
                    process.kill().await?;
                    return Err(trouble);
                }
                Err(_) => {
                    let log = process.log().display();
                    self.say(&format!("still {what} ({} s so far; log: {log})", begin.elapsed().as_secs()));
                }
            }
        }
    }
}

impl Finished {
    /// Fails unless the exit status is zero; the error has what the program wrote.
    pub fn success(self, doing: &str) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        Err(Error::setup(
            doing,
            format!("it ended with {}: {}", self.status, self.stderr.trim()),
            "the message above is the program's own",
        ))
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::path("reading", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
