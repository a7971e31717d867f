//! The table, and the same as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::quiet::Quiet;
use super::start::Start;

/// What was measured with so many policies.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) size: usize,
    /// With policies that no operator has looked at before.
    pub(crate) first: Start,
    /// With policies that have a status.
    pub(crate) again: Vec<Start>,
    pub(crate) quiet: Quiet,
}

/// Of the peer, in the same words. None of it was measured by this bench.
const PEER: &str = "KEDA (main, 2.20.1 + 117 commits) + HPA, operator and metrics adapter, as shipped, no triggers on databases; \
     one run each on 2026-11-23 on a machine of the same kind (2 cores, real etcd and kube-apiserver 1.35.8, a fake Prometheus that \
     answers at once); resident memory, not Pss. It does more for an object (an HPA, a fallback) and less (no diagnosis).";

/// A line of the table.
struct Line {
    what: &'static str,
    value: fn(&Measured) -> String,
    budget: &'static str,
    peer: &'static str,
}

const LINES: &[Line] = &[
    Line {
        what: "memory after the quiet time (Pss)",
        value: |m| format!("{:.1} MB", m.quiet.pss),
        budget: "20 / 60 / 250 MB with 1 / 1,000 / 10,000",
        peer: "148 / 280 / - MB with 1 / 1,000, and the adapter's 142",
    },
    Line {
        what: "memory at its peak (VmHWM)",
        value: |m| format!("{:.1} MB", m.quiet.peak),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "API writes in the quiet time, but for the Lease",
        value: |m| counts(&m.quiet.writes),
        budget: "0",
        peer: "2 a minute for each active object; 30 a minute for the Lease",
    },
    Line {
        what: "other requests to the API server meanwhile",
        value: |m| counts(&m.quiet.requests),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "start -> leading",
        value: |m| format!("{:.2} s, again {}", m.first.leading, spread(&m.again, |start| start.leading)),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "start -> every policy evaluated, policies never seen before",
        value: |m| format!("{:.2} s ({:.2} CPU-s)", m.first.evaluated, m.first.cpu),
        budget: "< 5 s with 1,000",
        peer: "454 s from creation to ready with 900 objects",
    },
    Line {
        what: "start -> every policy found within its objectives, the same",
        value: |m| format!("{:.2} s", m.first.within),
        budget: "< 5 s with 1,000",
        peer: "-",
    },
    Line {
        what: "start -> every policy found within, policies with a status",
        value: |m| spread(&m.again, |start| start.within),
        budget: "< 5 s with 1,000",
        peer: "-",
    },
    Line {
        what: "API writes until it is quiet, but for the Lease",
        value: |m| counts(&m.quiet.first_writes),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "CPU of the operator for an evaluation",
        value: |m| format!("{:.0} us", m.quiet.cpu_per_evaluation() * 1e6),
        budget: "-",
        peer: "640-860 us",
    },
    Line {
        what: "CPU of the operator, and of Prometheus with its scrapes",
        value: |m| {
            let share = |cpu: f64| 100.0 * cpu / m.quiet.seconds;
            format!("{:.1}% and {:.1}% of a core", share(m.quiet.cpu), share(m.quiet.cpu_of_prometheus))
        },
        budget: "-",
        peer: "-",
    },
    Line {
        what: "queries to Prometheus in an interval (15 s)",
        value: |m| format!("{:.1}", m.quiet.queries_per_interval()),
        budget: "<= 20 with 1,000",
        peer: "one for each object",
    },
    Line {
        what: "mean time of a query",
        value: |m| format!("{:.1} ms", m.quiet.query_mean * 1e3),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "connections to the shared database, at most",
        value: |m| m.quiet.sessions.max(m.first.sessions).to_string(),
        budget: "1",
        peer: "one for each trigger (its maintainers' words)",
    },
    Line {
        what: "evaluations made, of those due",
        value: |m| format!("{:.0} of {:.0}", m.quiet.evaluations, m.quiet.due),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "length of an evaluation, p99",
        value: |m| format!("<= {} s", m.quiet.evaluation_p99),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "lateness of an evaluation, p99 and worst",
        value: |m| format!("<= {} s, <= {} s", m.quiet.lateness_p99, m.quiet.lateness_worst),
        budget: "-",
        peer: "-",
    },
    Line {
        what: "readings without data in the quiet time",
        value: |m| format!("{:.0}", m.quiet.no_data),
        budget: "-",
        peer: "-",
    },
];

fn counts(kinds: &BTreeMap<String, usize>) -> String {
    let all: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let sum: usize = kinds.values().sum();
    if all.len() < 2 {
        all.first().cloned().unwrap_or_else(|| "0".to_owned())
    } else {
        format!("{sum}: {}", all.join(", "))
    }
}

/// The least, the middle and the most.
fn spread(starts: &[Start], of: impl Fn(&Start) -> f64) -> String {
    let mut values: Vec<f64> = starts.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => "-".to_owned(),
        [one] => format!("{one:.2} s"),
        [least, .., most] => format!("{least:.2} / {:.2} / {most:.2} s", values[values.len() / 2]),
    }
}

pub(crate) fn print(all: &[Measured]) {
    for line in LINES {
        println!("\n{}\n    budget: {}\n    peer:   {}", line.what, line.budget, line.peer);
        for measured in all {
            println!("    {:>6}: {}", measured.size, (line.value)(measured));
        }
    }
    println!("\nThe peer, not measured here: {PEER}");
}

pub(crate) fn write(folder: &Path, all: &[Measured]) {
    let lines: Vec<Value> = LINES
        .iter()
        .map(|line| {
            let measured: BTreeMap<String, String> =
                all.iter().map(|one| (one.size.to_string(), (line.value)(one))).collect();
            json!({"what": line.what, "measured": measured, "budget": line.budget, "peer": line.peer})
        })
        .collect();
    let report = json!({"lines": lines, "raw": all, "peer": PEER});
    std::fs::create_dir_all(folder).expect("a folder");
    let text = serde_json::to_string_pretty(&report).expect("JSON");
    std::fs::write(folder.join("scale.json"), text).expect("the report");
}
