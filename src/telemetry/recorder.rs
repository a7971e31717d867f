//! Writing evaluations down, one JSON object a line, for `replay`. A thread of its own writes; no evaluation waits for it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context;
use engine::Admitted;
use engine::model::Snapshot;
use engine::record::DecisionRecord;
use engine::replay::Header;
use serde::Serialize;

/// Maximum number of lines that wait to be written. A disk that is slower ends the recording: one with gaps could not be
/// replayed.
const QUEUE: usize = 1024;

/// Records evaluations in a file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    lines: SyncSender<Vec<u8>>,
    ended: Arc<AtomicBool>,
}

/// [`engine::replay::Evaluation`], borrowed.
#[derive(Serialize)]
struct Line<'a> {
    snapshot: &'a Snapshot,
    answers: &'a [Admitted],
    records: &'a [DecisionRecord],
}

impl Recorder {
    /// Starts a recording in a new file. An existing file is not overwritten.
    ///
    /// # Errors
    /// The file cannot be created, or exists.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("--record {}", path.display()))?;
        let (lines, queue) = sync_channel(QUEUE);
        let ended = Arc::new(AtomicBool::new(false));
        let recorder = Self { lines, ended: ended.clone() };
        recorder.send(&Header::new(env!("CARGO_PKG_VERSION")));
        std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            if let Err(error) = write(&queue, BufWriter::new(file)) {
                tracing::error!(%error, "the recording has ended: it cannot be written");
                ended.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(recorder)
    }

    /// Records one evaluation.
    pub fn record(&self, snapshot: &Snapshot, answers: &[Admitted], records: &[DecisionRecord]) {
        if !self.ended.load(Ordering::Relaxed) {
            self.send(&Line { snapshot, answers, records });
        }
    }

    fn send(&self, line: &impl Serialize) {
        let sent = serde_json::to_vec(line).ok().map(|line| self.lines.try_send(line));
        if !matches!(sent, Some(Ok(()))) && !self.ended.swap(true, Ordering::Relaxed) {
            tracing::error!("the recording has ended: evaluations come faster than they can be written");
        }
    }
}

/// Writes lines until no recorder is left. Whenever none waits, everything is in the file.
fn write(queue: &Receiver<Vec<u8>>, mut file: BufWriter<File>) -> std::io::Result<()> {
    while let Ok(line) = queue.recv() {
        let mut line = Some(line);
        while let Some(text) = line {
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            line = queue.try_recv().ok();
        }
        file.flush()?;
    }
    Ok(())
}
