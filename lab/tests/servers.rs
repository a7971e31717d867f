//! The servers are real, quick to start, and can be stopped, restarted and broken.

use std::time::Duration;

use lab::exporter::{Answer, Exporter, ExporterOptions, Traffic};
use lab::postgres::{Auth, Postgres, PostgresOptions, SUPERUSER, Stop};
use lab::prometheus::{Prometheus, PrometheusOptions, Target};
use lab::redis::{self, Redis, RedisOptions};
use lab::{Caddy, CaddyOptions, PgBouncer, PgBouncerOptions, Session};
use sqlx::{Connection, Row};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn postgres_asks_for_passwords_and_keeps_its_data_over_a_restart() {
    let session = Session::start().await.unwrap();
    let options = PostgresOptions { max_connections: 17, ..Default::default() }.setting("work_mem", "5MB");
    let mut server = Postgres::start(&session, options).await.unwrap();
    server.execute("postgres", "create role orders login password 'a/b c'").await.unwrap();
    server.execute("postgres", "create database shop").await.unwrap();
    server.execute("shop", "create table orders (id int); insert into orders values (1), (2)").await.unwrap();

    let url = server.url("orders", "a/b c", "shop");
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let row = sqlx::query(
        "select current_user::text, current_setting('max_connections'), current_setting('work_mem')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    let found: [String; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(found, ["orders", "17", "5MB"]);
    assert!(server.connect("orders", "wrong", "shop").await.is_err(), "a wrong password was accepted");
    sqlx::PgConnection::connect(&server.superuser_url("shop")).await.unwrap();

    server.restart().await.unwrap();
    let mut connection = server.superuser("shop").await.unwrap();
    let count: i64 =
        sqlx::query("select count(*) from orders").fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(count, 2);

    drop(connection);
    server.stop(Stop::Immediate).await.unwrap();
    assert!(server.superuser("shop").await.is_err(), "a stopped server answers");
    server.start_again().await.unwrap();
    server.execute("shop", "insert into orders values (3)").await.unwrap();
    let log = server.process().log_text();
    assert!(log.contains("user=orders db=shop"), "the log does not say who failed to log in:\n{log}");
}

#[tokio::test]
async fn two_postgres_servers_are_two_databases() {
    let session = Session::start().await.unwrap();
    let trusting = PostgresOptions { auth: Auth::Trust, ..Default::default() };
    let (one, other) = tokio::try_join!(
        Postgres::start(&session, PostgresOptions::default()),
        Postgres::start(&session, trusting)
    )
    .unwrap();
    let mut identifiers = Vec::new();
    for server in [&one, &other] {
        let mut connection = server.superuser(SUPERUSER).await.unwrap();
        let query = sqlx::query("select system_identifier from pg_control_system()");
        identifiers.push(query.fetch_one(&mut connection).await.unwrap().get::<i64, _>(0));
    }
    assert_ne!(identifiers[0], identifiers[1]);
    other.connect(SUPERUSER, "anything", SUPERUSER).await.unwrap();
    let output = session.run(one.client("psql").args(["-Atc", "select 7"]), LIMIT).await.unwrap();
    assert_eq!(output.success("running psql").unwrap().stdout, "7\n");
}

/// A backend that computes does not notice that its server is gone, and keeps the shared memory.
#[tokio::test]
async fn a_killed_postgres_takes_its_busy_backends_along() {
    let session = Session::start().await.unwrap();
    let mut server = Postgres::start(&session, PostgresOptions::default()).await.unwrap();
    let mut busy = server.superuser(SUPERUSER).await.unwrap();
    let pid: i32 = sqlx::query("select pg_backend_pid()").fetch_one(&mut busy).await.unwrap().get(0);
    let endless = "select count(*) from (select generate_series(1, 1000000000000)) endless";
    let query = tokio::spawn(async move { sqlx::query(endless).fetch_one(&mut busy).await.map(drop) });
    let mut watching = server.superuser(SUPERUSER).await.unwrap();
    lab::until(LIMIT, async || {
        let active =
            sqlx::query("select from pg_stat_activity where pid = $1 and state = 'active'").bind(pid);
        active.fetch_optional(&mut watching).await.unwrap()
    })
    .await
    .unwrap();
    let backend = lab::Identity::of(pid).unwrap();

    server.stop(Stop::Kill).await.unwrap();
    assert!(!backend.is_alive(), "the busy backend survived its server");
    assert!(query.await.unwrap().is_err());
    server.start_again().await.unwrap();
}

#[tokio::test]
async fn prometheus_shows_the_traffic_that_the_exporter_is_told() {
    let session = Session::start().await.unwrap();
    let exporter = Exporter::start(ExporterOptions::default()).unwrap();
    let usual = Traffic::steady(200.0, Duration::from_millis(40));
    exporter.set(usual.clone().in_flight(3));
    let target = Target::new("orders", &exporter.address(), &[("namespace", "shop")]);
    let options = PrometheusOptions { targets: vec![target], ..Default::default() };
    let prometheus = Prometheus::start(&session, options).await.unwrap();
    prometheus.seen(&exporter.address()).await.unwrap();

    let django = "django_http_requests_latency_seconds_by_view_method_bucket";
    let selector = "{job=\"orders\",namespace=\"shop\"}";
    let quantile = format!("histogram_quantile(0.95, sum by (le) (rate({django}{selector}[5s])))");
    // 40 ms lies between the bounds 25 ms and 50 ms, 3 s between 2.5 s and 5 s.
    until_between(&prometheus, &quantile, 0.025, 0.05).await;
    until_between(&prometheus, "sum(caddy_http_requests_in_flight)", 3.0, 3.0).await;
    exporter.set(usual.clone().slow(0.2, Duration::from_secs(3)).errors(0.1));
    until_between(&prometheus, &quantile, 2.5, 5.0).await;
    let name = "django_http_responses_total_by_status_view_method_total";
    let errors = format!("sum(rate({name}{{status=\"500\"}}[5s])) / sum(rate({name}[5s]))");
    until_between(&prometheus, &errors, 0.09, 0.11).await;
    let edge = "histogram_quantile(0.95, sum by (le) (rate(caddy_http_request_duration_seconds_bucket[5s])))";
    until_between(&prometheus, edge, 2.5, 5.0).await;
    exporter.set(usual);
    until_between(&prometheus, &quantile, 0.025, 0.05).await;

    for answer in [Answer::Status(503), Answer::Nothing, Answer::Text("this is no metric".to_owned())] {
        exporter.answer(answer);
        until_between(&prometheus, "up", 0.0, 0.0).await;
        exporter.answer(Answer::Metrics);
        until_between(&prometheus, "up", 1.0, 1.0).await;
    }
    exporter.reset();
    until_between(&prometheus, "resets(caddy_http_requests_total[1m])", 1.0, 1.0).await;
    prometheus.query("this is no expression").await.unwrap_err();
}

#[tokio::test]
async fn prometheus_remembers_over_a_restart_and_takes_targets_in_and_out() {
    let session = Session::start().await.unwrap();
    let [early, late] = [(); 2].map(|()| Exporter::start(ExporterOptions::default()).unwrap());
    let options = PrometheusOptions {
        targets: vec![Target::new("early", &early.address(), &[])],
        ..Default::default()
    };
    let mut prometheus = Prometheus::start(&session, options).await.unwrap();
    prometheus.seen(&early.address()).await.unwrap();
    prometheus.add_target("late", &late.address(), &[]).unwrap();
    let before = "count_over_time(up{job=\"early\"}[5m])";
    until_between(&prometheus, before, 3.0, 1000.0).await;
    let url = prometheus.url().to_owned();

    prometheus.stop().await.unwrap();
    assert!(prometheus.query("up").await.is_err(), "a stopped Prometheus answers");
    prometheus.start_again().await.unwrap();
    assert_eq!(prometheus.url(), url);
    assert!(prometheus.query(before).await.unwrap()[0].value >= 3.0, "it has forgotten");
    prometheus.seen(&late.address()).await.unwrap();
    prometheus.remove_target(&early.address()).unwrap();
    until_between(&prometheus, "count(up)", 1.0, 1.0).await;
}

#[tokio::test]
async fn a_paused_prometheus_accepts_connections_and_answers_nothing() {
    let session = Session::start().await.unwrap();
    let prometheus = Prometheus::start(&session, PrometheusOptions::default()).await.unwrap();
    prometheus.pause();
    tokio::time::timeout(Duration::from_secs(1), prometheus.query("1")).await.unwrap_err();
    prometheus.resume();
    assert!(prometheus.query("scalar(vector(1))").await.unwrap()[0].value > 0.5);
}

#[tokio::test]
async fn caddy_forwards_counts_and_changes_upstreams() {
    let session = Session::start().await.unwrap();
    let [one, other] = [(); 2].map(|()| Exporter::start(ExporterOptions::default()).unwrap());
    let options = CaddyOptions { server: "orders".to_owned(), upstreams: vec![one.address()] };
    let caddy = Caddy::start(&session, options).await.unwrap();
    let url = format!("{}/metrics", caddy.url());
    for _ in 0..3 {
        assert!(get(&url).await.contains("django_http"));
    }
    assert_eq!((one.scrapes(), other.scrapes()), (3, 0));
    caddy.set_upstreams(&[other.address()]).await.unwrap();
    get(&url).await;
    assert_eq!((one.scrapes(), other.scrapes()), (3, 1));

    let metrics = caddy.metrics().await.unwrap();
    let count = metrics
        .lines()
        .find(|line| {
            line.starts_with("caddy_http_request_duration_seconds_count")
                && line.contains("handler=\"reverse_proxy\"")
                && line.contains("server=\"orders\"")
        })
        .unwrap_or_else(|| panic!("no histogram in\n{metrics}"));
    assert!(count.ends_with(" 4"), "{count}");
    let prometheus = Prometheus::start(&session, PrometheusOptions::default()).await.unwrap();
    prometheus.add_target("edge", caddy.metrics_address(), &[]).unwrap();
    prometheus.seen(caddy.metrics_address()).await.unwrap();
}

#[tokio::test]
async fn redis_asks_for_passwords_forgets_or_keeps_its_data_and_can_be_paused() {
    let session = Session::start().await.unwrap();
    let options = RedisOptions::default()
        .setting("maxmemory", "64mb")
        .password("a \"b\" c")
        .user("watcher", "on >secret -@all +ping");
    let mut server = Redis::start(&session, options).await.unwrap();
    let ask =
        async |server: &Redis, command: &[&str]| format!("{:?}", server.execute(command).await.unwrap());
    assert!(ask(&server, &["CONFIG", "GET", "maxmemory"]).await.contains("67108864"));
    server.fill(2, "key", 100, 10).await.unwrap();
    assert!(ask(&server, &["INFO", "keyspace"]).await.contains("db2:keys=100"));
    let output = session.run(server.cli(&["-n", "2", "GET", "key:99"]), LIMIT).await.unwrap();
    assert_eq!(output.success("running redis-cli").unwrap().stdout, "xxxxxxxxxx\n");

    assert_eq!(say(server.port(), "PING").await, "-NOAUTH Authentication required.");
    assert_eq!(say(server.port(), "AUTH \"a \\\"b\\\" c\"").await, "+OK");
    assert_eq!(say(server.port(), "AUTH watcher secret").await, "+OK");

    server.restart(redis::Stop::Saving).await.unwrap();
    assert!(ask(&server, &["INFO", "keyspace"]).await.contains("db2:keys=100"));
    for how in [redis::Stop::Forgetting, redis::Stop::Kill] {
        server.fill(0, "key", 10, 10).await.unwrap();
        server.stop(how).await.unwrap();
        server.execute(&["PING"]).await.unwrap_err();
        server.start_again().await.unwrap();
        assert!(!ask(&server, &["INFO", "keyspace"]).await.contains("db"), "{how:?}");
    }

    server.pause();
    tokio::time::timeout(Duration::from_secs(1), server.execute(&["PING"])).await.unwrap_err();
    server.resume();
    server.execute(&["PING"]).await.unwrap();
}

#[tokio::test]
async fn redis_speaks_tls_and_copies_another() {
    let session = Session::start().await.unwrap();
    let one = Redis::start(&session, RedisOptions::default()).await.unwrap();
    assert!(one.ca().is_none());
    one.fill(0, "key", 10, 10).await.unwrap();
    let options = RedisOptions { tls: true, replica_of: Some(one.port()), ..Default::default() };
    let copy = Redis::start(&session, options).await.unwrap();
    assert!(copy.ca().unwrap().contains("BEGIN CERTIFICATE"));
    let copied = lab::until(LIMIT, async || {
        let keyspace = format!("{:?}", copy.execute(&["INFO", "keyspace"]).await.ok()?);
        keyspace.contains("db0:keys=10").then_some(())
    });
    copied.await.unwrap();
    // Who speaks without it is not understood.
    assert!(!say(copy.port(), "PING").await.contains("PONG"));
}

#[tokio::test]
async fn pgbouncer_pools_connections_keeps_its_settings_over_a_restart_and_can_be_paused() {
    let session = Session::start().await.unwrap();
    let server = Postgres::start(&session, PostgresOptions::default()).await.unwrap();
    server.execute("postgres", "create role orders login password 'a\"b c'").await.unwrap();
    server.execute("postgres", "create database shop").await.unwrap();
    let options = PgBouncerOptions::default()
        .database("shop", server.port())
        .user("orders", "a\"b c")
        .stats_user("watcher", "secret")
        .setting("default_pool_size", "1");
    let mut pooler = PgBouncer::start(&session, options).await.unwrap();
    let pid = async |client: &mut sqlx::PgConnection| -> i32 {
        let row = sqlx::raw_sql("select pg_backend_pid()").fetch_one(client).await.unwrap();
        row.try_get_unchecked::<String, _>(0).unwrap().parse().unwrap()
    };
    let mut one = pooler.connect("orders", "a\"b c", "shop").await.unwrap();
    let mut other = pooler.connect("orders", "a\"b c", "shop").await.unwrap();
    assert_eq!(pid(&mut one).await, pid(&mut other).await, "two clients, one server connection");
    pooler.connect("orders", "wrong", "shop").await.unwrap_err();
    pooler.connect("orders", "a\"b c", "pgbouncer").await.unwrap_err();
    pooler.connect("watcher", "secret", "pgbouncer").await.unwrap();
    pooler.execute("PAUSE shop").await.unwrap();
    pooler.execute("RESUME shop").await.unwrap();

    pooler.stop().await.unwrap();
    pooler.connect("orders", "a\"b c", "shop").await.unwrap_err();
    pooler.start_again().await.unwrap();
    pooler.connect("orders", "a\"b c", "shop").await.unwrap();
    pooler.pause();
    let hangs = pooler.connect("orders", "a\"b c", "shop");
    tokio::time::timeout(Duration::from_secs(1), hangs).await.unwrap_err();
    pooler.resume();
    pooler.connect("orders", "a\"b c", "shop").await.unwrap();
}

/// A start that fails must say what failed, at once rather than at the end of a time limit.
#[tokio::test]
async fn a_server_that_ends_at_once_is_reported_with_the_end_of_its_log() {
    let session = Session::start().await.unwrap();
    let begin = std::time::Instant::now();
    let options = PostgresOptions::default().setting("shared_buffers", "no size");
    let error = Postgres::start(&session, options).await.unwrap_err().to_string();
    // The limit for its start is three times that.
    let limit = lab::patience(Duration::from_secs(10));
    assert!(begin.elapsed() < limit, "it was noticed only after {:?}", begin.elapsed());
    for part in ["postgres-1 ended with", "postgres-1.log", "invalid value for parameter \"shared_buffers\""]
    {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
}

async fn until_between(prometheus: &Prometheus, expression: &str, low: f64, high: f64) {
    let mut last = String::new();
    let look = async || {
        let samples = prometheus.query(expression).await;
        last = format!("{samples:?}");
        let is_between = samples.is_ok_and(|found| {
            !found.is_empty() && found.iter().all(|one| (low..=high).contains(&one.value))
        });
        is_between.then_some(())
    };
    let found = lab::until(LIMIT, look).await;
    assert!(found.is_some(), "{expression} did not get between {low} and {high}; last {last}");
}

async fn get(url: &str) -> String {
    let address = url.trim_start_matches("http://");
    let (host, path) = address.split_once('/').map_or((address, ""), |(host, path)| (host, path));
    let stream = tokio::net::TcpStream::connect(host).await.ok();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let Some(mut stream) = stream else { return String::new() };
    let mut answer = String::new();
    let talk = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    match talk.await {
        Ok(_) => answer,
        Err(_) => String::new(),
    }
}

/// The first line of the answer to one line, over a connection of its own; nothing where it is reset.
async fn say(port: u16, line: &str) -> String {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let talk = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        BufReader::new(stream).read_until(b'\n', &mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).trim_end().to_owned())
    };
    lab::within(LIMIT, talk).await.map(Result::unwrap_or_default).unwrap_or_default()
}
