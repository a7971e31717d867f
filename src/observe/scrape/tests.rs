//! Several Pods: what is merged, and what is made of those that cannot be read.

use std::net::SocketAddr;

use engine::model::Preset;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(60);

fn pod(number: u8) -> Endpoint {
    Endpoint { pod: format!("p{number}"), address: SocketAddr::from(([10, 0, 0, number], 80)) }
}

fn refused() -> Result<Scraped, NoData> {
    Err(NoData::new(NoDataReason::Unreachable, "no connection: it was refused"))
}

/// So many requests, a tenth of them slow, one of ten failed.
fn shows(count: u32) -> Result<Scraped, NoData> {
    let name = "django_http_requests_latency_seconds_by_view_method_bucket";
    let text = format!(
        "{name}{{view=\"a\",le=\"0.5\"}} {}\n{name}{{view=\"a\",le=\"+Inf\"}} {count}\n\
         django_http_responses_total_by_status_view_method_total{{view=\"a\",status=\"500\"}} {}\n\
         django_http_responses_total_by_status_view_method_total{{view=\"a\",status=\"404\"}} 7\n\
         django_http_requests_before_middlewares_total {}\ndjango_http_responses_before_middlewares_total {count}",
        count / 10 * 9,
        count / 10,
        count + 2,
    );
    read(text.as_bytes(), counted(Preset::Django).unwrap())
}

/// Rounds that are 15 s apart; in each what each Pod says, from the first on.
fn rounds(rounds: impl IntoIterator<Item = Vec<Result<Scraped, NoData>>>) -> Scrapes {
    let begun = Instant::now();
    let mut scrapes = Scrapes { longest: WINDOW, ..Scrapes::default() };
    for (step, read) in (0..).zip(rounds) {
        let (at, time) = (begun + 15 * SECOND * step, Timestamp::UNIX_EPOCH);
        let read = (1..).map(pod).zip(read).collect();
        let found = Ok(scrapes.add((at, time), read));
        scrapes.round = Some(Round { at, time, found });
    }
    scrapes
}

fn judged(scrapes: &Scrapes, closely: bool) -> Result<TrafficWindow, NoData> {
    scrapes.judged(WINDOW, counted(Preset::Django).unwrap(), closely)
}

#[test]
fn pods_are_merged_and_views_are_read_where_it_is_looked_closely() {
    let scrapes = rounds((0..6).map(|step| vec![shows(100 + 10 * step), shows(1000 + 100 * step)]));
    let traffic = judged(&scrapes, true).unwrap();
    assert_eq!(traffic.completed(), 440.0);
    assert_eq!(traffic.bucket_at(0.5).unwrap().count, 396.0);
    assert_eq!((traffic.errors.known(), traffic.in_flight.known()), (Some(&44.0), Some(&4.0)));
    let views = traffic.views.known().unwrap();
    assert_eq!((views[0].view.as_str(), views[0].completed()), ("a", 440.0));
    let Observed::Missing(no_data) = judged(&scrapes, false).unwrap().views else { panic!("nobody asked") };
    assert_eq!(no_data.reason, NoDataReason::NotYetRead);
}

#[test]
fn the_first_window_is_waited_for_and_it_is_said_how_long() {
    let scrapes = rounds((0..4).map(|step| vec![shows(10 * step)]));
    let no_data = judged(&scrapes, false).unwrap_err();
    assert_eq!(no_data.reason, NoDataReason::NotYetRead);
    assert_eq!(no_data.detail, "the first window of 1m is complete at 00:01:00 UTC");
    assert!(judged(&Scrapes::default(), false).is_err());
}

#[test]
fn half_of_the_pods_are_enough_and_fewer_are_not() {
    let both = (0..5).map(|step| vec![shows(10 * step), shows(10 * step)]);
    let half = rounds(both.chain([vec![shows(50), refused()]]));
    // Of the other Pod what was seen last: 10 of its requests were not.
    assert_eq!(judged(&half, false).unwrap().completed(), 70.0);
    let third = rounds((0..6).map(|step| vec![shows(10 * step), refused(), refused()]));
    let no_data = judged(&third, false).unwrap_err();
    assert_eq!(no_data.reason, NoDataReason::Unreachable);
    assert_eq!(no_data.detail, "2 of 3 Pods cannot be read; Pod p2: no connection: it was refused");
}

#[test]
fn processes_that_answer_in_turn_are_told_with_the_way_out() {
    let scrapes = rounds((0..6).map(|step| vec![shows(if step % 2 == 0 { 1000 } else { 10 })]));
    let no_data = judged(&scrapes, false).unwrap_err();
    assert_eq!(no_data.reason, NoDataReason::BadAnswer);
    assert!(no_data.detail.contains("PROMETHEUS_MULTIPROC_DIR"), "{no_data}");
}

#[test]
fn a_pod_that_has_gone_counts_as_long_as_the_window_knows_it() {
    let both = (0..5).map(|step| vec![shows(10 * step), shows(10 * step)]);
    let gone = rounds(both.clone().chain([vec![shows(50)]]));
    assert_eq!(judged(&gone, false).unwrap().completed(), 70.0);
    let long = rounds(both.chain((5..10).map(|step| vec![shows(10 * step)])));
    assert_eq!(judged(&long, false).unwrap().completed(), 40.0);
    assert_eq!(long.pods.len(), 1);
}

#[test]
fn pods_that_come_and_go_are_forgotten() {
    let mut scrapes = Scrapes { longest: WINDOW, ..Scrapes::default() };
    let at = Instant::now();
    for number in 0..=255 {
        scrapes.add((at + SECOND / 10, Timestamp::UNIX_EPOCH), vec![(pod(number), shows(10))]);
    }
    assert_eq!(scrapes.pods.len(), MOST_PODS);
}
