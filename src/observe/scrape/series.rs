//! Which series of an exposition belong to a preset. The expressions of the presets say the same in PromQL; a test compares them.

use std::collections::BTreeMap;

use engine::model::{NoData, NoDataReason, Preset};

use super::text::{BadLine, Sample, samples};
use crate::api::text::shown;

/// Series of one Pod that are kept.
pub(super) const MOST_SERIES: usize = 5_000;
/// More of a view's name is not told.
const LONGEST_NAME: usize = 128;
/// Above this whole numbers are not exact any more.
const MOST: f64 = 9_007_199_254_740_992.0;
/// When the process that answers began, in seconds since 1970.
const STARTED: &str = "process_start_time_seconds";

/// What a preset counts. In a pattern `*` stands for any text, `?` for one letter.
#[derive(Debug)]
pub(super) struct Counted {
    /// The latency histogram, without `_bucket`.
    pub(super) histogram: &'static str,
    /// The label that tells the views apart, and the views that are not counted.
    view: (&'static str, &'static [&'static str]),
    /// Requests that have begun, and those that have ended.
    begun_and_ended: (&'static str, &'static str),
    /// Answers, the label that tells which, and those that are errors.
    errors: (&'static str, &'static str, &'static str),
}

/// django-prometheus.
const DJANGO: Counted = Counted {
    histogram: "django_http_requests_latency_seconds_by_view_method",
    view: ("view", &["prometheus*", "*health*"]),
    begun_and_ended: (
        "django_http_requests_before_middlewares_total",
        "django_http_responses_before_middlewares_total",
    ),
    errors: ("django_http_responses_total_by_status_view_method_total", "status", "5??"),
};

/// What is counted where the exporter sits in the application.
pub(super) fn counted(preset: Preset) -> Option<&'static Counted> {
    match preset {
        Preset::Django => Some(&DJANGO),
        Preset::Caddy => None,
    }
}

/// What a series counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Requests that took at most the bound.
    Bucket,
    /// Requests that failed.
    Errors,
}

/// One counter of a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) part: Part,
    /// Empty where it has no name.
    pub(super) view: String,
    /// The bits of the bound; a bound is not negative.
    pub(super) le: u64,
    /// All other labels.
    rest: String,
}

/// What one scrape shows.
#[derive(Debug, Default)]
pub(super) struct Scraped {
    pub(super) counts: BTreeMap<Series, f64>,
    pub(super) in_flight: Option<f64>,
    /// When the process began, where it says so.
    pub(super) started: Option<f64>,
}

/// What an exposition shows.
pub(super) fn read(body: &[u8], of: &Counted) -> Result<Scraped, NoData> {
    let bad = |what: String| NoData::new(NoDataReason::BadAnswer, what);
    let text = std::str::from_utf8(body).map_err(|_| bad("the answer is not UTF-8".to_owned()))?;
    let bucket = format!("{}_bucket", of.histogram);
    let (begun, ended) = of.begun_and_ended;
    let names = [&*bucket, begun, ended, of.errors.0, STARTED];
    let (mut scraped, mut flow) = (Scraped::default(), [None, None]);
    for sample in samples(text, |name| names.contains(&name)) {
        let sample = sample.map_err(|BadLine(line)| {
            bad(format!("line {line} of the answer is not in Prometheus' text format"))
        })?;
        let value = count(&sample)?;
        let series = match sample.name {
            STARTED => {
                scraped.started = Some(value);
                continue;
            }
            name if name == begun || name == ended => {
                let [first, second] = &mut flow;
                *(if name == begun { first } else { second }).get_or_insert(0.0) += value;
                continue;
            }
            name if name == bucket => bucket_of(&sample, of)?,
            _ => error_of(&sample, of),
        };
        let Some(series) = series else { continue };
        if scraped.counts.insert(series, value).is_some() {
            return Err(bad(format!("{} has one series twice", sample.name)));
        }
        if scraped.counts.len() > MOST_SERIES {
            let detail = format!("it has more than {MOST_SERIES} series; name views, not paths");
            return Err(NoData::new(NoDataReason::ManySeries, detail));
        }
    }
    scraped.in_flight = flow[0].zip(flow[1]).map(|(begun, ended)| begun - ended);
    if scraped.counts.is_empty() && scraped.in_flight.is_none() {
        let detail = format!("it shows no series {}; is it the right port and path?", of.histogram);
        return Err(NoData::new(NoDataReason::Empty, detail));
    }
    Ok(scraped)
}

fn count(sample: &Sample<'_>) -> Result<f64, NoData> {
    let name = sample.name;
    if sample.value.is_nan() {
        return Err(NoData::new(NoDataReason::NotANumber, format!("a sample of {name} is NaN")));
    }
    if !(0.0..=MOST).contains(&sample.value) {
        return Err(NoData::new(NoDataReason::NotACount, format!("a sample of {name} is not a count")));
    }
    Ok(sample.value)
}

/// None where it is not counted.
fn bucket_of(sample: &Sample<'_>, of: &Counted) -> Result<Option<Series>, NoData> {
    let (label, without) = of.view;
    let view = sample.label(label);
    if without.iter().any(|pattern| fits(pattern, view)) {
        return Ok(None);
    }
    let bound: Option<f64> = sample.label("le").parse().ok().filter(|bound| *bound >= 0.0);
    let bound = bound.ok_or_else(|| {
        let detail = "a bucket has no bound that is a length of time";
        NoData::new(NoDataReason::BadAnswer, detail)
    })?;
    // Minus zero is zero.
    let le = (bound + 0.0).to_bits();
    Ok(Some(Series { part: Part::Bucket, view: shown(view, LONGEST_NAME), le, rest: rest(sample, "le") }))
}

fn error_of(sample: &Sample<'_>, of: &Counted) -> Option<Series> {
    let (_, label, pattern) = of.errors;
    let is_error = fits(pattern, sample.label(label));
    is_error.then(|| Series { part: Part::Errors, view: String::new(), le: 0, rest: rest(sample, "") })
}

/// All labels but one, in an order of their own: that of the exposition may change.
fn rest(sample: &Sample<'_>, without: &str) -> String {
    let mut labels: Vec<String> = (sample.labels.iter().filter(|(name, _)| *name != without))
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    labels.sort();
    labels.join(",")
}

/// Whether a text is of that pattern.
fn fits(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on when the newest `*` stands for one letter more.
    let mut again: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let at = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = at;
                again = Some((pattern.clone(), text.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => {
                let Some((after, mut longer)) = again.take() else { return false };
                if longer.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), longer.clone());
                again = Some((after, longer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::prometheus::presets::{PRESETS, Place};

    fn promql(pattern: &str) -> String {
        pattern.replace('*', ".*").replace('?', ".")
    }

    #[test]
    fn both_ways_to_read_a_preset_name_the_same_series() {
        for metrics in PRESETS {
            let counted = counted(metrics.preset);
            assert_eq!(counted.is_some(), metrics.place == Place::Application, "{metrics:?}");
            let Some(counted) = counted else { continue };
            let (label, without) = counted.view;
            let without: Vec<String> = without.iter().map(|pattern| promql(pattern)).collect();
            let (begun, ended) = counted.begun_and_ended;
            let (answers, of, errors) = counted.errors;
            assert_eq!(metrics.histogram, counted.histogram);
            assert_eq!(metrics.view_label, Some(label));
            assert_eq!(metrics.own, format!("{label}!~\"{}\"", without.join("|")));
            assert_eq!(metrics.in_flight, format!("sum({begun}{{}}) - sum({ended}{{}})"));
            assert_eq!(
                metrics.errors,
                format!("sum(increase({answers}{{{of}=~\"{}\",}}[]))", promql(errors))
            );
        }
    }

    #[test]
    fn a_pattern_is_the_whole_text() {
        for (pattern, text, is) in [
            ("prometheus*", "prometheus-django-metrics", true),
            ("prometheus*", "a-prometheus", false),
            ("*health*", "api-health", true),
            ("*health*", "healthz", true),
            ("*health*", "heal-th", false),
            ("*ab*ac", "ababac", true),
            ("5??", "503", true),
            ("5??", "50", false),
            ("5??", "5030", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, text), is, "{pattern} {text}");
        }
    }

    const H: &str = "django_http_requests_latency_seconds_by_view_method_bucket";

    fn reason(text: &str) -> NoDataReason {
        read(text.as_bytes(), &DJANGO).unwrap_err().reason
    }

    #[test]
    fn each_fault_has_a_reason_of_its_own() {
        let of = |labels: &str, value: &str| reason(&format!("{H}{{view=\"a\",{labels}}} {value}"));
        assert_eq!(of("le=\"1\"", "NaN"), NoDataReason::NotANumber);
        assert_eq!(of("le=\"1\"", "-1"), NoDataReason::NotACount);
        assert_eq!(of("le=\"1\"", "+Inf"), NoDataReason::NotACount);
        assert_eq!(of("le=\"soon\"", "1"), NoDataReason::BadAnswer);
        assert_eq!(of("le=\"NaN\"", "1"), NoDataReason::BadAnswer);
        assert_eq!(of("", "1"), NoDataReason::BadAnswer);
        assert_eq!(of("le=\"1\"", "1x"), NoDataReason::BadAnswer);
        assert_eq!(reason("<html>"), NoDataReason::BadAnswer);
        assert_eq!(reason("up 1"), NoDataReason::Empty);
        assert_eq!(read(b"\xff", &DJANGO).unwrap_err().reason, NoDataReason::BadAnswer);
        let twice = format!("{H}{{le=\"1\",view=\"a\"}} 1\n{H}{{view=\"a\",le=\"1.0\"}} 1");
        assert_eq!(reason(&twice), NoDataReason::BadAnswer);
        let many: String =
            (0..=MOST_SERIES).map(|view| format!("{H}{{le=\"1\",view=\"{view}\"}} 1\n")).collect();
        assert_eq!(reason(&many), NoDataReason::ManySeries);
    }

    #[test]
    fn probes_and_scrapes_are_not_counted_and_a_process_without_requests_is_one() {
        let text = format!(
            "{H}{{le=\"1\",view=\"prometheus-django-metrics\"}} 7\ndjango_http_requests_before_middlewares_total 9\n\
             django_http_responses_before_middlewares_total 8\n{STARTED} 1.5e9"
        );
        let scraped = read(text.as_bytes(), &DJANGO).unwrap();
        assert_eq!((scraped.counts.len(), scraped.in_flight, scraped.started), (0, Some(1.0), Some(1.5e9)));
    }
}
