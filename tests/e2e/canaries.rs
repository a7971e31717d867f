//! Secrets that nobody may ever see again: unmistakable words in every place where the operator meets one, incidents in which
//! it meets them, and then a look at everything that it says.

mod backend;
mod liar;

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{Operator, Redis};
use serde_json::{Value, json};

use self::backend::Backend;
use self::liar::Liar;
use crate::support::cached::{self, KEYS, with_cache};
use crate::support::witness::PROBED;
use crate::support::{PASSWORD, SOON, World, calm, eventually, kubectl, run, slow};

/// Each word says where it was put.
mod canary {
    pub(super) const DATABASE: &str = "CanaryPasswordOfTheDatabase";
    pub(super) const PARAMETER: &str = "CanaryParameterOfTheUri";
    pub(super) const WRONG: &str = "CanaryPasswordThatIsWrong";
    pub(super) const CACHE: &str = "CanaryPasswordOfTheCache";
    pub(super) const KEY: &str = "CanaryKeyOfTheCache";
    pub(super) const RUNAWAY: &str = "CanaryLiteralOfTheRunawayQuery";
    pub(super) const BLOCKED: &str = "CanaryLiteralOfTheBlockedQuery";
    pub(super) const BLOCKER: &str = "CanaryLiteralOfTheBlocker";
    pub(super) const HEADER: &str = "CanaryHeaderOfTheBackend";
    pub(super) const TOKEN: &str = "CanaryTokenOfTheBackend";
    pub(super) const LOGIN: &str = "CanaryPasswordInTheUrlOfTheBackend";
    pub(super) const BODY: &str = "CanaryBodyOfTheApplication";
    pub(super) const ANSWER: &str = "CanaryAnswerOfTheBackend";
    pub(super) const BROKEN: &str = "CanaryInAUriThatIsWrong";
    pub(super) const LIED: &str = "CanaryThatALiarSendsBack";

    pub(super) const ALL: [&str; 15] = [
        DATABASE, PARAMETER, WRONG, CACHE, KEY, RUNAWAY, BLOCKED, BLOCKER, HEADER, TOKEN, LOGIN, BODY,
        ANSWER, BROKEN, LIED,
    ];
}

/// The words that occur in a text, as they are, in another case, or as Secrets and logins encode them.
fn seen(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    let is_there = |word: &&&str| {
        let encoded = k8s_openapi::ByteString(word.as_bytes().to_vec());
        let encoded = serde_json::to_string(&encoded).expect("base64");
        // What stands before and after it moves the last letters.
        let encoded = encoded.trim_matches('"').trim_end_matches('=');
        lower.contains(&word.to_lowercase()) || text.contains(&encoded[..encoded.len() - 2])
    };
    canary::ALL.iter().filter(is_there).copied().collect()
}

#[test]
fn a_word_is_found_however_it_is_written() {
    assert_eq!(seen("no word"), [""; 0]);
    assert_eq!(seen(&format!("x{}y", canary::BODY)), [canary::BODY]);
    assert_eq!(seen(&canary::BODY.to_uppercase()), [canary::BODY]);
    assert_eq!(seen("Q2FuYXJ5Qm9keU9mVGhlQXBwbGljYXRpb24="), [canary::BODY]);
}

struct Stage {
    world: World,
    redis: Redis,
    _lookups: cached::Lookups,
    backend: Backend,
    /// What operators have said that are over.
    said: Vec<String>,
}

impl Stage {
    async fn new() -> Self {
        let mut world = World::new("canaries").await;
        world.log_level = "debug,latency_operator=trace";
        // It cuts the operator's sessions off.
        world.signals_itself = true;
        let change = format!("alter role latency_operator password '{}'", canary::DATABASE);
        world.postgres.execute("orders", &change).await.expect("a password");
        let (redis, lookups) = cached::start_with(&world, canary::CACHE, canary::KEY).await;
        // Every command is slow: the names of keys are in the log that the operator reads.
        redis.execute(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await.expect("a slow log");
        let backend = Backend::start(world.lab.prometheus.url()).await;
        let token = world.lab.session.folder().join("canary-token");
        std::fs::write(&token, canary::TOKEN).expect("a token");
        world.backend = format!(
            "http://lop:{}@{}\n  bearerTokenFile: {}\n  headers: {{X-Lab: {}}}",
            canary::LOGIN,
            backend.address,
            token.display(),
            canary::HEADER
        );
        world.serve().await;
        world.target.as_ref().expect("a target").says(canary::BODY);
        let stage = Self { world, redis, _lookups: lookups, backend, said: Vec::new() };
        stage.database(canary::DATABASE, stage.world.postgres.port()).await;
        stage
    }

    /// The Secret of the database, as a uri with a parameter that is passed over.
    async fn database(&self, password: &str, port: u16) {
        let parameter = canary::PARAMETER;
        let uri = format!(
            "postgres://latency_operator:{password}@127.0.0.1:{port}/orders?application_name={parameter}"
        );
        self.world.secret_with(json!({ "uri": uri })).await;
    }

    async fn cold_cache(&self) {
        self.redis.execute(&["FLUSHALL"]).await.expect("flushed");
        self.world.exporter.set(slow());
    }

    /// Waits until the condition's message has that in it.
    async fn until_said(&self, policy: &str, kind: &str, word: &str) {
        let mut last = String::new();
        let found = lab::until(SOON, async || {
            last = self.world.condition_of(policy, kind).await;
            last.contains(word).then_some(())
        });
        assert!(found.await.is_some(), "{policy}: {kind} never said {word}, but {last}");
    }

    /// Everything that anybody can see of the operator, by where it is seen.
    async fn everything(&mut self) -> BTreeMap<&'static str, String> {
        let world = &self.world;
        let plane = &world.lab.control_plane;
        let mut all = BTreeMap::new();
        let kinds = "latencypolicies,latencyincidents,latencyremediations,events.v1.events.k8s.io";
        for (place, output) in [("objects", "json"), ("columns", "wide")] {
            let args = ["get", kinds, "-n", &world.namespace, "-o", output, "--show-managed-fields"];
            all.insert(place, kubectl(plane, &args, "").await);
        }
        let args =
            ["describe", "latencypolicies,latencyincidents,latencyremediations", "-n", &world.namespace];
        all.insert("describe", kubectl(plane, &args, "").await);
        // Every version that was ever written, and not only the last one.
        let sent = world.writes().into_iter().map(|event| {
            format!("{} {:?} {:?}", event.request_uri, event.request_object, event.response_object)
        });
        all.insert("what was written", sent.collect());
        let operator = world.operator.as_ref().expect("an operator");
        all.insert("metrics", operator.metrics().await.expect("metrics"));
        self.said.push(world.operator_log());
        all.insert("logs", self.said.concat());
        all
    }
}

/// A database, a cache, and two rungs.
fn policy(policy: &mut Value) {
    with_cache(policy);
    let warm = json!({
        "serviceName": "orders-api", "port": "http", "paths": ["/api/v1/portfolios"], "requestsPerPath": 4,
        "ratePerSecond": 4, "inFlight": 1, "within": "10s",
    });
    let spec = &mut policy["spec"];
    spec["guards"]["cooldown"] = "1s".into();
    spec["objectives"].as_array_mut().expect("a list").push(json!({
        "name": "health", "type": "Latency", "latency": {"threshold": "20s"},
        "source": {"type": "Probe", "probe": {
            "serviceName": "orders-api", "port": "http", "path": PROBED, "timeout": "21s",
        }},
    }));
    spec["remediations"].as_array_mut().expect("a list").push(
        json!({"name": "warm", "causes": ["ColdCache"], "action": {"type": "WarmCache", "warmCache": warm}}),
    );
}

#[test]
fn no_secret_and_no_text_of_a_query_is_ever_told() {
    run(async {
        let mut stage = Stage::new().await;
        stage.world.operate().await;
        stage.world.policy(policy).await;
        stage.world.until_calm().await;

        queries(&stage).await;
        warming(&stage).await;
        metrics(&stage).await;
        logins(&stage).await;
        broken_secrets(&stage).await;
        liars(&stage).await;
        broken_configurations(&mut stage).await;

        went_round(&stage);
        let everything = stage.everything().await;
        assert!(everything["logs"].contains("DEBUG") && everything["logs"].contains("kube"), "no debug log");
        assert!(everything["objects"].contains("RunawayQuery"), "no story");
        let leaks: Vec<String> = everything.iter().flat_map(|(place, text)| leaks(place, text)).collect();
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    });
}

/// Each line in which a word is, cut to what is around it.
fn leaks(place: &str, text: &str) -> Vec<String> {
    let mut leaks = Vec::new();
    for line in text.lines() {
        for word in seen(line) {
            let at = line.to_lowercase().find(&word.to_lowercase()).unwrap_or_default();
            let before = line.chars().count().min(at).saturating_sub(200);
            let around: String = line.chars().skip(before).take(400).collect();
            leaks.push(format!("{word} is in the {place}: {around}"));
        }
    }
    leaks.truncate(20);
    leaks
}

/// The words were where they could have leaked from.
fn went_round(stage: &Stage) {
    let log = std::fs::read_to_string(stage.world.postgres.log()).expect("the server's log");
    for word in [canary::RUNAWAY, canary::BLOCKER] {
        assert!(log.contains(word), "the database has not seen {word}");
    }
    let heard = stage.backend.heard();
    for word in [canary::HEADER, canary::TOKEN] {
        assert!(heard.contains(word), "the backend has not seen {word}");
    }
    let paths: Vec<String> = stage.world.asked().into_iter().map(|(_, path)| path).collect();
    for path in [PROBED, "/api/v1/portfolios"] {
        assert!(paths.iter().any(|asked| asked == path), "{path} was not asked for");
    }
}

/// A runaway query, then a blocker with a victim: both are cancelled.
async fn queries(stage: &Stage) {
    let world = &stage.world;
    world
        .postgres
        .execute("orders", "alter system set log_min_error_statement = 'error'")
        .await
        .expect("set");
    let suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
    let statement = format!("select pg_sleep(600), '{}'", canary::RUNAWAY);
    let report = world.session("reporting", "report", &[&statement]).await;
    assert!(report.ended().await.is_err(), "it was to be cancelled");
    world.until_event("ObjectiveRecovered").await;
    drop(suffering);

    let _suffering = world.suffer_while("application_name = 'batch' and state like '%'", slow());
    let blocker = format!("select pg_sleep(600), '{}'", canary::BLOCKER);
    let update = format!("update accounts set balance = 0 where id = 1 and '{0}' = '{0}'", canary::BLOCKED);
    let batch =
        world.session("reporting", "batch", &["begin", "update accounts set balance = 1", &blocker]).await;
    let victim = world.session("orders", "api", &[&update]).await;
    assert!(batch.ended().await.is_err(), "it was to be cancelled");
    assert_eq!(victim.ended().await, Ok(()));
    world.until_condition("WithinObjective", "True").await;
}

/// A cold cache whose application fails, and says why.
async fn warming(stage: &Stage) {
    let world = &stage.world;
    cached::until_known(world, &stage.redis).await;
    world.target.as_ref().expect("a target").answers(500);
    stage.cold_cache().await;
    let failed = async || world.operator_log().contains("it answered 500").then_some(());
    eventually("the application was asked to fill its cache", SOON, failed).await;
    stage.redis.fill(0, canary::KEY, KEYS, 100).await.expect("filled");
    world.target.as_ref().expect("a target").answers(200);
    world.exporter.set(calm());
    world.until_condition("WithinObjective", "True").await;
}

/// A backend that repeats what it was sent, and answers with all kinds of nonsense.
async fn metrics(stage: &Stage) {
    let word = canary::ANSWER;
    let echo = format!("no right for Bearer {} with {}", canary::TOKEN, canary::HEADER);
    let refused = json!({"status": "error", "errorType": "bad_data", "error": echo}).to_string();
    let warns =
        json!({"status": "success", "warnings": [echo], "data": {"resultType": "vector", "result": []}});
    let vector = |sample: Value| {
        json!({"status": "success", "data": {"resultType": "vector", "result": [sample]}}).to_string()
    };
    let bucket =
        |le: &str, value: &str| vector(json!({"metric": {"q": "bucket", "le": le}, "value": [1, value]}));
    for (status, body) in [
        (400, refused),
        (200, warns.to_string()),
        (503, format!("<h1>{word}</h1>")),
        (200, format!("<h1>{word}</h1>")),
        (200, json!({"status": "success", "data": {"resultType": word, "result": word}}).to_string()),
        (200, vector(json!({"metric": word}))),
        (200, bucket("1", word)),
        (200, bucket(word, "1")),
    ] {
        stage.backend.answers(Some((status, body)));
        let asked = stage.backend.asked();
        eventually("it is asked", SOON, async || (stage.backend.asked() > asked + 1).then_some(())).await;
        stage.world.until_condition("DataAvailable", "False").await;
    }
    stage.backend.answers(None);
    stage.world.until_condition("DataAvailable", "True").await;
}

/// Passwords that are wrong, and servers that are not there.
async fn logins(stage: &Stage) {
    let (world, closed) = (&stage.world, stage.world.lab.session.free_port().expect("a port"));
    let change = async |password: &str| {
        let change = format!("alter role latency_operator password '{password}'");
        world.postgres.execute("orders", &change).await.expect("a password");
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'latency_operator'";
        world.postgres.execute("orders", cut).await.expect("cut off");
    };
    change(PASSWORD).await;
    stage
        .redis
        .execute(&["ACL", "SETUSER", "latency-operator", "resetpass", ">another"])
        .await
        .expect("changed");
    stage.redis.execute(&["CLIENT", "KILL", "USER", "latency-operator"]).await.expect("cut off");
    for (password, port, reason) in [
        (canary::WRONG, world.postgres.port(), "AuthenticationFailed"),
        (canary::WRONG, closed, "Unreachable"),
    ] {
        stage.database(password, port).await;
        cached::secret(world, if port == closed { port } else { stage.redis.port() }, password).await;
        stage.until_said("orders-api", "DataAvailable", reason).await;
    }
    cached::secret(world, stage.redis.port(), "another").await;
    let missing = format!("postgres://u:{}@canaries.invalid/orders", canary::WRONG);
    world.secret_with(json!({ "uri": missing })).await;
    stage.until_said("orders-api", "DataAvailable", "cannot be resolved").await;
    stage.database(PASSWORD, world.postgres.port()).await;
}

/// A policy with this one dependency, which only looks.
async fn with_dependency(world: &World, name: &str, kind: &str, data: Value) {
    world
        .apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "labels": {"latency-operator.dev/allowed": "true"}}, "stringData": data,
        }))
        .await;
    let (r#type, field) = if kind == "postgres" { ("PostgreSQL", "postgresql") } else { ("Redis", "redis") };
    let mut object = crate::support::policy();
    object["metadata"]["name"] = name.into();
    object["spec"]["mode"] = "Observe".into();
    object["spec"]["remediations"] = json!([]);
    object["spec"]["dependencies"] =
        json!([{"name": "store", "type": r#type, "secretRef": {"name": name}, (field): {}}]);
    world.apply(object).await;
}

/// Uris and keys with a mistake, most of them in or before the password.
async fn broken_secrets(stage: &Stage) {
    let word = canary::BROKEN;
    let mut broken = Vec::new();
    for (kind, scheme) in [("postgres", "postgres"), ("redis", "redis")] {
        for uri in [
            format!("{scheme}://u:{word}/x@127.0.0.1:1/0"),
            format!("{scheme}://u:{word}?x@127.0.0.1:1/0"),
            format!("{scheme}://u:{word}#x@127.0.0.1:1/0"),
            format!("{scheme}://u:12/{word}@127.0.0.1:1/0"),
            format!("{scheme}://u:12?{word}@127.0.0.1:1/0"),
            format!("{scheme}://u:12#{word}@127.0.0.1:1/0"),
            format!("{scheme}://{word}:p%ff@127.0.0.1:1/0"),
            format!("{scheme}://u:p {word}@127.0.0.1:99999/0"),
            format!("{scheme}://u:p@127.0.0.1:1/0?{word}=1"),
            format!("{scheme}://u:p@127.0.0.1:1/0?password={word}"),
            format!("{scheme}:{word}"),
            format!("{word}://u:p@127.0.0.1/0"),
            word.to_owned(),
        ] {
            broken.push((kind, json!({ "uri": uri })));
        }
        for key in ["host", "port", "sslmode", "tls", "db"] {
            let mut data = json!({"host": "127.0.0.1", "port": "1", "user": "u", "dbname": "d", "db": "0"});
            data[key] = format!("{word}/@").into();
            broken.push((kind, data));
        }
        broken.push((
            kind,
            json!({"host": "127.0.0.1", "port": "1", "user": "u", "dbname": "d", "ca.crt": word,
            "sslmode": "verify-full", "tls": "true"}),
        ));
    }
    for (number, (kind, data)) in broken.iter().enumerate() {
        with_dependency(&stage.world, &format!("broken-{number}"), kind, data.clone()).await;
    }
    for number in 0..broken.len() {
        stage.until_said(&format!("broken-{number}"), "DataAvailable", "False").await;
    }
}

/// Servers that answer to a password with the password.
async fn liars(stage: &Stage) {
    for kind in ["postgres", "redis"] {
        let liar = Liar::start(kind == "postgres").await;
        let data = json!({
            "host": "127.0.0.1", "port": liar.port().to_string(), "user": "u", "dbname": "d", "db": "0",
            "password": canary::LIED, "sslmode": "disable",
        });
        let name = format!("liar-{kind}");
        with_dependency(&stage.world, &name, kind, data).await;
        stage.until_said(&name, "DataAvailable", "False").await;
        eventually("the liar was told the password", SOON, async || {
            liar.was_told(canary::LIED).then_some(())
        })
        .await;
        stage.world.until_looked(40).await;
    }
}

/// Configurations with a secret in them that cannot be used.
async fn broken_configurations(stage: &mut Stage) {
    let backend = |lines: &str| {
        format!(
            "apiVersion: config.latency-operator.dev/v1alpha1\nkind: OperatorConfig\nbackends:\n- name: default\n  headers: {{X-Lab: {}}}\n{lines}",
            canary::HEADER
        )
    };
    let url = format!("http://u:{}@127.0.0.1:1", canary::LOGIN);
    for config in [
        backend("  url: [nonsense]\n"),
        backend(&format!("  url: '{url}'\n  nonsense: 1\n")),
        backend(&format!("  url: '{url}'\n  timeout: nonsense\n")),
        backend(&format!("  url: 'ftp://u:{}@x'\n", canary::LOGIN)),
        backend(&format!("  url: 'http://u:{}@x:y'\n", canary::LOGIN)),
        backend("  url: 'http://x'\n").replace(canary::HEADER, &format!("[{}]", canary::HEADER)),
        backend("  url: 'http://x'\n").replace("{X-Lab: ", "{"),
        backend("  url: 'http://x'\n").replace(": {X-Lab", "{: X-Lab"),
        backend("  url: 'http://x'\n").replace(canary::HEADER, &format!("\"{}\\n\"", canary::HEADER)),
    ] {
        let mut options = stage.world.options();
        options.config.clone_from(&config);
        let refused = Operator::launch(&stage.world.lab.session, options).await.expect("a process");
        let ended = refused.ended(Duration::from_secs(30)).await;
        // The last one is found out only by who leads.
        if ended.is_err() {
            refused.kill().await.expect("killed");
        }
        let log = refused.log_text();
        assert!(ended.is_err() || log.contains("configuration"), "{config}\n{log}");
        stage.said.push(log);
    }
}
