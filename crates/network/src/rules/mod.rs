//! Packet filter rules of one instance: what they should be ([`plan`]), what leads there ([`change`]), how that is said to the
//! kernel ([`encode`], [`batch`]) and to nft ([`text`], [`nft`]).
//!
//! What changes with services, policies and published ports is said to the kernel; the fixed part, and the whole when
//! something went wrong, is nft's.
//!
//! One table of each address family. A map leads from (address, protocol, port) to the chain of a service port in constant time; that chain is a
//! single rule which picks an endpoint at random. A change touches only the elements and chains that differ. Modelled on
//! upstream's nftables mode (KEP-3866), with one chain per service port where upstream has one more per endpoint.

mod batch;
pub(crate) mod between;
mod change;
mod encode;
pub(crate) mod fixed;
pub(crate) mod nft;
pub(crate) mod plan;
mod render;
mod rule;
pub(crate) mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::foreign::{self, Owner};
use crate::{Error, Family, Service, names};
use batch::{Changes, Kernel};
use between::Places;
use nft::OwnRuns;
use plan::{Plan, Plans};
use text::{Found, Layout};

/// The tables of an instance as this process believes them to be.
pub(crate) struct Rules {
    nft: PathBuf,
    runs: OwnRuns,
    kernel: Kernel,
    /// One for each family.
    layouts: Vec<Layout>,
    owner: Owner,
    /// The bridge's hardware address, and what the names of its ports begin with.
    mac: [u8; 6],
    ports: String,
    /// Who is at them, and whether the kernel drops what comes from them under other addresses.
    places: Places,
    guarded: AtomicBool,
    /// Foreign rules that could not be made, as they were reported.
    refused: BTreeSet<String>,
    /// What should be applied.
    wanted: Plans,
    /// Whether it is. Not until this process has loaded the services: an earlier one may have left rules that work.
    applied: bool,
}

impl Rules {
    /// Loads the fixed rules and `published`; rules for services that are there already stay as they are.
    pub async fn open(
        layouts: Vec<Layout>,
        owner: Owner,
        (mac, ports, places): ([u8; 6], String, Places),
        wanted: Plans,
        runs: OwnRuns,
    ) -> Result<Self, Error> {
        let nft = nft::find()?;
        let kernel = Kernel::open()
            .map_err(|error| Error::link("cannot speak to the packet filter", error))?;
        runs.own(kernel.port());
        let mut rules = Self {
            nft,
            runs,
            kernel,
            layouts,
            owner,
            mac,
            ports,
            places,
            guarded: AtomicBool::new(false),
            refused: BTreeSet::new(),
            wanted,
            applied: false,
        };
        if let Err(error) = rules.run(&rules.scripts(text::adopt)).await {
            // A table of another version, or one that somebody has altered.
            tracing::warn!(%error, "replacing the rules that were found");
            rules.run(&rules.scripts(text::replace)).await?;
        }
        rules.remove_others().await?;
        rules.guard_bridge().await;
        if foreign::kernel::has_legacy_filter() {
            tracing::warn!(
                "the old iptables (iptables-legacy) also filters on this machine, where no rule of ours goes: if its FORWARD chain drops, run `iptables-legacy -I FORWARD -i {0} -j ACCEPT; iptables-legacy -I FORWARD -o {0} -j ACCEPT`",
                rules.owner.bridge
            );
        }
        rules.admit().await;
        Ok(rules)
    }

    /// Changes what is wanted, and the kernel with it, in one transaction. On an error nothing has changed and the next call
    /// tries again from scratch.
    pub async fn change(&mut self, edit: impl FnOnce(&mut Plans)) -> Result<Replaced, Error> {
        let before = self.applied.then(|| self.wanted.clone());
        edit(&mut self.wanted);
        self.applied = false;
        match &before {
            Some(before) => self.follow(before, &self.wanted).await?,
            None => {
                if let Err(error) = self.load(Way::Kernel).await {
                    tracing::warn!(%error, "loading the rules failed: loading them by nft");
                    self.load(Way::Nft).await?;
                }
            }
        }
        self.applied = true;
        Ok(before.map_or(Replaced::Unknown, |plans| Replaced::All(Box::new(plans))))
    }

    /// [`Rules::change`] from services to others, in a time that depends on how many differ.
    pub async fn change_services(
        &mut self,
        before: &[Service],
        after: &[Service],
        reserved: IpAddr,
    ) -> Result<Replaced, Error> {
        let parts = self.wanted.parts(before, after, reserved);
        let Some((old, new)) = parts.filter(|_| self.applied) else {
            let all = |plans: &mut Plans| plans.set_services(after, reserved);
            return self.change(all).await;
        };
        self.wanted.replace(&old, &new);
        self.applied = false;
        self.follow(&old, &new).await?;
        self.applied = true;
        Ok(Replaced::Part(Box::new((old, new))))
    }

    /// Changes published ports only: does not touch services that an earlier process left when this one has not been
    /// told of any yet.
    pub async fn change_published(
        &mut self,
        edit: impl FnOnce(&mut Plans),
    ) -> Result<Replaced, Error> {
        if self.applied {
            return self.change(edit).await;
        }
        let before = self.wanted.clone();
        edit(&mut self.wanted);
        self.run(&self.scripts(text::adopt)).await?;
        Ok(Replaced::All(Box::new(before)))
    }

    /// What should be applied.
    pub fn wanted(&self) -> &Plans {
        &self.wanted
    }

    /// Whether chains of ours are missing, by a look at the kernel. Somebody who is after us could hide more than that.
    pub async fn damaged(&self) -> bool {
        for layout in &self.layouts {
            let (family, table) = (layout.family, layout.table.clone());
            let found = blocking(move || foreign::kernel::chains_of(family, &table)).await;
            let found: BTreeSet<String> = match found {
                Ok(found) => found.into_iter().collect(),
                Err(error) => {
                    tracing::warn!(%error, "cannot look at the packet filter");
                    return false;
                }
            };
            let applied = self.applied.then_some(&self.wanted).into_iter();
            let mut further = applied.flat_map(|plans| text::chains(layout, plans.of(family)));
            let fixed = text::fixed_chains().any(|chain| !found.contains(chain));
            if fixed || further.any(|chain| !found.contains(&chain)) {
                return true;
            }
        }
        false
    }

    /// What `script` says of each table.
    fn scripts(&self, script: impl Fn(&Layout, &Plan) -> String) -> String {
        let layouts = self.layouts.iter();
        layouts
            .map(|layout| script(layout, self.wanted.of(layout.family)))
            .collect()
    }

    /// Has frames from container to container dropped, and those under addresses of others. A kernel that cannot filter them at all is
    /// told of.
    async fn guard_bridge(&self) {
        let table = self.owner.table();
        let script = between::script(&table, &self.ports, self.mac, &self.places);
        let guarded = self.run(&script).await;
        self.guarded.store(guarded.is_ok(), Ordering::Relaxed);
        if let Err(error) = guarded {
            tracing::warn!(
                %error,
                "containers can send frames to each other past network policies, and under each other's addresses: this kernel does not filter bridges (CONFIG_NF_TABLES_BRIDGE)"
            );
        }
    }

    /// The port of the bridge has these addresses from now on (none: it goes), and nothing comes from it under others.
    pub async fn place(&mut self, port: &str, addresses: Vec<IpAddr>) {
        let before = match addresses.is_empty() {
            true => self.places.remove(port),
            false => self.places.insert(port.to_owned(), addresses.clone()),
        };
        let before = before.unwrap_or_default();
        if !self.guarded.load(Ordering::Relaxed) || before == addresses {
            return;
        }
        let element = |add: bool, address: &IpAddr| {
            let set = between::set(Family::of(*address));
            (add, set, between::key(port, *address))
        };
        let gone = before.iter().filter(|one| !addresses.contains(one));
        let new = addresses.iter().filter(|one| !before.contains(one));
        let changes: Vec<_> = gone
            .map(|address| element(false, address))
            .chain(new.map(|address| element(true, address)))
            .collect();
        let table = self.owner.table();
        if let Err(error) = self
            .kernel
            .elements((between::FAMILY, &table), &changes)
            .await
        {
            tracing::warn!(%error, "loading the rules of the bridge anew");
            self.guard_bridge().await;
        }
    }

    /// Removes tables of families that the instance has no more.
    async fn remove_others(&self) -> Result<(), Error> {
        let table = self.owner.table();
        let has = |family: Family| self.layouts.iter().any(|layout| layout.family == family);
        for family in Family::ALL.into_iter().filter(|family| !has(*family)) {
            remove(&self.nft, family, &table, &self.runs).await?;
        }
        Ok(())
    }

    /// Makes the kernel's tables, of which `from` is so, the wanted ones, of which `to` shall be so.
    async fn follow(&self, from: &Plans, to: &Plans) -> Result<(), Error> {
        if let Err(error) = self.say(from, to).await {
            tracing::warn!(%error, "a change of rules failed: loading all of them");
            self.load(Way::Nft).await?;
        }
        Ok(())
    }

    async fn say(&self, mut from: &Plans, to: &Plans) -> Result<(), Error> {
        let ahead = from.map_some(|plan, family| text::ahead(plan, to.of(family)));
        for to in ahead.iter().chain([to]) {
            let changes = |layout: &Layout| {
                let family = layout.family;
                change::difference(layout, from.of(family), to.of(family))
            };
            self.kernel.apply(&self.tables(changes)).await?;
            from = to;
        }
        Ok(())
    }

    /// Makes the kernel's table the wanted one, whatever it is now. By the kernel's own interface the fixed part has to be
    /// there and stays.
    async fn load(&self, way: Way) -> Result<(), Error> {
        if way == Way::Nft {
            // whatever has happened to the others may have happened to this one
            self.guard_bridge().await;
        }
        let mut found = BTreeMap::new();
        for layout in &self.layouts {
            let (family, table) = (layout.family, layout.table.clone());
            let looked = blocking(move || look(family, &table)).await;
            // nothing to keep, or no way to see it
            if let Ok(there) = looked
                && !there.chains.is_empty()
            {
                found.insert(family, there);
            }
        }
        match self.renew(way, found).await {
            Ok(()) => Ok(()),
            Err(error) if way == Way::Kernel => Err(error),
            Err(error) => {
                // A table of another version, or one that somebody has altered.
                tracing::warn!(%error, "replacing the rules that were found");
                self.run(&self.scripts(text::replace)).await
            }
        }
    }

    async fn renew(&self, way: Way, mut found: BTreeMap<Family, Found>) -> Result<(), Error> {
        let nothing = Plan::default();
        let mut first = Vec::new();
        for layout in &self.layouts {
            let Some(found) = found.get_mut(&layout.family) else {
                continue;
            };
            let mut missing = self.wanted.of(layout.family).permits.clone();
            missing.retain(|name, _| !found.chains.contains(name));
            let permits = Plan {
                permits: missing,
                ..Plan::default()
            };
            if let Some(ahead) = text::ahead(&nothing, &permits) {
                first.push((layout, change::difference(layout, &nothing, &ahead)));
                found.chains.extend(ahead.permits.into_keys());
            }
        }
        match way {
            Way::Kernel => {
                self.kernel.apply(&first).await?;
                let none = Found::default();
                let changes = |layout: &Layout| {
                    let found = found.get(&layout.family).unwrap_or(&none);
                    change::renewal(layout, self.wanted.of(layout.family), found)
                };
                self.kernel.apply(&self.tables(changes)).await
            }
            Way::Nft => {
                let first = first.iter();
                let first: String = first
                    .map(|(layout, changes)| text::script(layout, changes))
                    .collect();
                if !first.is_empty() {
                    self.run(&first).await?;
                }
                let script = self.scripts(|layout, plan| match found.get(&layout.family) {
                    Some(found) => text::renew(layout, plan, found),
                    None => text::replace(layout, plan),
                });
                self.run(&script).await
            }
        }
    }

    /// What `changes` says of each table.
    fn tables(&self, changes: impl Fn(&Layout) -> Vec<change::Change>) -> Vec<Changes<'_>> {
        let layouts = self.layouts.iter();
        layouts.map(|layout| (layout, changes(layout))).collect()
    }

    /// Puts the whole table in place again.
    pub async fn restore(&mut self) -> Result<(), Error> {
        if self.applied {
            self.load(Way::Nft).await
        } else {
            self.run(&self.scripts(text::adopt)).await
        }
    }

    /// Has foreign filters let our packets through. What they refuse is reported once: it is no reason not to run.
    pub async fn admit(&mut self) {
        let table = self.owner.table();
        let filters = match blocking(move || foreign::kernel::read(&table)).await {
            Ok(filters) => filters,
            Err(error) => {
                tracing::warn!(%error, "cannot look for other packet filters");
                return;
            }
        };
        let script = foreign::script(&filters, &self.owner);
        if script.lines().all(|line| self.refused.contains(line)) {
            return;
        }
        tracing::info!(
            rules = script,
            "letting containers through other packet filters"
        );
        if self.run(&script).await.is_ok() {
            self.refused.clear();
            return;
        }
        // Somewhere a rule is refused (a table that belongs to its maker alone): that is no reason to go without the others.
        let mut refused = BTreeSet::new();
        for line in script.lines() {
            if let Err(error) = self.run(line).await {
                if !self.refused.contains(line) {
                    tracing::warn!(
                        %error,
                        rule = line,
                        "another packet filter denies what containers send or receive, and takes no rule of ours: allow the interface {} in it (firewalld: firewall-cmd --permanent --zone=trusted --add-interface={})",
                        self.owner.bridge,
                        self.owner.bridge,
                    );
                }
                refused.insert(line.to_owned());
            }
        }
        self.refused = refused;
    }

    async fn run(&self, script: &str) -> Result<(), Error> {
        nft::run(&self.nft, &self.owner.table(), script, &self.runs).await
    }
}

/// What a change has replaced.
pub(crate) enum Replaced {
    /// This process does not know.
    Unknown,
    All(Box<Plans>),
    /// A part of the plan, by another part.
    Part(Box<(Plans, Plans)>),
}

impl Replaced {
    /// What was there, if it is known, and what is there in its place; `all` is there now.
    pub fn sides<'a>(&'a self, all: &'a Plans) -> (Option<&'a Plans>, &'a Plans) {
        match self {
            Replaced::Unknown => (None, all),
            Replaced::All(before) => (Some(before), all),
            Replaced::Part(parts) => (Some(&parts.0), &parts.1),
        }
    }
}

/// How rules come into the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// By its own interface: what services, policies and published ports determine.
    Kernel,
    /// By nft's script: that, and the fixed part.
    Nft,
}

/// What the kernel has of a table.
fn look(family: Family, table: &str) -> std::io::Result<Found> {
    let mut policed = BTreeMap::new();
    for map in [fixed::POLICED_INGRESS, fixed::POLICED_EGRESS] {
        if let Some(jumps) = foreign::kernel::jumps_of(family, table, map)? {
            policed.insert(map, jumps);
        }
    }
    Ok(Found {
        chains: foreign::kernel::chains_of(family, table)?,
        sets: foreign::kernel::sets_of(family, table)?,
        policed,
    })
}

/// Removes a table, if it is there: a kernel without the family could not even make it.
async fn remove(nft: &Path, family: Family, table: &str, runs: &OwnRuns) -> Result<(), Error> {
    let name = table.to_owned();
    let found = blocking(move || foreign::kernel::chains_of(family, &name)).await;
    if family == Family::V6 && found.is_ok_and(|chains| chains.is_empty()) {
        return Ok(());
    }
    let path = format!("{} {table}", family.ip());
    nft::run(nft, table, &text::remove(&path), runs).await
}

/// Removes the tables of an instance, whether they are there or not, and its rules in foreign filters.
pub(crate) async fn purge(instance: &str) -> Result<(), Error> {
    let table = names::table(instance);
    let (nft, runs) = (nft::find()?, OwnRuns::default());
    let own = table.clone();
    let failed = |error: std::io::Error| Error::Rules {
        table: table.clone(),
        reason: format!("other packet filters cannot be searched for our rules: {error}"),
    };
    let filters = blocking(move || foreign::kernel::read(&own))
        .await
        .map_err(failed)?;
    let removal = foreign::removal(&filters, instance);
    if !removal.is_empty() {
        nft::run(&nft, &table, &removal, &runs).await?;
    }
    for family in Family::ALL {
        remove(&nft, family, &table, &runs).await?;
    }
    // a kernel that does not filter bridges has none
    if let Err(error) = nft::run(&nft, &table, &between::removal(&table), &runs).await {
        tracing::debug!(%error, "no table of the bridge was removed");
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
