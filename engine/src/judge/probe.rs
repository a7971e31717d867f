//! A request of the operator's own, judged by its latest answer: there is no window, no quantile, and one is enough.
//!
//! Too slow, an error of the server, or no answer although the connection stood: Breached. No connection, a redirect, or an
//! answer that blames the request: nothing is known about the Service's speed.

use jiff::Timestamp;

use super::hanging::worst_level;
use super::{breach_of, no_reading};
use crate::model::duration::human;
use crate::model::{
    BreachKind, Measured, NoData, NoDataReason, Objective, ObjectiveKind, ProbeAnswer, ProbeSource, Probed,
    Read, Reading, Scope, Verdict,
};

/// A path is cut off here when it is told.
const LONGEST_PATH: usize = 80;

/// The verdict on an objective that is probed.
#[must_use]
pub fn judge(
    objective: &Objective,
    source: &ProbeSource,
    probed: Option<Read<'_, Probed>>,
    now: Timestamp,
) -> Reading {
    let (at, probed) = match probed {
        Some(Ok(reading)) => reading,
        Some(Err(no_data)) => return no_reading(objective, now, no_data.clone()),
        None => {
            let no_data =
                NoData::new(NoDataReason::NotYetRead, "nothing has been read for this objective yet");
            return no_reading(objective, now, no_data);
        }
    };
    let (verdict, sentence) = assess(objective, source, probed);
    let measured = Measured {
        requests: 1.0,
        value: Some(probed.timing.total.as_secs_f64()),
        bound: None,
        sentence,
        notes: notes(source, probed),
    };
    let scope = matches!(verdict, Verdict::Breached(_)).then(|| {
        Scope::Unknown(NoData::new(NoDataReason::Empty, "one request shows nothing of the other views"))
    });
    Reading { objective: objective.name.clone(), at, verdict, measured: Some(measured), scope }
}

fn assess(objective: &Objective, source: &ProbeSource, probed: &Probed) -> (Verdict, String) {
    let ObjectiveKind::Latency { target, severities, .. } = &objective.kind else {
        let detail = "one request has no share of errors; name another source";
        return (Verdict::NoData(NoData::new(NoDataReason::Empty, detail)), detail.to_owned());
    };
    let (total, asked) = (probed.timing.total, format!("GET {}", shown(&source.path)));
    let (parts, promised) = (parts(probed), format!("{} are promised", human(*target)));
    let worst = || std::iter::once(worst_level(objective));
    match probed.answer {
        ProbeAnswer::TimedOut => {
            let what = if probed.timing.first_byte.is_some() { "complete" } else { "answered" };
            let sentence = format!("{asked} was not {what} within {} ({parts}), {promised}", human(total));
            (Verdict::Breached(breach_of(BreachKind::Hanging, objective.severity, worst())), sentence)
        }
        ProbeAnswer::Status { status: 200..=299, .. } => {
            let sentence = format!("{asked} took {} ({parts}), {promised}", human(total));
            if total <= *target {
                return (Verdict::Healthy, sentence);
            }
            let exceeded = severities.iter().filter(|level| total > level.above).map(|level| level.level);
            (Verdict::Breached(breach_of(BreachKind::Slow, objective.severity, exceeded)), sentence)
        }
        ProbeAnswer::Status { status: status @ 500..=599, .. } => {
            let sentence = format!("{asked} was answered with {status} after {} ({parts})", human(total));
            (Verdict::Breached(breach_of(BreachKind::Errors, objective.severity, worst())), sentence)
        }
        ProbeAnswer::Status { status, .. } => {
            let no_data = says_nothing(&asked, status);
            let sentence = no_data.detail.clone();
            (Verdict::NoData(no_data), sentence)
        }
    }
}

/// An answer that is about the request, and not about the Service.
fn says_nothing(asked: &str, status: u16) -> NoData {
    let answered = format!("{asked} was answered with {status}");
    match status {
        300..=399 => {
            let detail =
                format!("{answered}, a redirect, which is not followed; name the path that it leads to");
            NoData::new(NoDataReason::Redirected, detail)
        }
        400..=499 => {
            let detail = format!("{answered}; name a path that needs no login and takes any Host header");
            NoData::new(NoDataReason::HttpError, detail)
        }
        _ => NoData::new(NoDataReason::BadAnswer, format!("{answered}, which is no answer")),
    }
}

fn parts(probed: &Probed) -> String {
    let timing = &probed.timing;
    // Hardly ever is it looked for, and hardly ever does that take long.
    let resolve = Some(probed.resolve).filter(|resolve| resolve.as_millis() > 0);
    let named = [
        ("resolve", resolve),
        ("connect", Some(timing.connect)),
        ("TLS", timing.tls),
        ("first byte", timing.first_byte),
    ];
    let told = named.into_iter().filter_map(|(name, took)| Some(format!("{name} {}", human(took?))));
    told.collect::<Vec<_>>().join(", ")
}

fn notes(source: &ProbeSource, probed: &Probed) -> Vec<String> {
    let cut = matches!(probed.answer, ProbeAnswer::Status { cut: true, .. });
    let note =
        || format!("the answer to GET {} is long; no more than 1 MiB of it is read", shown(&source.path));
    cut.then(note).into_iter().collect()
}

/// A path as it is told: without its query, which may hold what is nobody's business.
fn shown(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, ""), |(path, _)| (path, "?…"));
    if path.chars().count() > LONGEST_PATH {
        return format!("{}…", path.chars().take(LONGEST_PATH).collect::<String>());
    }
    format!("{path}{query}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Breach, LatencySeverity, Scheme, Severity, Source, Timing};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn source() -> ProbeSource {
        ProbeSource {
            service: "orders-api".into(),
            port: "http".into(),
            path: "/api/health".into(),
            timeout: millis(3000),
            scheme: Scheme::Http,
            failures: 1,
            of: 1,
        }
    }

    fn objective(severities: &[(Severity, u64)]) -> Objective {
        let level =
            |(level, above): &(Severity, u64)| LatencySeverity { level: *level, above: millis(*above) };
        Objective {
            name: "health".into(),
            kind: ObjectiveKind::Latency {
                quantile: 0.95,
                target: millis(300),
                severities: severities.iter().map(level).collect(),
            },
            severity: Severity::P2,
            source: Source::Probe(source()),
        }
    }

    fn probed(total: u64, answer: ProbeAnswer) -> Probed {
        let first_byte = (!matches!(answer, ProbeAnswer::TimedOut)).then(|| millis(total.saturating_sub(2)));
        let timing = Timing { connect: millis(1), tls: None, first_byte, total: millis(total) };
        Probed { resolve: Duration::ZERO, timing, answer }
    }

    fn reading(objective: &Objective, probed: Probed) -> Reading {
        judge(objective, &source(), Some(Ok((NOW, &probed))), NOW)
    }

    fn ok(total: u64) -> Probed {
        probed(total, ProbeAnswer::Status { status: 200, cut: false })
    }

    #[test]
    fn an_answer_is_judged_by_its_whole_time() {
        let levels = objective(&[(Severity::P1, 1000), (Severity::P0, 2000)]);
        assert_eq!(reading(&levels, ok(300)).verdict, Verdict::Healthy);
        for (total, severity) in [(301, Severity::P2), (1001, Severity::P1), (2500, Severity::P0)] {
            let read = reading(&levels, ok(total));
            assert_eq!(read.verdict, Verdict::Breached(Breach { kind: BreachKind::Slow, severity }));
            assert!(matches!(read.scope, Some(Scope::Unknown(_))));
        }
        assert_eq!(
            reading(&levels, ok(812)).sentence(),
            "GET /api/health took 812ms (connect 1ms, first byte 810ms), 300ms are promised"
        );
    }

    #[test]
    fn an_error_and_a_time_out_are_as_bad_as_the_worst_level_and_never_harmless() {
        for (levels, severity) in [
            (&[][..], Severity::P1),
            (&[(Severity::P2, 1000)], Severity::P1),
            (&[(Severity::P0, 2000), (Severity::P1, 1000)], Severity::P0),
        ] {
            let objective = objective(levels);
            for status in [500, 503, 599] {
                let read = reading(&objective, probed(12, ProbeAnswer::Status { status, cut: false }));
                assert_eq!(read.verdict, Verdict::Breached(Breach { kind: BreachKind::Errors, severity }));
            }
            let read = reading(&objective, probed(3000, ProbeAnswer::TimedOut));
            assert_eq!(read.verdict, Verdict::Breached(Breach { kind: BreachKind::Hanging, severity }));
            assert_eq!(
                read.sentence(),
                "GET /api/health was not answered within 3s (connect 1ms), 300ms are promised"
            );
        }
        let mut half = probed(3000, ProbeAnswer::TimedOut);
        half.timing.first_byte = Some(millis(20));
        let sentence = reading(&objective(&[]), half).sentence();
        assert!(sentence.starts_with("GET /api/health was not complete within 3s"), "{sentence}");
    }

    #[test]
    fn what_is_about_the_request_says_nothing_about_the_service() {
        for (status, reason) in [
            (301, NoDataReason::Redirected),
            (302, NoDataReason::Redirected),
            (308, NoDataReason::Redirected),
            (304, NoDataReason::Redirected),
            (400, NoDataReason::HttpError),
            (401, NoDataReason::HttpError),
            (404, NoDataReason::HttpError),
            (429, NoDataReason::HttpError),
            (101, NoDataReason::BadAnswer),
            (600, NoDataReason::BadAnswer),
        ] {
            let read = reading(&objective(&[]), probed(5000, ProbeAnswer::Status { status, cut: false }));
            let Verdict::NoData(no_data) = read.verdict else { panic!("{status} is judged") };
            assert_eq!(no_data.reason, reason, "{status}");
            assert!(no_data.detail.starts_with(&format!("GET /api/health was answered with {status}")));
            assert_eq!(read.scope, None);
        }
    }

    #[test]
    fn what_was_not_read_is_not_known() {
        let missing = NoData::new(NoDataReason::Unreachable, "it was refused");
        for (probed, reason) in
            [(Some(Err(&missing)), NoDataReason::Unreachable), (None, NoDataReason::NotYetRead)]
        {
            let Verdict::NoData(no_data) = judge(&objective(&[]), &source(), probed, NOW).verdict else {
                panic!("judged")
            };
            assert_eq!(no_data.reason, reason);
        }
    }

    #[test]
    fn a_long_answer_is_told_and_a_query_is_not() {
        let mut objective = objective(&[]);
        let read = reading(&objective, probed(10, ProbeAnswer::Status { status: 200, cut: true }));
        assert_eq!(read.verdict, Verdict::Healthy);
        assert!(read.measured.unwrap().notes[0].contains("no more than 1 MiB"));
        assert_eq!(shown("/search?token=abc"), "/search?…");
        assert_eq!(shown(&format!("/{}", "x".repeat(200))).chars().count(), LONGEST_PATH + 1);
        objective.kind = ObjectiveKind::ErrorRatio { target: 0.01, severities: vec![] };
        assert!(matches!(reading(&objective, ok(10)).verdict, Verdict::NoData(_)));
    }

    #[test]
    fn the_parts_are_told_in_their_order() {
        let mut whole = ok(20);
        whole.resolve = millis(7);
        whole.timing.tls = Some(millis(5));
        assert_eq!(parts(&whole), "resolve 7ms, connect 1ms, TLS 5ms, first byte 18ms");
    }
}
