//! Reads foreign filters from the kernel (linux/netfilter/nf_tables.h).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use super::{Base, Filters, Hook, Path, Rule, Verdict};
use crate::netfilter::{
    Attributes, Message, Requests, attribute, number, text, text_attribute, until_zero,
};
use crate::{Family, names};

const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_SET: u16 = SUBSYSTEM | 10;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_ELEMENTS_TABLE: u16 = 1;
const NFTA_ELEMENTS_SET: u16 = 2;
const NFTA_ELEMENTS: u16 = 3;
const NFTA_ELEMENT_KEY: u16 = 1;
const NFTA_ELEMENT_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// Of xtables' matches and targets alike.
const NFTA_XT_NAME: u16 = 1;
const NFTA_XT_INFO: u16 = 3;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
/// In a rule's userdata, as nft and iptables write it: type, length, text.
const USERDATA_COMMENT: u8 = 0;

const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;

/// The chains of one table in the kernel.
pub(crate) fn chains_of(family: Family, table: &str) -> io::Result<Vec<String>> {
    Requests::open()?.dump(GET_CHAIN, family.number(), &[], |message| {
        let ours = text(message.attributes(), NFTA_CHAIN_TABLE)? == table;
        ours.then(|| text(message.attributes(), NFTA_CHAIN_NAME))?
    })
}

/// The sets and maps of one table in the kernel, those within rules too.
pub(crate) fn sets_of(family: Family, table: &str) -> io::Result<Vec<String>> {
    Requests::open()?.dump(GET_SET, family.number(), &[], |message| {
        let ours = text(message.attributes(), NFTA_SET_TABLE)? == table;
        ours.then(|| text(message.attributes(), NFTA_SET_NAME))?
    })
}

/// A map from addresses to chains that are jumped to; `None` when there is no such map, or something else is in it.
pub(crate) fn jumps_of(
    family: Family,
    table: &str,
    map: &str,
) -> io::Result<Option<BTreeMap<IpAddr, String>>> {
    let mut which = text_attribute(NFTA_ELEMENTS_TABLE, table);
    which.extend(text_attribute(NFTA_ELEMENTS_SET, map));
    let dumped = Requests::open()?.dump(GET_ELEMENTS, family.number(), &which, |message| {
        let list = attribute(message.attributes(), NFTA_ELEMENTS).unwrap_or_default();
        Some(
            Attributes(list)
                .map(|(_, one, _)| jump_in(one))
                .collect::<Vec<_>>(),
        )
    });
    match dumped {
        Ok(parts) => Ok(parts.into_iter().flatten().collect()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn jump_in(element: &[u8]) -> Option<(IpAddr, String)> {
    let key = attribute(attribute(element, NFTA_ELEMENT_KEY)?, NFTA_DATA_VALUE)?;
    let address = match key.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(key).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(key).ok()?),
    };
    match verdict_in(attribute(element, NFTA_ELEMENT_DATA)?)? {
        Verdict::Jump(chain) => Some((address, chain)),
        _ => None,
    }
}

/// Whether the old iptables or ip6tables, whose rules are seen by its own programs alone, filters in this namespace.
pub(crate) fn has_legacy_filter() -> bool {
    let has = |file: &str| {
        std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))
            .is_ok_and(|names| names.lines().any(|name| name == "filter"))
    };
    has("ip_tables_names") || has("ip6_tables_names")
}

/// Everything that filters, except in the table `own`.
pub(crate) fn read(own: &str) -> io::Result<Filters> {
    let requests = Requests::open()?;
    let mut filters = Filters {
        bases: requests.dump(GET_CHAIN, NFPROTO_UNSPEC, &[], base_of)?,
        rules: Vec::new(),
    };
    // Instances deny nothing to each other, and may have thousands of rules.
    filters.bases.retain(|base| {
        let table = &base.path.table;
        table != own && !names::is_table(table) && plain(table) && plain(&base.path.chain)
    });
    let mut tables: Vec<(&str, &str)> = filters
        .bases
        .iter()
        .map(|base| (base.path.family, base.path.table.as_str()))
        .collect();
    tables.sort_unstable();
    tables.dedup();
    for (family, table) in tables {
        let number = match family {
            "ip" => NFPROTO_IPV4,
            "ip6" => NFPROTO_IPV6,
            _ => NFPROTO_INET,
        };
        let only = text_attribute(NFTA_RULE_TABLE, table);
        let mut rules = requests.dump(GET_RULE, number, &only, rule_of)?;
        // An old kernel may not take the hint.
        rules.retain(|rule| rule.path.table == table);
        filters.rules.append(&mut rules);
    }
    Ok(filters)
}

/// Whether a name needs no quoting in a script. Firewalls' names do not; another would not be ours to guess about.
fn plain(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
}

fn family_of(message: &Message<'_>) -> Option<&'static str> {
    match message.family() {
        NFPROTO_IPV4 => Some("ip"),
        NFPROTO_IPV6 => Some("ip6"),
        NFPROTO_INET => Some("inet"),
        _ => None,
    }
}

fn base_of(message: Message<'_>) -> Option<Base> {
    let attributes = message.attributes();
    let family = family_of(&message)?;
    let hook = attribute(attributes, NFTA_CHAIN_HOOK)?;
    let hook = match number(hook, NFTA_HOOK_HOOKNUM)? {
        1 => Hook::Input,
        2 => Hook::Forward,
        3 => Hook::Output,
        _ => return None,
    };
    if text(attributes, NFTA_CHAIN_TYPE)? != "filter" {
        return None;
    }
    Some(Base {
        path: Path {
            family,
            table: text(attributes, NFTA_CHAIN_TABLE)?,
            chain: text(attributes, NFTA_CHAIN_NAME)?,
        },
        hook,
        policy_drops: number(attributes, NFTA_CHAIN_POLICY)? as i32 == NF_DROP,
    })
}

fn rule_of(message: Message<'_>) -> Option<Rule> {
    let attributes = message.attributes();
    let path = Path {
        family: family_of(&message)?,
        table: text(attributes, NFTA_RULE_TABLE)?,
        chain: text(attributes, NFTA_RULE_CHAIN)?,
    };
    let handle = attribute(attributes, NFTA_RULE_HANDLE)?.try_into().ok()?;
    let mut rule = Rule {
        path,
        handle: u64::from_be_bytes(handle),
        comment: attribute(attributes, NFTA_RULE_USERDATA).and_then(comment_in),
        always: true,
        verdict: None,
    };
    let expressions = attribute(attributes, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    for (_, expression, _) in Attributes(expressions) {
        read_expression(&mut rule, expression);
    }
    Some(rule)
}

fn read_expression(rule: &mut Rule, expression: &[u8]) {
    let name = text(expression, NFTA_EXPR_NAME).unwrap_or_default();
    let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
    let xt = text(data, NFTA_XT_NAME).unwrap_or_default();
    match (name.as_str(), xt.as_str()) {
        ("counter" | "log", _) | ("target", "LOG" | "NFLOG") => {}
        ("match", "comment") => {
            // What iptables has once restored from its own text.
            let comment = attribute(data, NFTA_XT_INFO).map(until_zero);
            rule.comment = rule.comment.take().or(comment);
        }
        ("reject", _) | ("target", "REJECT" | "DROP") => rule.verdict = Some(Verdict::Deny),
        ("immediate", _) => {
            if let Some(verdict) = attribute(data, NFTA_IMMEDIATE_DATA).and_then(verdict_in) {
                rule.verdict = Some(verdict);
            }
        }
        // A condition, or something unknown, which may be one.
        _ => rule.always = false,
    }
}

fn verdict_in(data: &[u8]) -> Option<Verdict> {
    let verdict = attribute(data, NFTA_DATA_VERDICT)?;
    let chain = || text(verdict, NFTA_VERDICT_CHAIN);
    match number(verdict, NFTA_VERDICT_CODE)? as i32 {
        NF_DROP => Some(Verdict::Deny),
        NF_ACCEPT => Some(Verdict::Accept),
        NFT_RETURN => Some(Verdict::Return),
        NFT_JUMP => Some(Verdict::Jump(chain()?)),
        NFT_GOTO => Some(Verdict::Goto(chain()?)),
        _ => None,
    }
}

fn comment_in(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == USERDATA_COMMENT {
            return Some(until_zero(value));
        }
        userdata = &rest[value.len()..];
    }
    None
}
