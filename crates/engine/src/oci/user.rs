//! Who runs in a container: `uid`, `uid:gid`, `name`, `name:group`, looked up in the container's own files.

/// A resolved user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Most lines of a file that are looked at.
const LINES_MAX: usize = 100_000;
/// Fields of a line of `/etc/passwd`.
const FIELDS: usize = 7;

/// Resolves `user` with the contents of `/etc/passwd` and `/etc/group`; the error says what is not there, in Docker's words.
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<User, String> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd_entry(passwd, user);
    let mut resolved = match (&entry, number(user)) {
        (Some(entry), _) => User {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            home: entry.home.clone(),
        },
        (None, Some(uid)) => User {
            uid,
            gid: 0,
            groups: Vec::new(),
            home: "/".into(),
        },
        (None, None) => {
            return Err(format!(
                "unable to find user {user}: no matching entries in passwd file"
            ));
        }
    };
    match wanted_group {
        Some(name) if !name.is_empty() => {
            let by_name = groups(group)
                .find(|entry| entry.name == name)
                .map(|entry| entry.gid);
            resolved.gid = by_name.or_else(|| number(name)).ok_or_else(|| {
                format!("unable to find group {name}: no matching entries in group file")
            })?;
        }
        _ => {
            if let Some(entry) = &entry {
                let member =
                    |group: &Group| group.members.split(',').any(|member| member == entry.name);
                resolved.groups = groups(group)
                    .filter(member)
                    .map(|group| group.gid)
                    .filter(|gid| *gid != resolved.gid)
                    .collect();
                resolved.groups.sort_unstable();
                resolved.groups.dedup();
            }
        }
    }
    if resolved.home.is_empty() {
        resolved.home = "/".into();
    }
    Ok(resolved)
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn number(text: &str) -> Option<u32> {
    // The last one means "no change" to the kernel.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|id| *id != u32::MAX)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes
        .split(|byte| *byte == b'\n')
        .take(LINES_MAX)
        .filter_map(|line| std::str::from_utf8(line).ok())
}

/// By name first, then by number, as the C library does.
fn passwd_entry(passwd: &[u8], user: &str) -> Option<Entry> {
    let entries = || {
        lines(passwd).filter_map(|line| {
            let fields: Vec<&str> = line.splitn(FIELDS, ':').collect();
            let (uid, gid) = (number(fields.get(2)?)?, number(fields.get(3)?)?);
            Some(Entry {
                name: fields[0].to_owned(),
                uid,
                gid,
                home: fields.get(5).unwrap_or(&"").trim().to_owned(),
            })
        })
    };
    entries().find(|entry| entry.name == user).or_else(|| {
        let uid = number(user)?;
        entries().find(|entry| entry.uid == uid)
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or("").trim(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:1000:1001:Web:/srv/web:/bin/sh\n7:x:70:71::/seven:\nnohome:x:5:5\n\xff\xfe:x:1:1\n";
    const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:other,web\nwheel:x:10:web\nmine:x:1001:web\n";

    #[test]
    fn users() {
        let user = |uid, gid, groups: &[u32], home: &str| {
            Ok(User {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.into(),
            })
        };
        let rows = [
            ("", user(0, 0, &[], "/root")),
            ("0", user(0, 0, &[], "/root")),
            ("web", user(1000, 1001, &[10, 50], "/srv/web")),
            ("1000", user(1000, 1001, &[10, 50], "/srv/web")),
            ("web:staff", user(1000, 50, &[], "/srv/web")),
            ("web:7", user(1000, 7, &[], "/srv/web")),
            ("1234", user(1234, 0, &[], "/")),
            ("1234:5678", user(1234, 5678, &[], "/")),
            ("7", user(70, 71, &[], "/seven")),
            ("nohome", user(5, 5, &[], "/")),
            (
                "ghost",
                Err("unable to find user ghost: no matching entries in passwd file".to_owned()),
            ),
            (
                "web:ghosts",
                Err("unable to find group ghosts: no matching entries in group file".to_owned()),
            ),
            (
                "4294967295",
                Err(
                    "unable to find user 4294967295: no matching entries in passwd file".to_owned(),
                ),
            ),
            (
                "-1",
                Err("unable to find user -1: no matching entries in passwd file".to_owned()),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(resolve(text, PASSWD, GROUP), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(user in ".{0,12}", passwd in proptest::collection::vec(any::<u8>(), 0..200), group in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = resolve(&user, &passwd, &group);
        }
    }
}
