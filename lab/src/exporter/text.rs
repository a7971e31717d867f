//! The ledger as the two programs would expose it: django-prometheus in the application, Caddy at the edge.

use std::fmt::{Display, Write};

use super::ExporterOptions;
use super::traffic::{Done, Ledger};

const DJANGO_LATENCY: &str = "django_http_requests_latency_seconds_by_view_method";
const CADDY_LATENCY: &str = "caddy_http_request_duration_seconds";

/// All metrics in the text format.
pub(super) fn render(ledger: &Ledger, options: &ExporterOptions) -> String {
    let mut out = String::with_capacity(8 * 1024);
    django(&mut out, ledger, &options.django_bounds);
    caddy(&mut out, ledger, options);
    out
}

/// Those of the application alone.
pub(super) fn render_django(ledger: &Ledger, options: &ExporterOptions) -> String {
    let mut out = String::with_capacity(4 * 1024);
    django(&mut out, ledger, &options.django_bounds);
    out
}

fn django(out: &mut String, ledger: &Ledger, bounds: &[f64]) {
    head(out, DJANGO_LATENCY, "histogram");
    for (view, done) in ledger.views() {
        let labels = format!("method=\"GET\",view=\"{}\"", escape(view));
        // Python writes every float with a point.
        histogram(out, DJANGO_LATENCY, &labels, bounds, done.iter(), |bound| format!("{bound:?}"));
    }
    let (begun, answered) = ledger.begun_and_answered();
    for (name, count) in [
        ("django_http_requests_before_middlewares_total", begun),
        ("django_http_responses_before_middlewares_total", answered),
    ] {
        head(out, name, "counter");
        line(out, name, "", count);
    }
    let name = "django_http_responses_total_by_status_view_method_total";
    head(out, name, "counter");
    for (view, done) in ledger.views() {
        for status in statuses(done) {
            let labels = format!("method=\"GET\",status=\"{status}\",view=\"{}\"", escape(view));
            let count: f64 = of_status(done, status).map(|(_, count)| count).sum();
            line(out, name, &labels, whole(count));
        }
    }
}

fn caddy(out: &mut String, ledger: &Ledger, options: &ExporterOptions) {
    let mut all = Done::new();
    for (_, done) in ledger.views() {
        for (kind, count) in done {
            *all.entry(*kind).or_default() += count;
        }
    }
    let edge = format!("handler=\"reverse_proxy\",server=\"{}\"", escape(&options.server));
    head(out, CADDY_LATENCY, "histogram");
    for status in statuses(&all) {
        let labels = format!("code=\"{status}\",method=\"GET\",{edge}");
        let done = of_status(&all, status);
        histogram(out, CADDY_LATENCY, &labels, &options.caddy_bounds, done, |bound| bound.to_string());
    }
    let total: f64 = all.values().sum::<f64>() + ledger.refused();
    head(out, "caddy_http_requests_total", "counter");
    line(out, "caddy_http_requests_total", &edge, whole(total));
    head(out, "caddy_http_request_errors_total", "counter");
    line(out, "caddy_http_request_errors_total", &edge, whole(ledger.refused()));
    head(out, "caddy_http_requests_in_flight", "gauge");
    line(out, "caddy_http_requests_in_flight", &edge, f64::from(ledger.in_flight()));
}

fn histogram<'a>(
    out: &mut String,
    name: &str,
    labels: &str,
    bounds: &[f64],
    done: impl Iterator<Item = (&'a (u16, std::time::Duration), &'a f64)>,
    written: impl Fn(f64) -> String,
) {
    let done: Vec<(f64, f64)> = done.map(|((_, latency), count)| (latency.as_secs_f64(), *count)).collect();
    let up_to =
        |bound: f64| done.iter().filter(|(seconds, _)| *seconds <= bound).map(|(_, count)| count).sum();
    for bound in bounds {
        let labels = format!("le=\"{}\",{labels}", written(*bound));
        line(out, &format!("{name}_bucket"), &labels, whole(up_to(*bound)));
    }
    let count = whole(up_to(f64::INFINITY));
    line(out, &format!("{name}_bucket"), &format!("le=\"+Inf\",{labels}"), count);
    line(out, &format!("{name}_count"), labels, count);
    let sum: f64 = done.iter().map(|(seconds, count)| seconds * count).sum();
    line(out, &format!("{name}_sum"), labels, sum);
}

/// Requests are whole; what is begun is not counted yet. Rounding errors must not take one away.
fn whole(count: f64) -> f64 {
    (count + 1e-6).floor()
}

fn statuses(done: &Done) -> Vec<u16> {
    let mut statuses: Vec<u16> = done.keys().map(|(status, _)| *status).collect();
    statuses.dedup();
    statuses
}

fn of_status(done: &Done, wanted: u16) -> impl Iterator<Item = (&(u16, std::time::Duration), &f64)> {
    done.iter().filter(move |((status, _), _)| *status == wanted)
}

fn head(out: &mut String, name: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::exporter::Traffic;

    #[test]
    fn both_programs_show_the_same_traffic() {
        let begin = Instant::now();
        let mut ledger = Ledger::new(begin);
        let traffic = Traffic::steady(100.0, Duration::from_millis(40))
            .slow(0.1, Duration::from_secs(3))
            .errors(0.5)
            .refused(0.2)
            .in_flight(7);
        ledger.set("order-list", traffic);
        ledger.advance(begin + Duration::from_secs(10));
        let text = render(&ledger, &ExporterOptions::default());
        let edge = "handler=\"reverse_proxy\",server=\"edge\"";
        for line in [
            // 1,000 requests, 800 of them served, 720 quickly.
            format!("{DJANGO_LATENCY}_bucket{{le=\"0.05\",method=\"GET\",view=\"order-list\"}} 720"),
            format!("{DJANGO_LATENCY}_bucket{{le=\"1.0\",method=\"GET\",view=\"order-list\"}} 720"),
            format!("{DJANGO_LATENCY}_bucket{{le=\"+Inf\",method=\"GET\",view=\"order-list\"}} 800"),
            format!("{DJANGO_LATENCY}_count{{method=\"GET\",view=\"order-list\"}} 800"),
            "django_http_responses_total_by_status_view_method_total{method=\"GET\",status=\"500\",view=\"order-list\"} 400".to_owned(),
            "django_http_requests_before_middlewares_total 807".to_owned(),
            "django_http_responses_before_middlewares_total 800".to_owned(),
            format!("{CADDY_LATENCY}_bucket{{le=\"1\",code=\"200\",method=\"GET\",{edge}}} 360"),
            format!("{CADDY_LATENCY}_count{{code=\"500\",method=\"GET\",{edge}}} 400"),
            format!("caddy_http_request_errors_total{{{edge}}} 200"),
            format!("caddy_http_requests_total{{{edge}}} 1000"),
            format!("caddy_http_requests_in_flight{{{edge}}} 7"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
