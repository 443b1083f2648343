//! The text of the default profile: as strict as Docker's `docker-default` of 2026 (moby, `profiles/apparmor/template.go`), and
//! stricter where its patterns let through what no container needs (parameters beneath `/proc/sys/kernel` that begin as `shm` does).

/// Rules that are the same for every instance. Nothing is included: what a machine keeps in `/etc/apparmor.d` may be missing or
/// changed.
const RULES: &str = "
  # Everything is allowed but what is denied below; capabilities and seccomp decide about the rest.
  capability,
  file,
  network,
  unix,
  umount,
  deny network alg,
  deny network vsock,
  deny mount,
  deny remount,
  deny pivot_root,

  # Of /proc only a process's own directory and the shared memory's parameters are written to.
  deny /proc/* w,
  deny /proc/[^0-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sy[^s]*/** w,
  deny /proc/sys?*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/ke[^r]** w,
  deny /proc/sys/kernel/{s,sh} w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/{sysrq-trigger,kcore,kmem,mem} rwklx,

  # Of /sys only the control groups.
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/fs/cg[^r]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  # The machine's processes may look at the container's and end them, not the other way round.
  ptrace (readby, tracedby),
  signal (receive) peer=unconfined,
  signal (send, receive) set=(exists),
";

/// The profile of that name. `daemon` is the label of the process that sends signals to containers.
pub fn text(name: &str, daemon: &str) -> String {
    let mut own = format!(
        "  signal (send, receive) peer=\"{name}\",\n  ptrace (trace, read) peer=\"{name}\",\n"
    );
    if daemon != "unconfined" {
        own += &format!("  signal (receive) peer=\"{daemon}\",\n");
    }
    format!("profile \"{name}\" flags=(attach_disconnected,mediate_deleted) {{{RULES}{own}}}\n")
}

/// Of `NAME (MODE)`, as the kernel writes labels and its list of profiles, the name.
pub fn name_of(line: &str) -> &str {
    let line = line.trim_end_matches(['\0', '\n']);
    match line.rsplit_once(" (") {
        Some((name, mode)) if mode.ends_with(')') => name,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_the_instances_own() {
        let text = text("plim-1-default", "unconfined");
        assert!(
            text.starts_with("profile \"plim-1-default\" flags=("),
            "{text}"
        );
        assert!(text.contains("ptrace (trace, read) peer=\"plim-1-default\""));
        assert_eq!(text.matches("signal (receive) peer=").count(), 1);
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn a_confined_daemon_may_still_end_its_containers() {
        let text = text("plim-1-default", "/usr/bin/plimsoll");
        assert!(
            text.contains("signal (receive) peer=\"/usr/bin/plimsoll\""),
            "{text}"
        );
    }

    #[test]
    fn names_of_labels() {
        for (line, name) in [
            ("docker-default (enforce)\n", "docker-default"),
            ("/usr/sbin/ntpd (complain)", "/usr/sbin/ntpd"),
            (":ns://a b (enforce)\n", ":ns://a b"),
            ("unconfined\n", "unconfined"),
            ("odd (name (enforce)", "odd (name"),
            ("", ""),
        ] {
            assert_eq!(name_of(line), name, "{line:?}");
        }
    }
}
