//! The data folder of a server: `initdb` runs once for each version, everybody else gets a copy.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Auth, PostgresOptions, SUPERUSER, identifier};
use crate::error::{Error, Result};
use crate::files::{Transfer, transfer_all};
use crate::packages::Programs;
use crate::random::hex;
use crate::session::Session;

const INITDB_LIMIT: Duration = Duration::from_secs(120);

/// What the template is made with; a change makes a new one.
const INITDB: [&str; 7] = [
    "--username",
    SUPERUSER,
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--no-instructions",
];

/// Every setting that differs from PostgreSQL's own.
const SETTINGS: [(&str, &str); 11] = [
    ("listen_addresses", "127.0.0.1"),
    // The data lives as long as the test.
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    // Compiling a query costs more than any query of a test; and unpacked without the compiler.
    ("jit", "off"),
    ("shared_buffers", "64MB"),
    ("log_checkpoints", "off"),
    ("log_statement", "none"),
    ("log_line_prefix", "%m [%p] user=%u db=%d app=%a "),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// Fills `folder/data` with an empty cluster and the settings.
pub(super) async fn create(
    session: &Session,
    programs: &Programs,
    folder: &Path,
    port: u16,
    options: &PostgresOptions,
) -> Result<()> {
    let template = template(session, programs).await?;
    let data = folder.join("data");
    transfer_all(&template, &data, Transfer::Copy, session.account(), |_| true).await?;
    identifier::renew(session, programs, &data, options.system_identifier).await?;
    let settings = settings_text(folder, port, options)?;
    append(&data.join("postgresql.conf"), &settings)?;
    let method = match options.auth {
        Auth::Password => "scram-sha-256",
        Auth::Trust => "trust",
    };
    // The socket is in a folder that lets only us in.
    let rules = format!("local all all trust\nhost all all 127.0.0.1/32 {method}\n");
    let path = data.join("pg_hba.conf");
    // Written in place: the file belongs to the server's user.
    std::fs::write(&path, rules).map_err(Error::path("writing", &path))
}

/// An empty cluster of this version, made once and kept in the cache.
async fn template(session: &Session, programs: &Programs) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(&programs.version);
    hash.update(INITDB.join(" "));
    let digest = hex(&hash.finalize());
    let key = format!("postgres-template-{}", digest.get(..12).unwrap_or(&digest));
    let fill = |unfinished: PathBuf| initdb(session, programs, unfinished);
    Ok(session.cache().entry(&key, session.voice(), fill).await?.join("data"))
}

/// Runs in the session, as the user of the server, because neither may write into our cache.
async fn initdb(session: &Session, programs: &Programs, unfinished: PathBuf) -> Result<()> {
    let account = session.account();
    let (_, folder) = session.new_folder("initdb-data", account)?;
    let data = folder.join("data");
    let spec = programs.spec("initdb", "initdb").arg("-D").arg(&data).args(INITDB).account(account.cloned());
    session.run(spec, INITDB_LIMIT).await?.success("creating an empty database cluster")?;
    transfer_all(&data, &unfinished.join("data"), Transfer::Copy, None, is_no_log).await?;
    std::fs::remove_dir_all(&folder).map_err(Error::path("removing", &folder))
}

/// Every copy begins a write-ahead log of its own: the template's is sixteen megabytes of nothing.
fn is_no_log(path: &Path) -> bool {
    !(path.is_file() && path.parent().is_some_and(|folder| folder.ends_with("pg_wal")))
}

fn settings_text(folder: &Path, port: u16, options: &PostgresOptions) -> Result<String> {
    let own = [
        ("port", port.to_string()),
        ("max_connections", options.max_connections.to_string()),
        ("unix_socket_directories", folder.display().to_string()),
    ];
    let mut text =
        String::from("\n# The laboratory's; of a setting that is given twice the last one holds.\n");
    for (name, value) in SETTINGS {
        setting(&mut text, name, value)?;
    }
    for (name, value) in &own {
        setting(&mut text, name, value)?;
    }
    for (name, value) in &options.settings {
        setting(&mut text, name, value)?;
    }
    Ok(text)
}

fn setting(text: &mut String, name: &str, value: &str) -> Result<()> {
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
    if !is_name || value.contains(['\n', '\\']) {
        return Err(Error::setup(
            "writing postgresql.conf",
            format!("{name:?} = {value:?} is not a setting"),
            "give the name as PostgreSQL spells it, and the value without quotes, line breaks and backslashes",
        ));
    }
    text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    Ok(())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::File::options().append(true).open(path).map_err(Error::path("opening", path))?;
    file.write_all(text.as_bytes()).map_err(Error::path("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_test_come_last_and_are_quoted() {
        let options = PostgresOptions::default().setting("log_line_prefix", "it's %p ");
        let text = settings_text(Path::new("/folder"), 20_001, &options).unwrap();
        assert!(text.ends_with("log_line_prefix = 'it''s %p '\n"), "{text}");
        assert!(text.contains("port = '20001'\n"));
        let wrong = PostgresOptions::default().setting("a = 1\nb", "2");
        assert!(settings_text(Path::new("/folder"), 20_001, &wrong).is_err());
    }
}
