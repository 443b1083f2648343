//! Names of containers: those that are allowed, and those that are given to the nameless.

use rand::seq::IndexedRandom;

const QUALITIES: [&str; 24] = [
    "able", "brisk", "calm", "deft", "eager", "fair", "fleet", "gallant", "hardy", "jolly", "keen",
    "lively", "merry", "nimble", "plucky", "quick", "ready", "sound", "staunch", "steady",
    "sturdy", "swift", "trim", "trusty",
];
const SHIPS: [&str; 24] = [
    "barge", "barque", "brig", "caravel", "clipper", "cog", "cutter", "dinghy", "dory", "ferry",
    "frigate", "galleon", "gig", "junk", "ketch", "lugger", "packet", "pilot", "schooner", "skiff",
    "sloop", "smack", "tender", "yawl",
];

/// A name that `taken` does not know.
pub fn invent(taken: impl Fn(&str) -> bool) -> String {
    let mut rng = rand::rng();
    for attempt in 0..100u32 {
        let quality = QUALITIES.choose(&mut rng).copied().unwrap_or("steady");
        let ship = SHIPS.choose(&mut rng).copied().unwrap_or("sloop");
        let name = if attempt < 50 {
            format!("{quality}_{ship}")
        } else {
            format!("{quality}_{ship}{}", rand::random::<u16>())
        };
        if !taken(&name) {
            return name;
        }
    }
    format!("container_{:016x}", rand::random::<u64>())
}

/// 64 hexadecimal digits.
pub fn id() -> String {
    let random: [u8; 32] = rand::random();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether something looks like what [`id`] makes.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// As Docker: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() >= 2
        && name.len() <= 255
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, want) in [
            ("web-1", true),
            ("a", false),
            ("-a", false),
            ("a/b", false),
            ("", false),
            ("a b", false),
            ("A.b_c", true),
        ] {
            assert_eq!(valid(name), want, "{name}");
        }
        assert!(valid(&invent(|_| false)));
        assert!(invent(|_| true).starts_with("container_"));
        assert!(is_id(&id()) && !is_id("build-1"));
    }
}
