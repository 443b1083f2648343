//! Names of signals, as Dockerfiles, manifests and people write them.

/// The number of a signal, by name with or without `SIG`, by its distance from the first or last real-time one (`RTMIN+3`), or by
/// number.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_uppercase();
    let names = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];
    let wanted = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(wanted) {
        return Some(number);
    }
    names
        .iter()
        .find(|(name, _)| *name == wanted)
        .map(|(_, number)| *number)
}

/// `RTMIN`, `RTMIN+1` to `RTMIN+15`, `RTMAX-14` to `RTMAX`. The first two are the C library's own.
fn real_time(name: &str) -> Option<i32> {
    const FIRST: i32 = 34;
    const LAST: i32 = 64;
    match name {
        "RTMIN" => return Some(FIRST),
        "RTMAX" => return Some(LAST),
        _ => {}
    }
    let distance = |text: &str, most: i32| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let distance = text.parse().ok().filter(|_| plain)?;
        (1..=most).contains(&distance).then_some(distance)
    };
    if let Some(text) = name.strip_prefix("RTMIN+") {
        return Some(FIRST + distance(text, 15)?);
    }
    Some(LAST - distance(name.strip_prefix("RTMAX-")?, 14)?)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals() {
        for (name, want) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("0", None),
            ("65", None),
            ("SIGNOTHING", None),
            ("", None),
            ("SIGRTMIN", Some(34)),
            ("RTMIN+15", Some(49)),
            ("RTMIN+16", None),
            ("rtmax-14", Some(50)),
            ("RTMAX", Some(64)),
            ("RTMIN++1", None),
            ("RTMIN+0", None),
        ] {
            assert_eq!(signal_number(name), want, "{name}");
        }
    }
}
