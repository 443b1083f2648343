//! Packet filters of other owners (ufw, Docker, firewalld, a person's own rules) that would drop what containers send
//! and receive. A packet has to be accepted in every chain of a hook, so an "accept" of ours in our table does not help:
//! a rule that lets our bridge through goes into theirs, with a comment that names the instance. It is found again by
//! that comment, and removed with the instance. Nothing else of another owner is touched.
//!
//! Which rules go where is worked out here from plain data; [`kernel`] reads the data.
//!
//! Where the owner has a chain for a user's own rules, ours come after those, so that what a person has denied
//! explicitly stays denied and only the general denial is overcome; elsewhere they come first. They are plain enough
//! for iptables to list, save and delete them as its own.

pub(crate) mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::{Protocol, names};

/// Jumps are followed so far.
const DEPTH_MAX: usize = 16;

/// Chains that firewalls leave to their users, each with the hook it belongs to.
const USER_CHAINS: [(Hook, &str); 4] = [
    (Hook::Forward, "DOCKER-USER"),
    (Hook::Forward, "ufw-user-forward"),
    (Hook::Input, "ufw-user-input"),
    (Hook::Output, "ufw-user-output"),
];

/// Where in a packet's way a base chain sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    /// To this machine.
    Input,
    /// Through this machine.
    Forward,
    /// From this machine.
    Output,
}

/// A chain's name: family (`ip`, `ip6` or `inet`), table, chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    pub family: &'static str,
    pub table: String,
    pub chain: String,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// A base chain of type filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    pub path: Path,
    pub hook: Hook,
    pub policy_drops: bool,
}

/// What a rule does with the packets that it matches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Accept,
    /// Drops or rejects.
    Deny,
    Return,
    Jump(String),
    Goto(String),
}

/// A rule, as far as it is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub path: Path,
    pub handle: u64,
    pub comment: Option<String>,
    /// It matches every packet.
    pub always: bool,
    pub verdict: Option<Verdict>,
}

/// All that the kernel has, in the order in which packets meet it. Our own table is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filters {
    pub bases: Vec<Base>,
    pub rules: Vec<Rule>,
}

/// For whom the rules are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    pub instance: String,
    pub bridge: String,
    pub gateway: Ipv4Addr,
    /// Whether containers have IPv6.
    pub ipv6: bool,
    /// Ports of the gateway that containers need.
    pub ports: BTreeSet<(Protocol, u16)>,
}

impl Owner {
    /// The rules that let our packets pass a hook of a family's table: comment and condition.
    fn wanted(&self, hook: Hook, family: &str) -> Vec<(String, String)> {
        let bridge = &self.bridge;
        let rule = |what: &str, condition: String| (self.comment(what), condition);
        match hook {
            Hook::Forward => vec![
                rule("from containers", format!("iifname \"{bridge}\"")),
                rule("to containers", format!("oifname \"{bridge}\"")),
            ],
            Hook::Output => vec![rule("to containers", format!("oifname \"{bridge}\""))],
            // Not everything that this machine serves: a firewall that denies incoming connections means it.
            Hook::Input => {
                let ports = self.ports.iter().filter(|_| family != "ip6");
                let ports = ports.map(|(protocol, port)| {
                    rule(
                        &format!("{protocol} {port} for containers"),
                        format!(
                            "iifname \"{bridge}\" ip daddr {} {protocol} dport {port}",
                            self.gateway
                        ),
                    )
                });
                // Without these nobody finds the way to anybody; most firewalls let them through anyhow.
                let neighbours = ["nd-neighbor-solicit", "nd-neighbor-advert"];
                let neighbours = neighbours.iter().filter(|_| self.ipv6 && family != "ip");
                let neighbours = neighbours.map(|kind| {
                    let condition = format!("iifname \"{bridge}\" icmpv6 type {kind}");
                    rule(&format!("{kind} of containers"), condition)
                });
                ports.chain(neighbours).collect()
            }
        }
    }

    /// The name of the instance's tables.
    pub fn table(&self) -> String {
        names::table(&self.instance)
    }

    fn comment(&self, what: &str) -> String {
        format!("{}{what}", prefix(&self.instance))
    }
}

/// What the comments of an instance's rules start with.
fn prefix(instance: &str) -> String {
    format!("plimsoll {instance}: ")
}

/// The nft script that makes the foreign filters let `owner` through: adds what is missing, removes what is not needed
/// any more, whoever put it there twice. Empty when all is as it should be.
pub(crate) fn script(filters: &Filters, owner: &Owner) -> String {
    let mut wanted: BTreeMap<(Path, String), String> = BTreeMap::new();
    let concerned = |base: &&Base| owner.ipv6 || base.path.family != "ip6";
    let denying = filters.bases.iter().filter(|base| filters.denies(base));
    for base in denying.filter(concerned) {
        let path = filters.place(base);
        for (comment, condition) in owner.wanted(base.hook, base.path.family) {
            wanted.insert((path.clone(), comment), condition);
        }
    }
    let mut out = String::new();
    for rule in filters.of(&owner.instance) {
        let key = (rule.path.clone(), rule.comment.clone().unwrap_or_default());
        if wanted.remove(&key).is_none() {
            out.push_str(&delete(rule));
        }
    }
    for ((path, comment), condition) in wanted {
        // Before an unconditional return: Docker ends its users' chain with one.
        let last = filters.in_chain(&path).last();
        let end = last.filter(|rule| rule.always && rule.verdict == Some(Verdict::Return));
        let start = filters.bases.iter().any(|base| base.path == path);
        let verb = match (start, end) {
            (true, _) => format!("insert rule {path}"),
            (false, Some(end)) => format!("insert rule {path} handle {}", end.handle),
            (false, None) => format!("add rule {path}"),
        };
        out.push_str(&format!(
            "{verb} {condition} counter accept comment \"{comment}\"\n"
        ));
    }
    out
}

/// The nft script that removes every rule of an instance from foreign filters.
pub(crate) fn removal(filters: &Filters, instance: &str) -> String {
    filters.of(instance).map(delete).collect()
}

fn delete(rule: &Rule) -> String {
    format!("delete rule {} handle {}\n", rule.path, rule.handle)
}

impl Filters {
    fn of(&self, instance: &str) -> impl Iterator<Item = &Rule> {
        let prefix = prefix(instance);
        self.rules.iter().filter(move |rule| {
            let comment = rule.comment.as_deref();
            comment.is_some_and(|comment| comment.starts_with(&prefix))
        })
    }

    fn in_chain(&self, path: &Path) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.path == *path)
    }

    /// Whether a packet that no particular rule is for is dropped or rejected.
    fn denies(&self, base: &Base) -> bool {
        self.fate(&base.path, 0).unwrap_or(base.policy_drops)
    }

    /// What the rules of a chain that match everything do: `Some(denied)`, or `None` when the packet comes out of it.
    fn fate(&self, path: &Path, depth: usize) -> Option<bool> {
        if depth > DEPTH_MAX {
            return None;
        }
        let general = self.in_chain(path).filter(|rule| rule.always);
        for rule in general {
            match &rule.verdict {
                None => {}
                Some(Verdict::Accept) => return Some(false),
                Some(Verdict::Deny) => return Some(true),
                Some(Verdict::Return) => return None,
                Some(Verdict::Goto(to)) => return self.fate(&path.beside(to), depth + 1),
                Some(Verdict::Jump(to)) => {
                    if let Some(fate) = self.fate(&path.beside(to), depth + 1) {
                        return Some(fate);
                    }
                }
            }
        }
        None
    }

    /// The chain that our rules for a hook go into.
    fn place(&self, base: &Base) -> Path {
        USER_CHAINS
            .iter()
            .filter(|(hook, _)| *hook == base.hook)
            .map(|(_, name)| base.path.beside(name))
            .find(|path| self.leads_to(&base.path, path, 0))
            .unwrap_or_else(|| base.path.clone())
    }

    fn leads_to(&self, from: &Path, to: &Path, depth: usize) -> bool {
        depth <= DEPTH_MAX
            && self.in_chain(from).any(|rule| match &rule.verdict {
                Some(Verdict::Jump(next) | Verdict::Goto(next)) => {
                    *next == to.chain || self.leads_to(&from.beside(next), to, depth + 1)
                }
                _ => false,
            })
    }
}

impl Path {
    fn beside(&self, chain: &str) -> Path {
        Path {
            chain: chain.to_owned(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
