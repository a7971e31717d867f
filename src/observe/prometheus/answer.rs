//! From an answer to a window of traffic, or to the reason why there is none. Nothing is guessed: a part that is missing,
//! doubled, not finite or too old is NoData with its own reason.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use engine::model::{Bucket, NoData, NoDataReason, Observed, Traffic, TrafficWindow, duration::human};
use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::query::{PART, TARGET};
use super::together::Member;
use crate::api::text::shown;
use crate::config::Backend;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default, borrow)]
    error: Cow<'a, str>,
    #[serde(default, borrow)]
    warnings: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

/// Histograms have a dozen buckets, and careful ones a hundred.
pub(super) const MOST_SAMPLES: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    result_type: Cow<'a, str>,
    /// Of a shape of its own for each type.
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
pub(super) struct Sample<'a> {
    #[serde(borrow)]
    metric: Labels<'a>,
    /// A time and the value as text, as JSON knows neither NaN nor Inf.
    #[serde(borrow)]
    value: Option<(f64, Text<'a>)>,
}

/// A handful, as they lie in the answer.
struct Labels<'a>(Vec<(Text<'a>, Text<'a>)>);

/// Borrowed from the answer where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::with_capacity(4);
                while let Some(label) = map.next_entry()? {
                    labels.push(label);
                }
                Ok(Labels(labels))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

impl Sample<'_> {
    /// A label; one that is not there is empty, as Prometheus has it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.known(name).unwrap_or_default()
    }

    fn known(&self, name: &str) -> Option<&str> {
        // Of two the last one, as everywhere where JSON is read.
        self.metric.0.iter().rev().find(|(known, _)| known.0 == name).map(|(_, value)| &*value.0)
    }
}

/// The traffic in an answer.
pub(super) fn traffic(
    body: &[u8],
    backend: &Backend,
    window: Duration,
    now: Timestamp,
) -> Result<Traffic, NoData> {
    let samples = samples(body, &backend.name)?;
    of_one(&samples.iter().collect::<Vec<_>>(), backend, window, now)
}

/// The traffic of each target in an answer to [`super::query::together`].
pub(super) fn several(
    body: &[u8],
    backend: &Backend,
    window: Duration,
    now: Timestamp,
) -> Result<BTreeMap<Member, Result<Traffic, NoData>>, NoData> {
    let samples = samples(body, &backend.name)?;
    let mut by_target: BTreeMap<(&str, &str), Vec<&Sample<'_>>> = BTreeMap::new();
    for sample in &samples {
        let (namespace, target) = (sample.label(&backend.namespace_label), sample.label(TARGET));
        // What is no pod of such a workload has no name, and is nobody's.
        if !target.is_empty() {
            by_target.entry((namespace, target)).or_default().push(sample);
        }
    }
    let read = |((namespace, target), samples): ((&str, &str), Vec<&Sample<'_>>)| {
        let member = Member { namespace: namespace.to_owned(), target: target.to_owned() };
        (member, of_one(&samples, backend, window, now))
    };
    Ok(by_target.into_iter().map(read).collect())
}

fn of_one(
    samples: &[&Sample<'_>],
    backend: &Backend,
    window: Duration,
    now: Timestamp,
) -> Result<Traffic, NoData> {
    if samples.len() > MOST_SAMPLES {
        let detail = format!(
            "{} answered with {} series; a histogram of at most {MOST_SAMPLES} buckets can be judged",
            backend.name,
            samples.len()
        );
        return Err(NoData::new(NoDataReason::ManySeries, detail));
    }
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut scalars: BTreeMap<&str, Result<f64, NoData>> = BTreeMap::new();
    for sample in samples {
        let part = sample.label(PART);
        let value = number(sample);
        if part == "bucket" {
            add(&mut buckets, bound(sample)?, value?)?;
        } else if scalars.insert(part, value).is_some() {
            let part = shown(part, 40);
            let detail = format!("{} has several series for {part} where one can be judged", backend.name);
            return Err(NoData::new(NoDataReason::ManySeries, detail));
        }
    }
    let missing = |what: &str| missing(what, backend);
    if buckets.is_empty() {
        return Err(missing("the latency histogram"));
    }
    let buckets = histogram(buckets)?;
    fresh(scalars.remove("age").unwrap_or_else(|| Err(missing("the newest sample")))?, backend)?;
    let mut scalar = |part: &str, absent: Result<f64, NoData>| match scalars.remove(part).unwrap_or(absent) {
        Ok(value) => Observed::Known { at: now, value: value.max(0.0) },
        Err(no_data) => Observed::Missing(no_data),
    };
    let in_flight = scalar("in_flight", Err(missing("requests in flight")));
    // A kind of failure that has never happened has no series, while the histogram beside it has: that is none.
    let errors = scalar("errors", Ok(0.0));
    let views = Observed::missing(NoDataReason::NotYetRead, super::VIEWS_LATER);
    Ok(Traffic::from(TrafficWindow { window, buckets, in_flight, errors, views }))
}

pub(super) fn missing(what: &str, backend: &Backend) -> NoData {
    let detail = format!("{} has no series for {what} that match", backend.name);
    NoData::new(NoDataReason::Empty, detail)
}

pub(super) fn samples<'a>(body: &'a [u8], name: &str) -> Result<Vec<Sample<'a>>, NoData> {
    let bad = |what: &str| NoData::new(NoDataReason::BadAnswer, format!("{name} answered with {what}"));
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| bad("something that is no Prometheus answer"))?;
    if answer.status != "success" {
        let error = shown(&answer.error, 200);
        return Err(NoData::new(NoDataReason::QueryRefused, format!("{name} refused the query: {error}")));
    }
    if let Some(warning) = answer.warnings.first() {
        let warning = shown(warning, 200);
        let detail = format!("{name} warns that the data may be partial: {warning}");
        return Err(NoData::new(NoDataReason::Warnings, detail));
    }
    let data = answer.data.ok_or_else(|| bad("no data"))?;
    if data.result_type != "vector" {
        return Err(bad("a result that is not a vector"));
    }
    serde_json::from_str(data.result.get()).map_err(|_| bad("samples of another shape"))
}

/// Above this whole numbers are not exact any more, and sums of a few thousand are far from infinite.
const MOST: f64 = 9_007_199_254_740_992.0;

pub(super) fn number(sample: &Sample<'_>) -> Result<f64, NoData> {
    let Some((_, Text(text))) = &sample.value else {
        return Err(NoData::new(
            NoDataReason::BadAnswer,
            "a native histogram came where a number was asked for",
        ));
    };
    let value: f64 = text
        .parse()
        .map_err(|_| NoData::new(NoDataReason::BadAnswer, "a sample is not a number".to_owned()))?;
    if value.is_nan() {
        return Err(NoData::new(NoDataReason::NotANumber, "a sample is NaN"));
    }
    if value.is_infinite() {
        return Err(NoData::new(NoDataReason::NotACount, "a sample is infinite"));
    }
    if value.abs() > MOST {
        return Err(NoData::new(NoDataReason::NotACount, "a sample is larger than anything that is counted"));
    }
    Ok(value)
}

/// `le` is compared as a number: Prometheus 3 writes `1.0` where 2 wrote `1`.
pub(super) fn bound(sample: &Sample<'_>) -> Result<f64, NoData> {
    let bad =
        || NoData::new(NoDataReason::BadAnswer, "a bucket has no bound that is a length of time".to_owned());
    let text = sample.known("le").ok_or_else(bad)?;
    let bound: f64 = text.parse().map_err(|_| bad())?;
    // Nothing takes less than no time.
    if bound.is_nan() || bound < 0.0 { Err(bad()) } else { Ok(bound) }
}

/// Two spellings of one bound are two halves of one bucket.
pub(super) fn add(buckets: &mut Vec<Bucket>, le: f64, count: f64) -> Result<(), NoData> {
    if count < 0.0 {
        return Err(NoData::new(
            NoDataReason::NotACount,
            format!("the bucket up to {le} has a negative count"),
        ));
    }
    match buckets.iter_mut().find(|bucket| bucket.le.total_cmp(&le).is_eq()) {
        Some(bucket) => bucket.count += count,
        None => buckets.push(Bucket { le, count }),
    }
    Ok(())
}

/// Buckets in whatever order as one histogram.
pub(super) fn histogram(mut buckets: Vec<Bucket>) -> Result<Vec<Bucket>, NoData> {
    buckets.sort_by(|a, b| a.le.total_cmp(&b.le));
    if buckets.last().is_none_or(|last| last.le.is_finite()) {
        return Err(NoData::new(NoDataReason::BadAnswer, "the histogram has no infinite bucket".to_owned()));
    }
    Ok(cumulative(buckets))
}

/// Extrapolation is done bucket by bucket; a bucket never counts less than the one below it.
fn cumulative(mut buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut most: f64 = 0.0;
    for bucket in &mut buckets {
        most = most.max(bucket.count);
        bucket.count = most;
    }
    buckets
}

/// A range query goes on to speak for a target that is not scraped any more: the age of the newest sample tells.
pub(super) fn fresh(age: f64, backend: &Backend) -> Result<(), NoData> {
    let limit = backend.scrape_interval.saturating_mul(3).max(Duration::from_secs(5));
    let age = Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX);
    if age <= limit {
        return Ok(());
    }
    let detail = format!("the newest sample is {} old, at most {} is fresh", human(age), human(limit));
    Err(NoData::new(NoDataReason::Stale, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(body: &str) -> Result<Traffic, NoData> {
        let text = format!(
            "apiVersion: {}\nkind: OperatorConfig\nbackends: [{{name: b, url: 'http://h'}}]",
            crate::config::API_VERSION
        );
        let config: Config = serde_saphyr::from_str(&text).unwrap();
        traffic(body.as_bytes(), &config.backends[0], Duration::from_secs(10), Timestamp::UNIX_EPOCH)
    }

    fn vector(samples: &[(&str, &str, &str)]) -> String {
        let samples: Vec<String> = samples
            .iter()
            .map(|(part, le, value)| {
                format!(r#"{{"metric":{{"q":"{part}","le":"{le}"}},"value":[1,"{value}"]}}"#)
            })
            .collect();
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, samples.join(","))
    }

    const GOOD: [(&str, &str, &str); 4] =
        [("bucket", "0.5", "90"), ("bucket", "+Inf", "100"), ("in_flight", "", "4"), ("age", "", "0.5")];

    fn with(changed: (&str, &str, &str), index: usize) -> Result<Traffic, NoDataReason> {
        let mut samples = GOOD;
        samples[index] = changed;
        read(&vector(&samples)).map_err(|no_data| no_data.reason)
    }

    #[test]
    fn a_good_answer_is_read_and_absent_errors_are_none() {
        let traffic = read(&vector(&GOOD)).unwrap();
        assert_eq!(traffic.completed(), 100.0);
        assert_eq!(traffic.bucket_at(0.5).unwrap().count, 90.0);
        assert_eq!(traffic.in_flight.known(), Some(&4.0));
        assert_eq!(traffic.errors.known(), Some(&0.0));
    }

    #[test]
    fn bounds_are_numbers_and_two_spellings_are_one_bound() {
        let traffic = read(&vector(&[
            ("bucket", "1", "5"),
            ("bucket", "1.0", "6"),
            ("bucket", "+Inf", "11"),
            ("age", "", "0"),
        ]))
        .unwrap();
        assert_eq!(traffic.buckets.len(), 2);
        assert_eq!(traffic.bucket_at(1.0).unwrap().count, 11.0);
    }

    #[test]
    fn each_fault_has_a_reason_of_its_own() {
        assert_eq!(with(("bucket", "+Inf", "NaN"), 1), Err(NoDataReason::NotANumber));
        assert_eq!(with(("bucket", "+Inf", "+Inf"), 1), Err(NoDataReason::NotACount));
        assert_eq!(with(("bucket", "+Inf", "-1"), 1), Err(NoDataReason::NotACount));
        assert_eq!(with(("bucket", "+Inf", "1e308"), 1), Err(NoDataReason::NotACount), "two are infinite");
        assert_eq!(with(("bucket", "+Inf", "many"), 1), Err(NoDataReason::BadAnswer));
        assert_eq!(with(("bucket", "1", "100"), 1), Err(NoDataReason::BadAnswer));
        assert_eq!(with(("bucket", "-5", "90"), 0), Err(NoDataReason::BadAnswer));
        let bounds: Vec<String> = (0..=MOST_SAMPLES).map(|bound| bound.to_string()).collect();
        let many: Vec<_> = bounds.iter().map(|bound| ("bucket", bound.as_str(), "1")).collect();
        assert_eq!(read(&vector(&many)).unwrap_err().reason, NoDataReason::ManySeries);
        assert_eq!(with(("age", "", "0.5"), 2), Err(NoDataReason::ManySeries));
        assert_eq!(with(("age", "", "60"), 3), Err(NoDataReason::Stale));
        assert_eq!(with(("errors", "", "1"), 3), Err(NoDataReason::Empty));
        assert_eq!(read(&vector(&GOOD[2..])).unwrap_err().reason, NoDataReason::Empty);
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(read(refused).unwrap_err().reason, NoDataReason::QueryRefused);
        let partial = vector(&GOOD).replace(r#""data""#, r#""warnings":["one store is down"],"data""#);
        assert_eq!(read(&partial).unwrap_err().reason, NoDataReason::Warnings);
        let matrix = vector(&GOOD).replace("vector", "matrix");
        assert_eq!(read(&matrix).unwrap_err().reason, NoDataReason::BadAnswer);
        for rubbish in ["", "<html>", "{", "[]", r#"{"status":"success"}"#, "null"] {
            assert_eq!(read(rubbish).unwrap_err().reason, NoDataReason::BadAnswer, "{rubbish}");
        }
    }

    #[test]
    fn a_foreign_part_is_told_briefly_and_without_control_characters() {
        let part = format!("a\\nlevel=error {}", "x".repeat(10_000));
        let samples = [GOOD[0], GOOD[1], (&*part, "", "1"), (&*part, "", "1")];
        let said = read(&vector(&samples)).unwrap_err().detail;
        assert!(said.len() < 200 && !said.contains(char::is_control), "{said}");
    }

    #[test]
    fn unknown_requests_in_flight_are_not_none() {
        let samples = [GOOD[0], GOOD[1], GOOD[3], ("in_flight", "", "NaN")];
        assert!(matches!(read(&vector(&samples)).unwrap().in_flight, Observed::Missing(_)));
    }
}
