//! Hostile answers: mutants of what Redis says, from a seed each, through the code that reads them and the code that remembers
//! them. `MUTANT=17` plays that one alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::model::{CacheMemory, later};

use super::*;
use crate::connections::redis::{RIGHTS, said};
use crate::observe::dice::Dice;

const MUTANTS: u64 = 20_000;
const PASSWORD: &str = "s3cret";

const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:1dba0a0d24ed7cd9e2c4e2f4f3d5b2d7c6a5b4c3\r\n\
     server_time_usec:1767236400123456\r\nuptime_in_seconds:3600\r\nconfigured_hz:10\r\n";
const CLIENTS: &str = "# Clients\r\nconnected_clients:12\r\nmaxclients:10000\r\nblocked_clients:0\r\n";
const MEMORY: &str = "# Memory\r\nused_memory:1048576\r\nused_memory_human:1.00M\r\nmaxmemory:67108864\r\nmaxmemory_policy:allkeys-lru\r\n";
const STATS: &str = "# Stats\r\ntotal_commands_processed:90000\r\nrejected_connections:0\r\nexpired_keys:10\r\nevicted_keys:0\r\n\
     keyspace_hits:9500\r\nkeyspace_misses:500\r\n";
const REPLICATION: &str = "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_link_status:up\r\n";
const PERSISTENCE: &str = "# Persistence\r\nloading:0\r\nasync_loading:0\r\n";
const KEYSPACE: &str =
    "# Keyspace\r\ndb0:keys=7,expires=0,avg_ttl=0\r\ndb2:keys=1000,expires=10,avg_ttl=5000\r\n";
const COMMANDSTATS: &str = "# Commandstats\r\n\
     cmdstat_get:calls=10000,usec=20000,usec_per_call=2.00,rejected_calls=0,failed_calls=0\r\n\
     cmdstat_config|get:calls=1,usec=30,usec_per_call=30.00,rejected_calls=0,failed_calls=0\r\n\
     cmdstat_flushall:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,failed_calls=0\r\n";

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn slow_entry(id: i64, command: &[&str]) -> Value {
    let command = command.iter().map(|part| bulk(part)).collect();
    let (at, took) = (Value::Int(1_767_236_399), Value::Int(16_000));
    Value::Array(vec![
        Value::Int(id),
        at,
        took,
        Value::Array(command),
        bulk("10.1.2.3:4711"),
        bulk("a client's name"),
    ])
}

fn usual() -> Vec<Value> {
    let sections =
        [SERVER, CLIENTS, MEMORY, STATS, REPLICATION, PERSISTENCE, KEYSPACE, COMMANDSTATS].map(bulk);
    let slow = [slow_entry(8, &["KEYS", "customer:*"]), slow_entry(7, &["eval", "return 'private'", "0"])];
    let mut answers = sections.to_vec();
    answers.push(Value::Array(slow.to_vec()));
    answers
}

fn credentials() -> RedisCredentials {
    RedisCredentials {
        host: "cache.shop.svc".to_owned(),
        port: 6379,
        database: 2,
        user: Some("watcher".to_owned()),
        password: Some(PASSWORD.to_owned()),
        tls: false,
        ca: None,
    }
}

fn read(answers: &[Value]) -> Result<RedisLook, NoData> {
    let now = "2026-01-01T03:00:01Z".parse().unwrap();
    understood(&credentials(), answers, Duration::from_micros(300), "10.0.0.7:6379".to_owned(), now)
}

fn refused(words: &str) -> Value {
    redis::parse_redis_value(format!("-{words}\r\n").as_bytes()).unwrap()
}

/// Numbers as a server may write them, and as it may not.
const NUMBERS: [&str; 22] = [
    "",
    "0",
    "1",
    "-1",
    "-0",
    "+5",
    "NaN",
    "inf",
    "1e9",
    "1.5",
    "0x10",
    " 7",
    "7 ",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "١٢٣",
    "keys=1",
    "1,keys=2",
];

/// Lines that no Redis writes.
const LINES: [&str; 12] = [
    "db2",
    "db2:",
    "db2:keys",
    "db2:keys=",
    "db2:expires=1",
    "db2:keys=1,keys=2",
    ":::",
    "=,=,=",
    "# loading:1",
    "loading:1",
    "role:sentinel",
    "cmdstat_:calls=1,usec=1",
];

fn mutated_text(text: &str, dice: &mut Dice) -> Vec<u8> {
    let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    let place = dice.below(lines.len());
    match dice.below(9) {
        0 => drop(lines.remove(place)),
        1 => {
            let line = lines[place].clone();
            lines.insert(dice.below(lines.len()), line);
        }
        2 => lines.insert(place, LINES[dice.below(LINES.len())].to_owned()),
        3 => lines[place] = lines[place].replace(':', ""),
        4 => lines[place].push_str(&"x".repeat(dice.below(100_000))),
        5 => lines[place] = format!("{}\u{1b}[31m\0{PASSWORD}\u{202e}", lines[place]),
        6 => {
            // One of the numbers in the line.
            let starts: Vec<usize> = lines[place].match_indices([':', '=']).map(|(at, _)| at + 1).collect();
            if let Some(start) = starts.get(dice.below(starts.len())) {
                let rest = &lines[place][*start..];
                let end = rest.find(',').map_or(lines[place].len(), |length| start + length);
                lines[place].replace_range(*start..end, NUMBERS[dice.below(NUMBERS.len())]);
            }
        }
        7 => {
            let mut bytes = lines.join("\r\n").into_bytes();
            for _ in 0..dice.between(1, 8) {
                let at = dice.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(dice.below(256)).unwrap();
                }
            }
            return bytes;
        }
        _ => lines.truncate(place),
    }
    lines.join("\n").into_bytes()
}

/// Anything that the protocol can carry in place of what was expected.
fn another(dice: &mut Dice) -> Value {
    match dice.below(9) {
        0 => Value::Nil,
        1 => Value::Int(i64::MIN),
        2 => Value::Int(i64::MAX),
        3 => Value::Array(Vec::new()),
        4 => Value::Array(vec![Value::Array(vec![Value::Nil]); dice.below(200)]),
        5 => Value::Double(f64::NAN),
        6 => Value::SimpleString("QUEUED".to_owned()),
        7 => refused(&format!("NOPERM {PASSWORD} may not")),
        _ => refused(&format!("ERR unknown command, with args beginning with: {PASSWORD}")),
    }
}

fn mutate(value: &mut Value, dice: &mut Dice) {
    if dice.percent(15) {
        *value = another(dice);
    } else if let Value::BulkString(bytes) = value {
        let text = String::from_utf8_lossy(bytes).into_owned();
        *bytes = mutated_text(&text, dice);
    } else if let Value::Array(parts) = value
        && !parts.is_empty()
    {
        let place = dice.below(parts.len());
        match dice.below(10) {
            0 => drop(parts.remove(place)),
            1 => {
                let part = parts[place].clone();
                parts.extend(std::iter::repeat_n(part, dice.below(100)));
            }
            _ => mutate(&mut parts[place], dice),
        }
    } else {
        *value = another(dice);
    }
}

/// What must hold of everything that is read, whoever has written it.
fn sane(facts: &RedisLook) {
    let mut words = vec![&facts.version, &facts.server.run_id, &facts.memory.policy];
    words.extend(facts.commands.iter().map(|command| &command.name));
    words.extend(facts.slow.iter().map(|slow| &slow.name));
    for word in words {
        assert!(word.chars().count() <= 64 && !word.contains(|c: char| c.is_control()), "{word:?}");
    }
    assert!(facts.commands.len() <= 64 && facts.slow.len() <= 32 && facts.unreadable.len() <= 2);
    let shown = serde_json::to_string(facts).unwrap();
    assert!(
        !shown.contains("customer") && !shown.contains("private") && !shown.contains("10.1.2.3"),
        "{shown}"
    );
    assert!(facts.unreadable.iter().all(|what| what.chars().count() < 300 && !what.contains(PASSWORD)));
}

/// Through memory: a usual look, the mutant, another usual one.
fn remembered(facts: &RedisLook) {
    let window = Duration::from_secs(10);
    let usual = read(&usual()).unwrap();
    let mut memory = CacheMemory::default();
    let mut at = "2026-01-01T03:00:00Z".parse().unwrap();
    let mut seen = None;
    for look in [&usual, &usual, facts, &usual, facts, facts] {
        let look = look.clone().after(at, seen.as_deref());
        memory.learn(at, &look, window, true);
        at = later(at, Duration::from_secs(1));
        let trend = memory.trend(&look, window);
        seen = Some(look);
        if let Some(trend) = trend {
            assert!(trend.ratio().is_none_or(|ratio| (0.0..=1.0).contains(&ratio)), "{trend:?}");
            let _ = trend.loss.map(|loss| loss.sentence());
        }
    }
    let _ = (facts.memory.share(), facts.memory.refuses_writes());
}

#[test]
fn what_a_usual_server_says_is_read() {
    let facts = read(&usual()).unwrap();
    assert_eq!((facts.keys, facts.counters.hits, facts.clients.max), (1000, 9500, Some(10_000)));
    assert_eq!(facts.clock, "2026-01-01T03:00:00.123456Z".parse().unwrap());
    let names = |facts: &RedisLook| facts.slow.iter().map(|slow| slow.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&facts), ["keys", "eval"]);
    let commands: Vec<&str> = facts.commands.iter().map(|command| &*command.name).collect();
    assert_eq!(commands, ["flushall", "get", "config|get"]);
    sane(&facts);
}

#[test]
fn what_is_missing_or_no_number_is_named() {
    for (section, field) in [
        (0, "redis_version"),
        (0, "run_id"),
        (0, "uptime_in_seconds"),
        (1, "connected_clients"),
        (2, "used_memory"),
        (3, "total_commands_processed"),
        (3, "rejected_connections"),
        (3, "expired_keys"),
        (3, "evicted_keys"),
        (3, "keyspace_hits"),
        (3, "keyspace_misses"),
        (4, "role"),
    ] {
        let mut answers = usual();
        let Value::BulkString(bytes) = &answers[section] else { panic!("no text") };
        let text = String::from_utf8(bytes.clone()).unwrap().replace(&format!("\n{field}:"), "\nwas:");
        answers[section] = bulk(&text);
        let no_data = read(&answers).expect_err(field);
        assert_eq!(no_data.reason, NoDataReason::BadAnswer);
        assert!(no_data.detail.contains(&format!("has no {field}")), "{no_data}");
    }
    for number in ["-1", "NaN", "", "18446744073709551616", "1.5"] {
        let mut answers = usual();
        answers[3] = bulk(&STATS.replace("keyspace_hits:9500", &format!("keyspace_hits:{number}")));
        let no_data = read(&answers).expect_err(number);
        assert!(no_data.detail.contains("something else than a count as keyspace_hits"), "{no_data}");
    }
}

#[test]
fn what_may_not_be_read_makes_the_facts_poorer_or_is_told_with_the_right_to_give() {
    let mut answers = usual();
    answers[7] = refused("ERR unknown section");
    answers[8] = refused("NOPERM this user has no permissions to run the 'slowlog|get' command");
    let facts = read(&answers).unwrap();
    assert!(facts.commands.is_empty() && facts.slow.is_empty());
    assert_eq!(
        facts.unreadable,
        ["INFO commandstats: ERR unknown section", "SLOWLOG GET; run: ACL SETUSER watcher +slowlog|get"]
    );
    for section in 0..7 {
        let mut answers = usual();
        answers[section] = refused("NOPERM this user has no permissions to run the 'info' command");
        let no_data = read(&answers).expect_err("no facts");
        assert_eq!(no_data.reason, NoDataReason::PermissionDenied);
        assert!(no_data.detail.ends_with(&format!("run: ACL SETUSER watcher {RIGHTS}")), "{no_data}");
    }
}

#[test]
fn loading_and_sentinels_are_told_apart() {
    let mut answers = usual();
    answers[5] = bulk("# Persistence\r\nloading:1\r\nloading_eta_seconds:7\r\n");
    assert_eq!(read(&answers).unwrap_err().reason, NoDataReason::Loading);
    let mut answers = usual();
    answers[0] = bulk(&SERVER.replace("standalone", "sentinel"));
    let no_data = read(&answers).unwrap_err();
    assert!(
        no_data.reason == NoDataReason::SecretInvalid && no_data.detail.contains("sentinel"),
        "{no_data}"
    );
}

#[test]
fn a_hostile_answer_is_facts_or_a_reason() {
    let only = std::env::var("MUTANT").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..MUTANTS, |seed: u64| seed..seed + 1);
    let (mut facts, mut reasons) = (0, 0);
    for seed in seeds {
        let mut dice = Dice::new(seed);
        let mut answers = usual();
        for _ in 0..dice.between(1, 3) {
            let place = dice.below(answers.len());
            mutate(&mut answers[place], &mut dice);
        }
        let played = catch_unwind(AssertUnwindSafe(|| match read(&answers) {
            Ok(read) => {
                sane(&read);
                remembered(&read);
                true
            }
            Err(no_data) => {
                assert!(no_data.detail.chars().count() < 400, "{no_data}");
                assert!(!no_data.detail.contains(|c: char| c.is_control()), "{no_data}");
                assert!(!no_data.detail.contains(PASSWORD), "{no_data}");
                false
            }
        }));
        match played {
            Ok(true) => facts += 1,
            Ok(false) => reasons += 1,
            Err(_) => panic!("mutant {seed}: {answers:?}"),
        }
    }
    // Both happen, or nothing was tried.
    assert!(only.is_some() || (facts > 1_000 && reasons > 1_000), "{facts} facts, {reasons} reasons");
}

#[test]
fn a_password_that_the_server_repeats_is_not_repeated() {
    let Value::ServerError(error) = refused(&format!("ERR unknown command 'AUTH', args: '{PASSWORD}'"))
    else {
        panic!("no error")
    };
    assert_eq!(said(&credentials(), &error), "ERR unknown command 'AUTH', args: '[hidden]'");
    let told = refusal(&credentials(), "PING", &error);
    assert!(!told.to_string().contains(PASSWORD), "{told}");
}
