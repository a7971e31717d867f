//! What a server writes about itself, which is text that may be anybody's: numbers are counts or nothing, words are cut.

use std::collections::HashMap;
use std::time::Duration;

use engine::model::{
    CommandUse, NoData, NoDataReason, RedisClients, RedisCounters, RedisMemory, RedisRole, SlowCommand,
};
use jiff::Timestamp;
use redis::Value;

use crate::connections::RedisCredentials;
use crate::connections::redis::{refusal, said};

/// No word of a server that we show is longer.
const LONGEST_WORD: usize = 64;
/// So many commands are kept, those that took most of the server's time, and those that empty it.
const MOST_COMMANDS: usize = 64;
/// `SLOWLOG GET 32`
const MOST_SLOW: usize = 32;

/// A section of INFO: lines of `field:value`.
pub(super) struct Section<'a> {
    credentials: &'a RedisCredentials,
    name: &'static str,
    fields: HashMap<String, String>,
}

impl<'a> Section<'a> {
    /// Reads what was answered to `INFO <name>`.
    pub(super) fn read(
        credentials: &'a RedisCredentials,
        name: &'static str,
        answer: &Value,
    ) -> Result<Self, NoData> {
        if let Value::ServerError(error) = answer {
            return Err(refusal(credentials, "INFO", error));
        }
        let Some(text) = text(answer) else {
            let detail = format!("what {} answers to INFO {name} is no text", credentials.place());
            return Err(NoData::new(NoDataReason::BadAnswer, detail));
        };
        let fields = lines(&text).map(|(field, value)| (field.to_owned(), value.to_owned())).collect();
        Ok(Self { credentials, name, fields })
    }

    fn bad(&self, what: &str) -> NoData {
        let detail = format!("INFO {} of {} {what}", self.name, self.credentials.place());
        NoData::new(NoDataReason::BadAnswer, detail)
    }

    fn required(&self, field: &str) -> Result<&str, NoData> {
        self.fields.get(field).map(String::as_str).ok_or_else(|| self.bad(&format!("has no {field}")))
    }

    fn count(&self, field: &str) -> Result<u64, NoData> {
        let value = self.required(field)?;
        value.parse().map_err(|_| self.bad(&format!("has something else than a count as {field}")))
    }

    /// A field that older servers, or managed ones, may not have.
    fn optional_count(&self, field: &str) -> Result<Option<u64>, NoData> {
        self.fields.contains_key(field).then(|| self.count(field)).transpose()
    }

    /// A short word.
    pub(super) fn word(&self, field: &str) -> Result<String, NoData> {
        Ok(cut(self.required(field)?))
    }

    /// Who asks a sentinel asks the wrong one: it has no data.
    pub(super) fn is_no_sentinel(&self) -> Result<(), NoData> {
        if self.fields.get("redis_mode").is_some_and(|mode| mode == "sentinel") {
            let detail =
                format!("{} is a sentinel; name the server itself in the Secret", self.credentials.place());
            return Err(NoData::new(NoDataReason::SecretInvalid, detail));
        }
        Ok(())
    }

    /// Whether it is still reading what it had saved.
    pub(super) fn is_loading(&self) -> bool {
        self.fields.get("loading").is_some_and(|loading| loading == "1")
    }

    /// The server's own time, if it tells it and that is one.
    pub(super) fn clock(&self) -> Option<Timestamp> {
        let micros = self.fields.get("server_time_usec")?.parse().ok()?;
        Timestamp::from_microsecond(micros).ok()
    }

    pub(super) fn uptime(&self) -> Result<Duration, NoData> {
        Ok(Duration::from_secs(self.count("uptime_in_seconds")?))
    }

    pub(super) fn clients(&self) -> Result<RedisClients, NoData> {
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(RedisClients {
            connected: narrow(self.count("connected_clients")?),
            max: self.optional_count("maxclients")?.filter(|max| *max > 0).map(narrow),
        })
    }

    pub(super) fn memory(&self) -> Result<RedisMemory, NoData> {
        let policy = self.fields.get("maxmemory_policy").map_or("unknown", String::as_str);
        Ok(RedisMemory {
            used: self.count("used_memory")?,
            max: self.optional_count("maxmemory")?.filter(|max| *max > 0),
            policy: cut(policy),
        })
    }

    pub(super) fn counters(&self) -> Result<RedisCounters, NoData> {
        Ok(RedisCounters {
            hits: self.count("keyspace_hits")?,
            misses: self.count("keyspace_misses")?,
            evicted: self.count("evicted_keys")?,
            expired: self.count("expired_keys")?,
            rejected: self.count("rejected_connections")?,
            commands: self.count("total_commands_processed")?,
        })
    }

    pub(super) fn role(&self) -> Result<RedisRole, NoData> {
        match self.required("role")? {
            "master" => Ok(RedisRole::Primary),
            "slave" | "replica" => {
                let link_up = self.fields.get("master_link_status").is_some_and(|link| link == "up");
                Ok(RedisRole::Replica { link_up })
            }
            _ => Err(self.bad("has a role that is neither master nor slave")),
        }
    }

    /// How many keys a database has: `db0:keys=4,expires=1,avg_ttl=0`. One without keys has no line.
    pub(super) fn keys(&self, database: u32) -> Result<u64, NoData> {
        let field = format!("db{database}");
        let Some(value) = self.fields.get(&field) else { return Ok(0) };
        let keys = parts(value).find(|(part, _)| *part == "keys").and_then(|(_, count)| count.parse().ok());
        keys.ok_or_else(|| self.bad(&format!("has something else than a count of keys as {field}")))
    }
}

/// `cmdstat_get:calls=4,usec=9,usec_per_call=2.25`, by command. A line that is something else is passed over.
pub(super) fn commands(
    credentials: &RedisCredentials,
    answer: &Value,
    unreadable: &mut Vec<String>,
) -> Vec<CommandUse> {
    let Some(text) = text(answer) else {
        unreadable.push(missing(credentials, "INFO commandstats", "+info", answer));
        return Vec::new();
    };
    let read = |(field, value): (&str, &str)| {
        let name = word(field.strip_prefix("cmdstat_")?)?;
        let count = |wanted| parts(value).find(|(part, _)| *part == wanted)?.1.parse().ok();
        Some(CommandUse { name, calls: count("calls")?, usec: count("usec")? })
    };
    let mut commands: Vec<CommandUse> = lines(&text).filter_map(read).collect();
    // Those that empty a database are looked for by name.
    let empties = |command: &CommandUse| matches!(&*command.name, "flushall" | "flushdb");
    commands.sort_by(|one, other| {
        (empties(other), other.usec, &one.name).cmp(&(empties(one), one.usec, &other.name))
    });
    commands.truncate(MOST_COMMANDS);
    commands
}

/// `[[id, time, microseconds, [name, argument..], ..]..]`. Of the arguments nothing is kept, nor of the client.
pub(super) fn slow(
    credentials: &RedisCredentials,
    answer: &Value,
    unreadable: &mut Vec<String>,
) -> Vec<SlowCommand> {
    let Value::Array(entries) = answer else {
        unreadable.push(missing(credentials, "SLOWLOG GET", "+slowlog|get", answer));
        return Vec::new();
    };
    let read = |entry: &Value| {
        let Value::Array(parts) = entry else { return None };
        let [Value::Int(id), Value::Int(at), Value::Int(took), Value::Array(command), ..] = &**parts else {
            return None;
        };
        Some(SlowCommand {
            id: u64::try_from(*id).ok()?,
            name: word(&text(command.first()?)?)?,
            took: Duration::from_micros(u64::try_from(*took).ok()?),
            at: Timestamp::from_second(*at).ok()?,
        })
    };
    entries.iter().take(MOST_SLOW).filter_map(read).collect()
}

/// What is not to be had, and the right to give, if that is what is missing.
fn missing(credentials: &RedisCredentials, what: &str, right: &str, answer: &Value) -> String {
    let Value::ServerError(error) = answer else { return format!("{what}: the answer is something else") };
    if error.code() == "NOPERM" {
        return format!("{what}; run: ACL SETUSER {} {right}", credentials.user());
    }
    format!("{what}: {}", said(credentials, error))
}

fn text(answer: &Value) -> Option<String> {
    if let Value::SimpleString(text) | Value::VerbatimString { text, .. } = answer {
        return Some(text.clone());
    }
    let Value::BulkString(bytes) = answer else { return None };
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.trim_end().split_once(':'))
}

fn parts(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(',').filter_map(|part| part.split_once('='))
}

/// The name of a command, such as `get` or `config|get`; none where it is something else.
fn word(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '|' | '-' | '_');
    (!name.is_empty() && name.len() <= LONGEST_WORD && name.chars().all(fits))
        .then(|| name.to_ascii_lowercase())
}

fn cut(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(LONGEST_WORD).collect()
}
