//! From an answer to the traffic of each view, or to the reason why there is none. One bad sample spoils all of them: what
//! is left would look like the whole.

use std::collections::BTreeMap;

use engine::model::{Bucket, NoData, NoDataReason, ViewTraffic};

use super::answer::{MOST_SAMPLES as MOST_BUCKETS, add, bound, fresh, histogram, missing, number, samples};
use super::query::PART;
use crate::api::text::shown;
use crate::config::Backend;

/// A large application has hundreds of views, each with a histogram.
const MOST_SAMPLES: usize = 20_000;

/// More of a view's name is not told.
const LONGEST_NAME: usize = 128;

/// The traffic of each view in an answer, by the view's name; `label` has it.
pub(super) fn views(body: &[u8], backend: &Backend, label: &str) -> Result<Vec<ViewTraffic>, NoData> {
    let name = &backend.name;
    let samples = samples(body, name)?;
    let many = |detail: String| NoData::new(NoDataReason::ManySeries, detail);
    if samples.len() > MOST_SAMPLES {
        let count = samples.len();
        return Err(many(format!(
            "{name} answered with {count} series of views; {MOST_SAMPLES} can be judged"
        )));
    }
    let mut views: BTreeMap<&str, Vec<Bucket>> = BTreeMap::new();
    let mut age = None;
    for sample in &samples {
        let value = number(sample)?;
        if sample.label(PART) != "bucket" {
            age = Some(value);
            continue;
        }
        let buckets = views.entry(sample.label(label)).or_default();
        add(buckets, bound(sample)?, value)?;
        if buckets.len() > MOST_BUCKETS {
            return Err(many(format!("a view has more than {MOST_BUCKETS} buckets")));
        }
    }
    if views.is_empty() {
        return Err(missing("the views", backend));
    }
    fresh(age.ok_or_else(|| missing("the newest sample of the views", backend))?, backend)?;
    // Whoever serves the metrics chooses the names; they are told to people.
    let view = |(view, buckets): (&str, _)| {
        Ok(ViewTraffic { view: shown(view, LONGEST_NAME), buckets: histogram(buckets)? })
    };
    views.into_iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(body: &str) -> Result<Vec<ViewTraffic>, NoDataReason> {
        let text = format!(
            "apiVersion: {}\nkind: OperatorConfig\nbackends: [{{name: b, url: 'http://h'}}]",
            crate::config::API_VERSION
        );
        let config: Config = serde_saphyr::from_str(&text).unwrap();
        views(body.as_bytes(), &config.backends[0], "view").map_err(|no_data| no_data.reason)
    }

    /// Part, view, bound and value.
    fn vector(samples: &[(&str, &str, &str, &str)]) -> String {
        let samples: Vec<String> = samples
            .iter()
            .map(|(part, view, le, value)| {
                // An empty label is none.
                let view = if view.is_empty() { String::new() } else { format!(r#","view":"{view}""#) };
                format!(r#"{{"metric":{{"q":"{part}","le":"{le}"{view}}},"value":[1,"{value}"]}}"#)
            })
            .collect();
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, samples.join(","))
    }

    const GOOD: [(&str, &str, &str, &str); 5] = [
        ("bucket", "orders", "+Inf", "100"),
        ("bucket", "orders", "0.5", "90"),
        ("bucket", "", "0.5", "7"),
        ("bucket", "", "+Inf", "8"),
        ("age", "", "", "0.5"),
    ];

    fn with(index: usize, changed: (&str, &str, &str, &str)) -> Result<Vec<ViewTraffic>, NoDataReason> {
        let mut samples = GOOD;
        samples[index] = changed;
        read(&vector(&samples))
    }

    #[test]
    fn each_view_has_a_histogram_of_its_own_the_one_without_a_name_too() {
        let views = read(&vector(&GOOD)).unwrap();
        let told: Vec<_> =
            views.iter().map(|v| (v.view.as_str(), v.bucket_at(0.5).unwrap().count, v.completed())).collect();
        assert_eq!(told, [("", 7.0, 8.0), ("orders", 90.0, 100.0)]);
    }

    #[test]
    fn a_view_is_told_briefly_and_without_control_characters() {
        let long = "v".repeat(10_000);
        for (name, told) in
            [("a\\u001b[31m\\nb", "a[31mb"), (&*long, &*format!("{}…", &long[1..LONGEST_NAME]))]
        {
            let samples = [("bucket", name, "+Inf", "100"), ("bucket", name, "0.5", "90"), GOOD[4]];
            assert_eq!(read(&vector(&samples)).unwrap()[0].view, told);
        }
    }

    #[test]
    fn one_bad_sample_spoils_all_views() {
        assert_eq!(with(2, ("bucket", "", "0.5", "NaN")), Err(NoDataReason::NotANumber));
        assert_eq!(with(2, ("bucket", "", "0.5", "-1")), Err(NoDataReason::NotACount));
        assert_eq!(with(2, ("bucket", "", "0.5", "+Inf")), Err(NoDataReason::NotACount));
        assert_eq!(with(2, ("bucket", "", "soon", "7")), Err(NoDataReason::BadAnswer));
        assert_eq!(with(3, ("bucket", "", "1", "8")), Err(NoDataReason::BadAnswer), "no infinite bucket");
        assert_eq!(with(4, ("age", "", "", "60")), Err(NoDataReason::Stale));
        assert_eq!(with(4, ("age", "", "", "NaN")), Err(NoDataReason::NotANumber));
        assert_eq!(read(&vector(&GOOD[..4])), Err(NoDataReason::Empty), "how old it is, is not known");
        assert_eq!(read(&vector(&GOOD[4..])), Err(NoDataReason::Empty));
        assert_eq!(read(&vector(&[])), Err(NoDataReason::Empty));
        assert_eq!(read(r#"{"status":"error","error":"too many samples"}"#), Err(NoDataReason::QueryRefused));
    }

    #[test]
    fn more_than_can_be_judged_is_told() {
        let names: Vec<String> = (0..MOST_SAMPLES).map(|number| number.to_string()).collect();
        let mut samples: Vec<_> =
            names.iter().map(|name| ("bucket", name.as_str(), "+Inf", "1")).take(MOST_SAMPLES - 1).collect();
        samples.push(GOOD[4]);
        assert_eq!(read(&vector(&samples)).map(|views| views.len()), Ok(MOST_SAMPLES - 1));
        samples.push(GOOD[0]);
        assert_eq!(read(&vector(&samples)), Err(NoDataReason::ManySeries));
        let bounds: Vec<_> = names
            .iter()
            .map(|bound| ("bucket", "orders", bound.as_str(), "1"))
            .take(MOST_BUCKETS + 1)
            .collect();
        assert_eq!(read(&vector(&bounds)), Err(NoDataReason::ManySeries));
    }
}
