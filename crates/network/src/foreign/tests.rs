//! Tests of where our rules go, on filters written as iptables would list them.

use super::*;

/// `-P FORWARD DROP`, `-A FORWARD -j DOCKER-USER`, `-A INPUT -p tcp -j ACCEPT`, `-A X -j REJECT --comment TEXT`: one
/// line each, in table `ip filter`. A condition is anything else before `-j`.
fn filters(lines: &str) -> Filters {
    let mut filters = Filters::default();
    let path = |chain: &str| Path {
        family: "ip",
        table: "filter".into(),
        chain: chain.into(),
    };
    for (number, line) in lines.lines().map(str::trim).enumerate() {
        let (line, comment) = match line.split_once(" --comment ") {
            Some((line, comment)) => (line, Some(comment.to_owned())),
            None => (line, None),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["-P", chain, policy] => filters.bases.push(Base {
                path: path(chain),
                hook: match chain {
                    "INPUT" => Hook::Input,
                    "OUTPUT" => Hook::Output,
                    _ => Hook::Forward,
                },
                policy_drops: policy == "DROP",
            }),
            ["-A", chain, ref condition @ .., "-j", target] => filters.rules.push(Rule {
                path: path(chain),
                handle: number as u64,
                comment,
                always: condition.is_empty(),
                verdict: Some(match target {
                    "ACCEPT" => Verdict::Accept,
                    "DROP" | "REJECT" => Verdict::Deny,
                    "RETURN" => Verdict::Return,
                    chain => Verdict::Jump(chain.into()),
                }),
            }),
            _ => panic!("{line}"),
        }
    }
    filters
}

fn owner() -> Owner {
    Owner {
        instance: "plim-000001".into(),
        bridge: "plim-000001".into(),
        gateway: Ipv4Addr::new(10, 64, 0, 1),
        ipv6: true,
        ports: [(Protocol::Udp, 53), (Protocol::Tcp, 6443)].into(),
    }
}

/// The script, shortened to what varies.
fn change(lines: &str) -> String {
    script(&filters(lines), &owner())
        .replace("rule ip filter ", "")
        .replace(" counter accept comment \"plimsoll plim-000001:", " #")
        .replace("\"\n", "\n")
        .replace("\"plim-000001\"", "BR")
}

const FORWARD: &str =
    "insert FORWARD iifname BR # from containers\ninsert FORWARD oifname BR # to containers\n";

#[test]
fn rules_go_only_where_packets_would_be_denied() {
    let cases = [
        ("nothing there", "", String::new()),
        ("an open chain", "-P FORWARD ACCEPT", String::new()),
        (
            "denials for others",
            "-P FORWARD ACCEPT\n-A FORWARD -s 192.0.2.0/24 -j DROP",
            String::new(),
        ),
        ("a closed chain", "-P FORWARD DROP", FORWARD.into()),
        (
            "closed, though some may pass",
            "-P FORWARD DROP\n-A FORWARD --ctstate ESTABLISHED -j ACCEPT",
            FORWARD.into(),
        ),
        (
            "closed, though everything is accepted",
            "-P FORWARD DROP\n-A FORWARD -j ACCEPT",
            String::new(),
        ),
        (
            "open, with a refusal at its end, as firewalld has it",
            "-P FORWARD ACCEPT\n-A FORWARD --ctstate ESTABLISHED -j ACCEPT\n-A FORWARD -j REJECT",
            FORWARD.into(),
        ),
        (
            "a refusal in another chain",
            "-P FORWARD ACCEPT\n-A FORWARD -j ZONES\n-A ZONES -j PUBLIC\n-A PUBLIC -j REJECT",
            FORWARD.into(),
        ),
        (
            "a refusal that a return comes before",
            "-P FORWARD ACCEPT\n-A FORWARD -j ZONES\n-A ZONES -j RETURN\n-A ZONES -j REJECT",
            String::new(),
        ),
        (
            "incoming: what containers need, and no more",
            "-P INPUT DROP",
            "insert INPUT iifname BR ip daddr 10.64.0.1 tcp dport 6443 # tcp 6443 for containers\n\
             insert INPUT iifname BR ip daddr 10.64.0.1 udp dport 53 # udp 53 for containers\n"
                .into(),
        ),
        (
            "outgoing",
            "-P OUTPUT DROP",
            "insert OUTPUT oifname BR # to containers\n".into(),
        ),
        (
            "jumps in a circle",
            "-P FORWARD DROP\n-A FORWARD -j A\n-A A -j B\n-A B -j A",
            FORWARD.into(),
        ),
    ];
    for (name, lines, expected) in cases {
        assert_eq!(change(lines), expected, "{name}");
    }
}

#[test]
fn a_users_own_chain_is_preferred_and_its_denials_stay() {
    let docker = "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -i eth0 -j DROP";
    assert_eq!(
        change(docker),
        "add DOCKER-USER iifname BR # from containers\nadd DOCKER-USER oifname BR # to containers\n"
    );
    let returning = format!("{docker}\n-A DOCKER-USER -j RETURN");
    assert_eq!(
        change(&returning),
        "insert DOCKER-USER handle 3 iifname BR # from containers\n\
         insert DOCKER-USER handle 3 oifname BR # to containers\n"
    );
    let ufw = "-P FORWARD DROP\n-P INPUT DROP\n-A FORWARD -j ufw-before-forward\n\
        -A ufw-before-forward --ctstate ESTABLISHED -j ACCEPT\n-A ufw-before-forward -j ufw-user-forward\n\
        -A INPUT -j ufw-before-input\n-A ufw-before-input -j ufw-user-input";
    let script = change(ufw);
    assert_eq!(
        script.matches("add ufw-user-forward").count(),
        2,
        "{script}"
    );
    assert_eq!(script.matches("add ufw-user-input").count(), 2, "{script}");
    // A chain that nothing leads to (ufw disabled) is of no use.
    let disabled = "-P FORWARD DROP\n-A ufw-before-forward -j ufw-user-forward";
    assert_eq!(change(disabled), FORWARD);
}

#[test]
fn what_is_there_stays_what_is_double_or_of_no_use_goes() {
    const FROM: &str = "-A FORWARD -i x -j ACCEPT --comment plimsoll plim-000001: from containers";
    const TO: &str = "-A FORWARD -o x -j ACCEPT --comment plimsoll plim-000001: to containers";
    const OTHER: &str = "-A FORWARD -i y -j ACCEPT --comment plimsoll plim-000002: from containers";
    let cases = [
        (format!("-P FORWARD DROP\n{FROM}\n{TO}"), ""),
        (
            format!("-P FORWARD DROP\n{FROM}\n{FROM}\n{TO}"),
            "delete FORWARD handle 2\n",
        ),
        (
            format!("-P FORWARD DROP\n{FROM}\n{OTHER}"),
            "insert FORWARD oifname BR # to containers\n",
        ),
        (
            format!("-P FORWARD ACCEPT\n{FROM}\n{TO}\n{OTHER}"),
            "delete FORWARD handle 1\ndelete FORWARD handle 2\n",
        ),
        (
            format!("-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n{FROM}\n{TO}"),
            "delete FORWARD handle 2\ndelete FORWARD handle 3\n\
             add DOCKER-USER iifname BR # from containers\nadd DOCKER-USER oifname BR # to containers\n",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(change(&lines), expected, "{lines}");
    }
    let all = filters(&format!("-P FORWARD DROP\n{FROM}\n{OTHER}\n{TO}"));
    assert_eq!(
        removal(&all, "plim-000001"),
        "delete rule ip filter FORWARD handle 1\ndelete rule ip filter FORWARD handle 3\n"
    );
}

#[test]
fn tables_of_ipv6_are_opened_where_containers_have_it() {
    let of = |family: &'static str, ipv6: bool| {
        let mut all = filters("-P FORWARD DROP\n-P INPUT DROP");
        all.bases
            .iter_mut()
            .for_each(|base| base.path.family = family);
        let owner = Owner { ipv6, ..owner() };
        script(&all, &owner).replace(&format!("rule {family} filter "), "")
    };
    let v6 = of("ip6", true);
    assert_eq!(v6.matches("insert FORWARD").count(), 2, "{v6}");
    assert!(v6.contains("insert INPUT iifname \"plim-000001\" icmpv6 type nd-neighbor-solicit "));
    assert!(!v6.contains("dport"), "{v6}");
    assert_eq!(of("ip6", false), "");
    let both = of("inet", true);
    assert!(
        both.contains("dport 6443") && both.contains("nd-neighbor-advert"),
        "{both}"
    );
    assert!(!of("inet", false).contains("icmpv6"));
    assert!(!of("ip", true).contains("icmpv6"));
}
