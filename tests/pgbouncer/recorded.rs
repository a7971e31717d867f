//! What other versions answer, as they answer it: columns come, go and change their names.

use std::time::Duration;

use engine::dependencies::pgbouncer::{LimitKind, Share, Wait};
use latency_operator::connections::pgbouncer::Record;
use latency_operator::observe::pgbouncer::{limit_users, understood};

/// Rows from a table of names and values; `-` is NULL.
fn rows(table: &str) -> Vec<Record> {
    let mut lines = table.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<&str> = lines.next().expect("names").split('|').map(str::trim).collect();
    let row = |line: &str| {
        let values = line.split('|').map(str::trim);
        let known = names.iter().zip(values).filter(|(_, value)| *value != "-");
        known.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
    };
    lines.map(row).collect()
}

const POOLS_1_25: &str = "
    database | user | cl_active | cl_waiting | cl_active_cancel_req | cl_waiting_cancel_req | sv_active | sv_active_cancel | sv_being_canceled | sv_idle | sv_used | sv_tested | sv_login | maxwait | maxwait_us | pool_mode | load_balance_hosts
    orders | orders | 25 | 6 | 0 | 0 | 19 | 1 | 0 | 0 | 0 | 0 | 0 | 3 | 250000 | transaction | -
    orders | reporting | 2 | 1 | 0 | 0 | 4 | 0 | 0 | 0 | 0 | 0 | 0 | 1 | 5 | transaction | -
    pgbouncer | pgbouncer | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | statement | -";
const DATABASES_1_25: &str = "
    name | host | port | database | force_user | pool_size | min_pool_size | reserve_pool_size | server_lifetime | pool_mode | load_balance_hosts | max_connections | current_connections | max_client_connections | current_client_connections | paused | disabled
    orders | 10.0.0.1 | 5432 | orders_production | - | 20 | 0 | 5 | 3600 | - | - | 0 | 24 | 0 | 34 | 0 | 0
    pgbouncer | - | 6432 | pgbouncer | pgbouncer | 2 | 0 | 0 | 3600 | statement | - | 0 | 0 | 0 | 1 | 0 | 0";
const USERS_1_25: &str = "
    name | pool_size | reserve_pool_size | pool_mode | max_user_connections | current_connections | max_user_client_connections | current_client_connections
    orders | - | - | - | 0 | 20 | 0 | 31
    reporting | 5 | - | - | 4 | 4 | 0 | 3";
const CONFIG: &str = "
    key | value | default | changeable
    listen_port | 6432 | 6432 | no
    max_user_connections | 0 | 0 | yes";

#[test]
fn the_answers_of_1_25_are_understood() {
    let mut look = understood("1.25.2".into(), &rows(POOLS_1_25), &rows(DATABASES_1_25)).expect("facts");
    limit_users(&mut look.pools, &rows(USERS_1_25), &rows(CONFIG));
    let [orders, reporting] = look.pools.as_slice() else { panic!("{look:#?}") };
    assert_eq!((&*orders.database, &*orders.role), ("orders_production", "orders"));
    assert_eq!(
        (orders.servers.active, orders.size, orders.reserve),
        (20, 20, 5),
        "one is just being cancelled"
    );
    assert_eq!(orders.clients.longest_wait, Duration::from_micros(3_250_000));
    assert_eq!(orders.wait(), Some(Wait::Starved(LimitKind::PoolSize)));
    assert_eq!(orders.user_limit, None);
    assert_eq!(reporting.size, 5, "the user's own");
    assert_eq!(reporting.limit(), Some((LimitKind::MaxUserConnections, Share { used: 4, most: 4 })));
}

#[test]
fn an_older_version_has_fewer_columns_and_a_newer_one_may_have_others() {
    let pools =
        POOLS_1_25.replace("sv_active_cancel |", "sv_what_will_come |").replace("maxwait_us", "later");
    let databases = DATABASES_1_25.replace("reserve_pool_size", "reserve_pool").replace("disabled", "other");
    let look = understood("1.99".into(), &rows(&pools), &rows(&databases)).expect("facts");
    let orders = &look.pools[0];
    assert_eq!((orders.servers.active, orders.reserve), (19, 5));
    assert_eq!(orders.clients.longest_wait, Duration::from_secs(3));
}

#[test]
fn what_is_missing_or_no_number_is_named() {
    for column in ["database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_login"] {
        let pools = POOLS_1_25.replacen(&format!("{column} |"), "was |", 1);
        let error = understood("1.25.2".into(), &rows(&pools), &rows(DATABASES_1_25)).expect_err(column);
        assert!(error.detail.contains(&format!("has no {column}")), "{error}");
    }
    for number in ["-1", "NaN", "", "4294967296", "1.5"] {
        let pools = POOLS_1_25.replacen("| 25 |", &format!("| {number} |"), 1);
        let error = understood("1.25.2".into(), &rows(&pools), &rows(DATABASES_1_25)).expect_err(number);
        assert!(error.detail.contains("something else than a count as cl_active"), "{error}");
    }
    let error = understood("1.25.2".into(), &rows(POOLS_1_25), &rows(CONFIG)).expect_err("no databases");
    assert!(error.detail.contains("has no name"), "{error}");
}
