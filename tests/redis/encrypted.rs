//! TLS: verified always, and what is wrong with it is told.

use engine::model::NoDataReason;
use lab::RedisOptions;
use latency_operator::connections::RedisCredentials;

use crate::support::{PASSWORD, WATCHER, World, connection, options, read, told, trouble};

async fn with_tls() -> World {
    World::with(RedisOptions { tls: true, ..options() }).await
}

fn trusting(world: &World, ca: Option<&str>) -> RedisCredentials {
    let ca = ca.map(|ca| ca.as_bytes().to_vec());
    RedisCredentials { tls: true, ca, ..world.credentials(WATCHER) }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_the_secret_trusts_gets_the_password() {
    let (world, other) = (with_tls().await, with_tls().await);
    let facts = read(&connection(trusting(&world, world.server.ca()))).await.expect("facts");
    assert_eq!(facts.server.port, world.server.port());
    let failed = NoDataReason::TlsFailed;
    told(trusting(&world, other.server.ca()), failed, "check tls and ca.crt in the Secret").await;
    // The system does not know the laboratory's authority.
    told(trusting(&world, None), failed, "check tls and ca.crt in the Secret").await;
    // Its certificate is that of 127.0.0.1 and of localhost.
    let elsewhere = RedisCredentials { host: "127.0.0.2".to_owned(), ..trusting(&world, world.server.ca()) };
    let no_data = trouble(&connection(elsewhere)).await;
    assert!(matches!(no_data.reason, NoDataReason::TlsFailed | NoDataReason::Unreachable), "{no_data}");
    let named = RedisCredentials { host: "localhost".to_owned(), ..trusting(&world, world.server.ca()) };
    read(&connection(named)).await.expect("facts");
    for rubbish in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let told = trouble(&connection(trusting(&world, Some(rubbish)))).await;
        assert_eq!(told.reason, NoDataReason::SecretInvalid, "{rubbish:?}: {told}");
        assert!(told.detail.contains("ca.crt"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_the_other_language_is_told_apart() {
    let (encrypted, plain) = (with_tls().await, World::start().await);
    let no_data = trouble(&connection(encrypted.credentials(WATCHER))).await;
    // It hangs up, with or without a word of TLS.
    assert!(matches!(no_data.reason, NoDataReason::TlsFailed | NoDataReason::Unreachable), "{no_data}");
    assert!(
        no_data.detail.contains("speaks TLS") && no_data.detail.contains("set tls: \"true\""),
        "{no_data}"
    );
    // It waits for the end of a line, which may or may not be in what we send.
    let no_data = trouble(&connection(trusting(&plain, encrypted.server.ca()))).await;
    assert!(no_data.detail.contains("tls"), "{no_data}");
    assert!(matches!(no_data.reason, NoDataReason::TlsFailed | NoDataReason::Timeout), "{no_data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_a_certificate_of_ours_is_told() {
    let options = RedisOptions { tls: true, ..options() }.setting("tls-auth-clients", "yes");
    let world = World::with(options).await;
    let no_data = trouble(&connection(trusting(&world, world.server.ca()))).await;
    assert_eq!(no_data.reason, NoDataReason::TlsFailed, "{no_data}");
    assert!(!no_data.detail.contains(PASSWORD));
}
