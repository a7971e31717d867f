//! The ordinary user as whom a server runs that refuses to run as root.

use crate::error::{Error, Result};

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The numeric user id.
    pub uid: u32,
    /// The numeric id of the user's own group.
    pub gid: u32,
}

/// Whether this program runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// As whom servers run that refuse root: `None` when we are not root, else `postgres`, else `nobody`.
pub(crate) fn for_servers() -> Result<Option<Account>> {
    if !is_root() {
        return Ok(None);
    }
    let doing = "looking for an ordinary user to run servers as that refuse to run as root";
    let users = std::fs::read_to_string("/etc/passwd").map_err(Error::io(doing))?;
    let found = ["postgres", "nobody"].into_iter().find_map(|name| find(&users, name));
    found.map(Some).ok_or_else(|| {
        Error::setup(
            doing,
            "there is neither `postgres` nor `nobody` in /etc/passwd",
            "create one of them, or run as an ordinary user",
        )
    })
}

fn find(users: &str, wanted: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let name = *fields.first()?;
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (name == wanted).then(|| Account { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users =
            "root:x:0:0:root:/:/bin/sh\nnobody2:x:7:7::/:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        assert_eq!(find(users, "nobody"), Some(Account { name: "nobody".into(), uid: 65534, gid: 65533 }));
        assert_eq!(find(users, "postgres"), None);
    }
}
