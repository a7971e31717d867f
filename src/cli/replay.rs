//! `latency-operator replay FILE`

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use engine::record::DecisionRecord;
use engine::replay::{Header, Reader, Replay};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A recording, as `run --record` writes it.
    file: PathBuf,
    /// Print every decision, not only those that were reported.
    #[arg(long)]
    all: bool,
}

/// Decides on every recorded snapshot again and prints the decisions. Fails where one differs from the recorded one.
pub(super) fn replay(args: &Args) -> anyhow::Result<()> {
    let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let mut out = std::io::stdout().lock();
    let counted = decide_again(BufReader::new(file), args.all, &mut out);
    let (evaluations, decisions) = counted.with_context(|| args.file.display().to_string())?;
    writeln!(out, "{evaluations} evaluations, {decisions} decisions: all as recorded")?;
    Ok(())
}

fn decide_again(file: impl BufRead, all: bool, out: &mut impl Write) -> anyhow::Result<(usize, usize)> {
    let mut lines = file.lines().enumerate();
    let Some((_, header)) = lines.next() else { bail!("the file is empty") };
    let header: Header = serde_json::from_str(&header?).context("line 1: not the header of a recording")?;
    let mut reader = Reader::new(&header).map_err(|why| anyhow::anyhow!("line 1: {why}"))?;
    let (mut replay, mut evaluations, mut decisions) = (Replay::default(), 0, 0);
    for (index, line) in lines {
        let number = index + 1;
        let line = line?;
        let mut json = serde_json::Deserializer::from_str(&line);
        let evaluation = reader.read(&mut json).and_then(|evaluation| json.end().map(|()| evaluation));
        let evaluation = evaluation.with_context(|| format!("line {number}: not an evaluation"))?;
        let records = replay.decide(&evaluation);
        compare(&records, &evaluation.records).with_context(|| format!("line {number}"))?;
        for record in records.iter().filter(|record| all || record.changed) {
            writeln!(out, "{} {} {}: {}", record.at, record.policy.name, record.slot(), record.sentence())?;
        }
        evaluations += 1;
        decisions += records.len();
    }
    Ok((evaluations, decisions))
}

/// Byte for byte: as they are written down.
fn compare(decided: &[DecisionRecord], recorded: &[DecisionRecord]) -> anyhow::Result<()> {
    for index in 0..decided.len().max(recorded.len()) {
        let text = |record: Option<&DecisionRecord>| record.map(serde_json::to_string).transpose();
        let (now, then) = (text(decided.get(index))?, text(recorded.get(index))?);
        if now != then {
            let none = || "nothing".to_owned();
            bail!(
                "decision {} differs\nrecorded: {}\ndecided:  {}",
                index + 1,
                then.unwrap_or_else(none),
                now.unwrap_or_else(none)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(text: &str) -> Result<(usize, usize), String> {
        decide_again(text.as_bytes(), false, &mut Vec::new()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_file_that_is_no_recording_is_refused_with_its_line() {
        assert!(tried("").unwrap_err().contains("empty"));
        assert!(tried("{}").unwrap_err().starts_with("line 1: "));
        let header = serde_json::to_string(&Header::new("0.1.0")).unwrap();
        assert_eq!(tried(&header), Ok((0, 0)));
        let error = tried(&format!("{header}\n{{\"snapshot\": 1}}")).unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        let later = header.replace("\"version\":2", "\"version\":99");
        assert!(tried(&later).unwrap_err().contains("99"));
    }
}
