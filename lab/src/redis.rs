//! A Redis server of a test's own: real, empty, ready in a fraction of a second.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, Value};
use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::files;
use crate::packages::{Programs, REDIS};
use crate::patience::patience;
use crate::pki::Authority;
use crate::process::Process;
use crate::random;
use crate::session::Session;
use crate::spec::Spec;

/// The user of the laboratory itself, who may do everything. It comes over the Unix socket, past TLS.
pub const ADMIN: &str = "lab";

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Directives for `redis.conf`, the value as it is written there; they win over the laboratory's.
    pub settings: Vec<(String, String)>,
    /// The password of the user `default`; `None`: whoever comes is let in.
    pub password: Option<String>,
    /// Further users, each with its rules: `("watcher", "on >secret -@all +ping")`.
    pub users: Vec<(String, String)>,
    /// Whether clients over TCP have to use TLS; [`Redis::ca`] is whom they have to trust then.
    pub tls: bool,
    /// The port of the server that it copies, on 127.0.0.1.
    pub replica_of: Option<u16>,
}

impl RedisOptions {
    /// Adds a directive, such as `maxmemory 64mb`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Gives the user `default` a password.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds a user with its rules, as `ACL SETUSER` takes them.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, rules: impl Into<String>) -> Self {
        self.users.push((name.into(), rules.into()));
        self
    }
}

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It writes down what it holds, and has it again after [`Redis::start_again`].
    Saving,
    /// It ends in an orderly way, and what it held is gone.
    Forgetting,
    /// `kill -9`; what it held is gone.
    Kill,
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct Redis {
    session: Session,
    programs: Programs,
    folder: PathBuf,
    port: u16,
    password: String,
    ca: Option<String>,
    process: Process,
}

impl Redis {
    /// Starts an empty server and waits until it answers.
    pub async fn start(session: &Session, options: RedisOptions) -> Result<Self> {
        let programs = Programs::find(session, &REDIS).await?;
        let (name, folder) = session.new_folder("redis", None)?;
        let (port, password) = (session.free_port()?, random::password()?);
        let ca = if options.tls { Some(certificates(&folder)?) } else { None };
        let config = config_text(&folder, port, &password, &options);
        files::replace(&folder.join("redis.conf"), config.as_bytes())?;
        let process = launch(session, &programs, name, &folder).await?;
        let server = Self { session: session.clone(), programs, folder, port, password, ca, process };
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    /// The port on 127.0.0.1: with TLS only, if TLS was asked for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate (PEM) of the authority that has signed the server's, if it speaks TLS. No two servers have the same.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Opens a connection of the laboratory's own, as [`ADMIN`] over the Unix socket.
    pub async fn admin(&self) -> Result<MultiplexedConnection> {
        self.try_admin().await.map_err(Error::request("connecting to Redis", self.log()))
    }

    /// Runs one command as [`ADMIN`] and returns what it answers: `&["SET", "key", "value"]`.
    pub async fn execute(&self, command: &[&str]) -> Result<Value> {
        let failed = || Error::request(format!("running {command:?}"), self.log());
        let mut connection = self.admin().await?;
        redis::Cmd::new().arg(command).query_async(&mut connection).await.map_err(failed())
    }

    /// Fills one of its databases with `count` keys `<prefix>:<n>` of `bytes` bytes each.
    pub async fn fill(&self, database: u32, prefix: &str, count: usize, bytes: usize) -> Result<()> {
        let failed = || Error::request(format!("writing {count} keys"), self.log());
        let mut connection = self.admin().await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("SELECT").arg(database).ignore();
        let value = "x".repeat(bytes);
        for number in 0..count {
            pipeline.cmd("SET").arg(format!("{prefix}:{number}")).arg(&value).ignore();
        }
        pipeline.query_async(&mut connection).await.map_err(failed())
    }

    /// `redis-cli` as [`ADMIN`], with these arguments.
    pub fn cli(&self, args: &[&str]) -> Spec {
        // It comes with the server, in the same folder.
        let spec = Spec::new("redis-cli", self.programs.folder.join("redis-cli"));
        self.programs
            .with_libraries(spec)
            .env("REDISCLI_AUTH", &self.password)
            .args(["--no-auth-warning", "--user", ADMIN, "-s"])
            .arg(socket(&self.folder))
            .args(args)
    }

    /// How a shell runs `redis-cli` as [`ADMIN`]. The password is in it: for files that nobody else can read.
    pub fn cli_command(&self) -> String {
        let program = self.programs.command("redis-cli");
        let socket = socket(&self.folder);
        format!(
            "REDISCLI_AUTH={} {program} --no-auth-warning --user {ADMIN} -s '{}'",
            self.password,
            socket.display()
        )
    }

    /// Stops the server; it can be started again on its port.
    pub async fn stop(&self, how: Stop) -> Result<ExitStatus> {
        if how == Stop::Saving {
            // It ends without an answer.
            let mut connection = self.admin().await?;
            let _ = redis::cmd("SHUTDOWN").arg("SAVE").query_async::<Value>(&mut connection).await;
            return self.process.stop(Signal::TERM, STOP_LIMIT).await;
        }
        let status = match how {
            Stop::Kill => self.process.kill().await?,
            Stop::Saving | Stop::Forgetting => self.process.stop(Signal::TERM, STOP_LIMIT).await?,
        };
        // From an earlier stop.
        let _ = std::fs::remove_file(self.folder.join("dump.rdb"));
        Ok(status)
    }

    /// Starts the stopped server on its old port, with its settings. It answers when this returns; whether it has loaded all
    /// that it had saved is another matter.
    pub async fn start_again(&mut self) -> Result<()> {
        let name = self.process.name().to_owned();
        self.process = launch(&self.session, &self.programs, name, &self.folder).await?;
        self.wait_until_it_answers().await
    }

    /// Stops and starts again.
    pub async fn restart(&mut self, how: Stop) -> Result<()> {
        self.stop(how).await?;
        self.start_again().await
    }

    /// Lets commands hang: connections are accepted, nothing is answered.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Goes on after [`Redis::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What the server calls its version.
    pub fn version(&self) -> &str {
        &self.programs.version
    }

    async fn try_admin(&self) -> redis::RedisResult<MultiplexedConnection> {
        let settings = RedisConnectionInfo::default().set_username(ADMIN).set_password(&self.password);
        let info = ConnectionAddr::Unix(socket(&self.folder)).into_connection_info()?;
        let client = redis::Client::open(info.set_redis_settings(settings.set_skip_set_lib_name()))?;
        // A script or a save may take its time.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(patience(READY_LIMIT)))
            .set_response_timeout(Some(patience(READY_LIMIT)));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// INFO is answered while it loads, too; PING is not.
    async fn wait_until_it_answers(&self) -> Result<()> {
        let look = || async {
            let mut connection = self.try_admin().await.ok()?;
            redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await.ok()
        };
        self.process.ready("answers", READY_LIMIT, look).await.map(drop)
    }
}

async fn launch(session: &Session, programs: &Programs, name: String, folder: &Path) -> Result<Process> {
    let spec = programs.spec("redis", "redis-server").arg(folder.join("redis.conf"));
    session.spawn_in(spec, name, folder).await
}

/// In the folder, which lets nobody else in.
fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// Makes an authority and a certificate of the server in the folder; returns the authority's.
fn certificates(folder: &Path) -> Result<String> {
    let authority = Authority::create(folder)?;
    authority.server("server", &["127.0.0.1", "localhost"])?;
    let path = authority.certificate();
    std::fs::read_to_string(&path).map_err(Error::path("reading", &path))
}

fn config_text(folder: &Path, port: u16, password: &str, options: &RedisOptions) -> String {
    let place = |name: &str| quoted(&folder.join(name).to_string_lossy());
    let (plain, encrypted) = if options.tls { (0, port) } else { (port, 0) };
    let mut lines = vec![
        "bind 127.0.0.1".to_owned(),
        format!("port {plain}"),
        format!("unixsocket {}", place("redis.sock")),
        "unixsocketperm 700".to_owned(),
        format!("dir {}", quoted(&folder.to_string_lossy())),
        "daemonize no".to_owned(),
        // Nothing is written down that a test has not asked for.
        "save \"\"".to_owned(),
        "appendonly no".to_owned(),
        // A copy is made at once, and not only after others may have asked for one as well.
        "repl-diskless-sync-delay 0".to_owned(),
        // Whoever comes is let in where the test wants it so.
        "protected-mode no".to_owned(),
        format!("user {ADMIN} on >{password} ~* &* +@all"),
    ];
    if options.tls {
        lines.extend([
            format!("tls-port {encrypted}"),
            format!("tls-cert-file {}", place("server.crt")),
            format!("tls-key-file {}", place("server.key")),
            format!("tls-ca-cert-file {}", place("ca.crt")),
            "tls-auth-clients no".to_owned(),
        ]);
    }
    if let Some(password) = &options.password {
        lines.push(format!("requirepass {}", quoted(password)));
    }
    lines.extend(options.users.iter().map(|(name, rules)| format!("user {name} {rules}")));
    lines.extend(options.replica_of.map(|port| format!("replicaof 127.0.0.1 {port}")));
    lines.extend(options.settings.iter().map(|(name, value)| format!("{name} {value}")));
    lines.join("\n") + "\n"
}

/// As `redis.conf` reads text with spaces and quotation marks.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_the_configuration() {
        assert_eq!(quoted(r#"a "b\c"#), r#""a \"b\\c""#);
    }
}
