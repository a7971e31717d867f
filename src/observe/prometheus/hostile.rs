//! Hostile answers: mutants of what Prometheus says, from a seed each, through the code that reads and the code that judges
//! them. `MUTANT=17` plays that one alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

#[path = "../../../tests/hostile/mutate.rs"]
mod mutate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use engine::judge;
use engine::model::{
    BaselineWindow, Bucket, NoData, NoDataReason, Objective, ObjectiveKind, ObjectiveMemory, Observed,
    Preset, PrometheusSource, Source, Traffic, Verdict, later,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::mutate::mutant;
use super::{answer, views};
use crate::api::convert;
use crate::clock::Clock;
use crate::config::{Backend, Config};
use crate::observe::dice::{self, Dice};
use crate::telemetry::Metrics;

const MUTANTS: u64 = 8_000;
const TARGET: f64 = 0.5;
const QUANTILE: f64 = 0.95;
const MOST_ERRORS: f64 = 0.01;
/// Requests and requests in flight of a usual window.
const USUAL: (f64, f64) = (1000.0, 4.0);

fn backend() -> Backend {
    let text = format!(
        "apiVersion: {}\nkind: OperatorConfig\nbackends: [{{name: b, url: 'http://h'}}]",
        crate::config::API_VERSION
    );
    let config: Config = serde_saphyr::from_str(&text).unwrap();
    config.backends[0].clone()
}

fn sample(labels: &Value, value: &str) -> Value {
    json!({"metric": labels, "value": [1_767_236_400.123, value]})
}

/// A healthy window: all parts of a reading are there.
fn healthy() -> Value {
    let mut result: Vec<Value> =
        [("0.1", "900"), ("0.25", "980"), ("0.5", "995"), ("1.0", "999"), ("+Inf", "1000")]
            .iter()
            .map(|(le, count)| sample(&json!({"q": "bucket", "le": le}), count))
            .collect();
    result.push(sample(&json!({"q": "in_flight"}), "4"));
    result.push(sample(&json!({"q": "errors"}), "1"));
    result.push(sample(&json!({"q": "age"}), "0.4"));
    json!({"status": "success", "data": {"resultType": "vector", "result": result}})
}

fn by_view() -> Value {
    let mut result = Vec::new();
    for (view, slow) in [("orders", 0), ("stock", 300), ("", 5)] {
        for (le, count) in [("0.5", 1000 - slow), ("2.5", 1000), ("+Inf", 1000)] {
            result.push(sample(&json!({"q": "bucket", "le": le, "view": view}), &count.to_string()));
        }
    }
    result.push(sample(&json!({"q": "age"}), "0.4"));
    json!({"status": "success", "data": {"resultType": "vector", "result": result}})
}

/// Numbers as a backend may write them, and as it may not.
const NUMBERS: [&str; 26] = [
    "NaN",
    "+Inf",
    "-Inf",
    "Inf",
    "-1",
    "-0",
    "0",
    "1e308",
    "1.7976931348623157e308",
    "1e309",
    "5e-324",
    "1e-400",
    "0x10",
    "1_000",
    "1,5",
    "",
    " 1",
    "+5",
    "99999999999999999999999",
    "9007199254740993",
    "1e16",
    "4",
    "990",
    "1000",
    "0.5",
    "nan(0x1)",
];

/// What text cannot be changed into by changing the document: broken bytes, several samples at once.
fn body(original: &Value, seed: u64) -> (Vec<u8>, String) {
    let mut dice = Dice::new(seed.wrapping_mul(7));
    let mut mutant = mutant(original, seed);
    let kind = dice.below(8);
    if kind < 4 {
        mutant.value = original.clone();
        mutant.how.clear();
    }
    if let (true, Some(Value::Array(result))) = (kind < 5, mutant.value.pointer_mut("/data/result")) {
        numbers(result, &mut dice, &mut mutant.how);
    }
    if let (6, Some(Value::Array(result))) = (kind, mutant.value.pointer_mut("/data/result")) {
        rename(result, &mut dice, &mut mutant.how);
    }
    let mut body = mutant.value.to_string().into_bytes();
    if kind == 5 {
        bytes(&mut body, &mut dice, &mut mutant.how);
    }
    (body, mutant.how.join("; "))
}

fn numbers(result: &mut Vec<Value>, dice: &mut Dice, how: &mut Vec<String>) {
    for _ in 0..dice.between(1, 3) {
        if result.is_empty() {
            return;
        }
        let index = dice.below(result.len());
        let number = NUMBERS[dice.below(NUMBERS.len())];
        let changed = match dice.below(4) {
            0 => "/metric/le",
            1 => {
                // The same bound in another spelling is the other half of its bucket.
                let mut again = result[index].clone();
                if let Some(le) = again.pointer_mut("/metric/le") {
                    let text = le.as_str().unwrap_or("1").to_owned();
                    *le = format!("{text}{}", if text.contains('.') { "0" } else { ".0" }).into();
                }
                result.push(again);
                "/value/1"
            }
            _ => "/value/1",
        };
        if let Some(value) = result[index].pointer_mut(changed) {
            *value = number.into();
            how.push(format!("{changed} of sample {index} is {number:?}"));
        }
    }
}

/// All samples that have one value of a label get another one.
fn rename(result: &mut [Value], dice: &mut Dice, how: &mut Vec<String>) {
    let label = ["/metric/q", "/metric/view", "/metric/le"][dice.below(3)];
    let names = ["", "\0", "\u{1b}[31mred\u{1b}[0m", "a\r\nlevel=error msg=forged", "🦀", "bucket"];
    let long = ["a", "\u{1b}[2J\n", "é"][dice.below(3)].repeat(1 << 14);
    let name = names.get(dice.below(names.len() + 3)).map_or(long, |name| (*name).to_owned());
    let before = result.get(dice.below(result.len())).and_then(|sample| sample.pointer(label)).cloned();
    for value in result.iter_mut().filter_map(|sample| sample.pointer_mut(label)) {
        if Some(&*value) == before.as_ref() {
            *value = name.clone().into();
        }
    }
    how.push(format!("{label} {before:?} has another name"));
}

fn bytes(body: &mut Vec<u8>, dice: &mut Dice, how: &mut Vec<String>) {
    match dice.below(6) {
        0 => body.truncate(dice.below(body.len())),
        1 => {
            let index = dice.below(body.len());
            body[index] = u8::try_from(dice.below(256)).unwrap();
        }
        2 => body.extend_from_slice(&[0xff, 0xfe, 0x00, 0x80]),
        3 => {
            let index = dice.below(body.len());
            body.splice(index..index, b"[".repeat(100_000));
        }
        4 => body.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        _ => {
            let again = body.clone();
            body.extend(again);
        }
    }
    how.push("its bytes are broken".to_owned());
}

fn each(original: &Value, many: u64, check: impl Fn(&[u8])) {
    let only = std::env::var("MUTANT").ok().and_then(|number| number.parse::<u64>().ok());
    for seed in only.map_or(0..many, |seed| seed..seed + 1) {
        let (body, how) = body(original, seed);
        if catch_unwind(AssertUnwindSafe(|| check(&body))).is_err() {
            let body: String = String::from_utf8_lossy(&body).chars().take(4_000).collect();
            panic!("MUTANT={seed}: {how}\n{body}");
        }
    }
}

fn is_told(no_data: &NoData) {
    let said = no_data.to_string();
    assert!(said.chars().count() <= 500 && !said.contains(char::is_control), "this cannot be told: {said:?}");
    assert!(!no_data.detail.is_empty(), "it gives no reason");
}

fn are_counts(buckets: &[Bucket]) {
    assert!(buckets.last().is_some_and(|last| last.le.is_infinite()), "no infinite bucket");
    for bucket in buckets {
        assert!(bucket.count.is_finite() && bucket.count >= 0.0 && bucket.le >= 0.0, "{bucket:?} is judged");
    }
    let grows = |pair: &[Bucket]| pair[0].le <= pair[1].le && pair[0].count <= pair[1].count;
    assert!(buckets.windows(2).all(grows), "{buckets:?} is no histogram");
}

fn is_count(number: &Observed<f64>) {
    match number {
        Observed::Known { value, .. } => assert!(value.is_finite() && *value >= 0.0, "{value} is judged"),
        Observed::Missing(no_data) => is_told(no_data),
    }
}

/// The verdicts on a promise of latency and on one of errors, after healthy windows.
fn judged(traffic: &Traffic) -> [Verdict; 2] {
    let now = Timestamp::UNIX_EPOCH;
    let mut memory = ObjectiveMemory::default();
    for second in 0..5 {
        let at = later(now, Duration::from_secs(second));
        memory.baseline.learn(BaselineWindow { at, completed: USUAL.0, in_flight: USUAL.1 });
    }
    let target = Duration::from_secs_f64(TARGET);
    let kinds = [
        ObjectiveKind::Latency { quantile: QUANTILE, target, severities: vec![] },
        ObjectiveKind::ErrorRatio { target: MOST_ERRORS, severities: vec![] },
    ];
    kinds.map(|kind| {
        let match_labels = BTreeMap::new();
        let source = Source::Prometheus(PrometheusSource {
            backend: "b".into(),
            preset: Preset::Django,
            match_labels,
            views: None,
        });
        let objective = Objective { name: "o".into(), kind, severity: engine::model::Severity::P2, source };
        let reading = judge::judge(&objective, Some(Ok((now, traffic))), None, &memory, now);
        if let Some(measured) = &reading.measured {
            let said = &measured.sentence;
            assert!(!said.contains("NaN") && !said.contains("inf"), "it is said: {said}");
            assert!(
                measured.requests.is_finite() && measured.value.is_none_or(f64::is_finite),
                "{measured:?}"
            );
        }
        reading.verdict
    })
}

/// The numbers of a body, read in the plainest way: a part has the value of its only sample.
struct Plain {
    counts: Vec<(f64, f64)>,
    in_flight: Option<f64>,
    errors: Option<f64>,
}

impl Plain {
    fn of(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut plain = Self { counts: Vec::new(), in_flight: None, errors: None };
        for sample in body["data"]["result"].as_array().into_iter().flatten() {
            let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
            let Some(value) = sample.pointer("/value/1").and_then(number) else { continue };
            match sample["metric"]["q"].as_str() {
                Some("bucket") => plain.counts.extend(number(&sample["metric"]["le"]).map(|le| (le, value))),
                Some("in_flight") => plain.in_flight = Some(value),
                Some("errors") => plain.errors = Some(value),
                _ => {}
            }
        }
        plain
    }

    /// Counts are cumulative, and two samples of one bound are two halves.
    fn within(&self, limit: f64) -> f64 {
        let bounds = self.counts.iter().map(|(le, _)| *le).filter(|le| *le <= limit);
        let count = |bound: f64| -> f64 {
            self.counts.iter().filter(|(le, _)| *le == bound).map(|(_, count)| *count).sum()
        };
        bounds.map(count).fold(0.0, f64::max)
    }

    fn is_slow(&self) -> bool {
        let bounds =
            self.counts.iter().map(|(le, _)| *le).filter(|le| le.is_finite() && *le >= TARGET - 1e-9);
        let bound = bounds.fold(f64::INFINITY, f64::min);
        self.within(bound) < (QUANTILE + 1e-6) * self.within(f64::INFINITY)
    }

    fn hangs(&self) -> bool {
        self.within(f64::INFINITY) < USUAL.0 * 0.1 && self.in_flight.is_some_and(|many| many >= USUAL.1)
    }

    fn fails(&self) -> bool {
        self.errors.is_some_and(|errors| errors > MOST_ERRORS * self.within(f64::INFINITY))
    }
}

#[test]
fn a_hostile_reading_is_a_reading_or_a_reason_and_never_slow_without_slow_numbers() {
    let backend = backend();
    let read = |body: &[u8]| answer::traffic(body, &backend, Duration::from_secs(10), Timestamp::UNIX_EPOCH);
    let original = read(healthy().to_string().as_bytes()).unwrap();
    assert_eq!(judged(&original), [Verdict::Healthy, Verdict::Healthy]);
    each(&healthy(), MUTANTS, |body| match read(body) {
        Err(no_data) => is_told(&no_data),
        Ok(traffic) => {
            are_counts(&traffic.buckets);
            is_count(&traffic.in_flight);
            is_count(&traffic.errors);
            let plain = Plain::of(body);
            let [latency, errors] = judged(&traffic);
            let breached = |verdict| matches!(verdict, Verdict::Breached(_));
            assert!(!breached(latency) || plain.is_slow() || plain.hangs(), "slow without slow numbers");
            assert!(!breached(errors) || plain.fails() || plain.hangs(), "failing without failures");
        }
    });
}

#[test]
fn hostile_views_are_views_or_a_reason() {
    let backend = backend();
    assert_eq!(views::views(by_view().to_string().as_bytes(), &backend, "view").unwrap().len(), 3);
    each(&by_view(), MUTANTS / 2, |body| match views::views(body, &backend, "view") {
        Err(no_data) => is_told(&no_data),
        Ok(found) => {
            for view in &found {
                are_counts(&view.buckets);
                let name = &view.view;
                assert!(name.chars().count() <= 200 && !name.contains(char::is_control), "a view: {name:?}");
            }
            let slow = format!("{}", by_view()).replace("\"1000\"", "\"3000\"");
            let mut traffic =
                answer::traffic(slow.as_bytes(), &backend, Duration::from_secs(10), Timestamp::UNIX_EPOCH)
                    .unwrap();
            traffic.views = Observed::Known { at: Timestamp::UNIX_EPOCH, value: found };
            judged(&traffic);
        }
    });
}

/// What is made of an answer over HTTP. The backend is a stub: no Prometheus answers like this.
async fn over_http(head: &str, body: &[u8], times: usize) -> Observed<Traffic> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let text = format!(
        "apiVersion: {}\nkind: OperatorConfig\nbackends: [{{name: default, url: '{url}', timeout: 20s}}]",
        crate::config::API_VERSION
    );
    let config: Config = serde_saphyr::from_str(&text).unwrap();
    let source =
        super::Prometheus::new(&config.backends, Clock::at(Timestamp::UNIX_EPOCH), Metrics::new(false))
            .unwrap();
    let object =
        json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"targetRef": {"name": "t"}}});
    let policy = convert::policy(&serde_json::from_value(object).unwrap()).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = stream.read(&mut request).await;
        // Who has enough of it hangs up.
        let mut sent = stream.write_all(head.as_bytes()).await;
        for _ in 0..times {
            if sent.is_ok() {
                sent = stream.write_all(body).await;
            }
        }
        drop(stream);
    };
    let (mut read, ()) = tokio::join!(source.traffic(&policy, false), serve);
    read.remove("p95").unwrap()
}

#[tokio::test]
async fn an_answer_without_end_or_sense_is_a_reason() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let healthy = healthy().to_string();
    let good = over_http(OK, healthy.as_bytes(), 1).await;
    assert!(good.known().is_some(), "{good:?}");
    let spaces = vec![b' '; 1 << 20];
    let html = "HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n";
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let json = "HTTP/1.1 422 No\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let short = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n";
    let packed = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
    let error = br#"{"status":"error","error":"\u001b[31mno"}"#;
    let cases: [(&str, &[u8], usize, NoDataReason); 9] = [
        // A thousand megabytes are on offer; four are taken.
        (OK, &spaces, 1_000, NoDataReason::BadAnswer),
        (OK, b"<html>", 1, NoDataReason::BadAnswer),
        (OK, b"", 1, NoDataReason::BadAnswer),
        (html, b"<html>", 1, NoDataReason::HttpError),
        (moved, b"", 1, NoDataReason::HttpError),
        (json, error, 1, NoDataReason::QueryRefused),
        (short, healthy.as_bytes(), 1, NoDataReason::Unreachable),
        (packed, healthy.as_bytes(), 1, NoDataReason::Unreachable),
        ("SSH-2.0-OpenSSH_9.9\r\n", b"\xff\x00", 1, NoDataReason::Unreachable),
    ];
    for (head, body, times, reason) in cases {
        let Observed::Missing(no_data) = over_http(head, body, times).await else {
            panic!("it is read: {head}")
        };
        is_told(&no_data);
        assert_eq!(no_data.reason, reason, "{head}: {no_data}");
    }
}
