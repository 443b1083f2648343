//! Packet filter rules of one instance: what they should be ([`plan`]), how nft says it ([`text`]), and the program that
//! takes it ([`nft`]).
//!
//! One table. A map leads from (address, protocol, port) to the chain of a service port in constant time; that chain is a
//! single rule which picks an endpoint at random. A change touches only the elements and chains that differ. Modelled on
//! upstream's nftables mode (KEP-3866), with one chain per service port where upstream has one more per endpoint.

mod fixed;
pub(crate) mod nft;
pub(crate) mod plan;
mod render;
pub(crate) mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::foreign::{self, Owner};
use crate::{Error, names};
use nft::OwnRuns;
use plan::Plan;
use text::{Found, Layout};

/// The table of an instance as this process believes it to be.
pub(crate) struct Rules {
    nft: PathBuf,
    runs: OwnRuns,
    layout: Layout,
    owner: Owner,
    /// Foreign rules that could not be made, as they were reported.
    refused: BTreeSet<String>,
    /// What is applied; `None` until this process has loaded the services: an earlier one may have left rules that work.
    applied: Option<Plan>,
    /// What should be applied.
    wanted: Plan,
}

impl Rules {
    /// Loads the fixed rules and `published`; rules for services that are there already stay as they are.
    pub async fn open(
        layout: Layout,
        owner: Owner,
        wanted: Plan,
        runs: OwnRuns,
    ) -> Result<Self, Error> {
        let nft = nft::find()?;
        let mut rules = Self {
            nft,
            runs,
            layout,
            owner,
            refused: BTreeSet::new(),
            applied: None,
            wanted,
        };
        let adopt = text::adopt(&rules.layout, &rules.wanted);
        if let Err(error) = rules.run(&adopt).await {
            // A table of another version, or one that somebody has altered.
            tracing::warn!(%error, "replacing the rules that were found");
            rules
                .run(&text::replace(&rules.layout, &rules.wanted))
                .await?;
        }
        if foreign::kernel::has_legacy_filter() {
            tracing::warn!(
                "the old iptables (iptables-legacy) also filters on this machine, where no rule of ours goes: if its FORWARD chain drops, run `iptables-legacy -I FORWARD -i {0} -j ACCEPT; iptables-legacy -I FORWARD -o {0} -j ACCEPT`",
                rules.layout.bridge
            );
        }
        rules.admit().await;
        Ok(rules)
    }

    /// Changes what is wanted, and the kernel with it, in one transaction. Returns the plan that it replaced, if this
    /// process knew it. On an error nothing has changed and the next call tries again from scratch.
    pub async fn change(&mut self, edit: impl FnOnce(&mut Plan)) -> Result<Option<Plan>, Error> {
        edit(&mut self.wanted);
        match self.applied.take() {
            Some(applied) => {
                if let Err(error) = self.follow(&applied).await {
                    tracing::warn!(%error, "a change of rules failed: loading all of them");
                    self.load().await?;
                }
                self.applied = Some(self.wanted.clone());
                Ok(Some(applied))
            }
            None => {
                self.load().await?;
                self.applied = Some(self.wanted.clone());
                Ok(None)
            }
        }
    }

    /// Changes published ports only: does not touch services that an earlier process left when this one has not been
    /// told of any yet.
    pub async fn change_published(
        &mut self,
        edit: impl FnOnce(&mut Plan),
    ) -> Result<Option<Plan>, Error> {
        if self.applied.is_some() {
            return self.change(edit).await;
        }
        let before = self.wanted.clone();
        edit(&mut self.wanted);
        self.run(&text::adopt(&self.layout, &self.wanted)).await?;
        Ok(Some(before))
    }

    /// What should be applied.
    pub fn wanted(&self) -> &Plan {
        &self.wanted
    }

    /// Whether chains of ours are missing, by a look at the kernel. Somebody who is after us could hide more than that.
    pub async fn damaged(&self) -> bool {
        let table = self.layout.table.clone();
        let found = blocking(move || foreign::kernel::chains_of(&table)).await;
        let found: BTreeSet<String> = match found {
            Ok(found) => found.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "cannot look at the packet filter");
                return false;
            }
        };
        let applied = self.applied.iter();
        let mut further = applied.flat_map(|plan| text::chains(&self.layout, plan));
        let fixed = text::fixed_chains().any(|chain| !found.contains(chain));
        fixed || further.any(|chain| !found.contains(&chain))
    }

    /// Makes the kernel's table the wanted one; it is `applied` now.
    async fn follow(&self, applied: &Plan) -> Result<(), Error> {
        let ahead = text::ahead(applied, &self.wanted);
        let mut from = applied;
        for to in ahead.iter().chain([&self.wanted]) {
            let difference = text::difference(&self.layout, from, to);
            if !difference.is_empty() {
                self.run(&difference).await?;
            }
            from = to;
        }
        Ok(())
    }

    /// Makes the kernel's table the wanted one, whatever it is now.
    async fn load(&self) -> Result<(), Error> {
        let table = self.layout.table.clone();
        let found = blocking(move || {
            Ok(Found {
                chains: foreign::kernel::chains_of(&table)?,
                sets: foreign::kernel::sets_of(&table)?,
            })
        })
        .await;
        let renewed = match found {
            Ok(found) if !found.chains.is_empty() => self.renew(found).await,
            // nothing to keep, or no way to see it
            _ => return self.run(&text::replace(&self.layout, &self.wanted)).await,
        };
        match renewed {
            Ok(()) => Ok(()),
            Err(error) => {
                // A table of another version, or one that somebody has altered.
                tracing::warn!(%error, "replacing the rules that were found");
                self.run(&text::replace(&self.layout, &self.wanted)).await
            }
        }
    }

    async fn renew(&self, mut found: Found) -> Result<(), Error> {
        let there = |name: &String| found.chains.contains(name);
        let mut missing = self.wanted.permits.clone();
        missing.retain(|name, _| !there(name));
        let nothing = Plan::default();
        let permits = Plan {
            permits: missing,
            ..Plan::default()
        };
        if let Some(ahead) = text::ahead(&nothing, &permits) {
            self.run(&text::difference(&self.layout, &nothing, &ahead))
                .await?;
            found.chains.extend(ahead.permits.into_keys());
        }
        self.run(&text::renew(&self.layout, &self.wanted, &found))
            .await
    }

    /// Puts the whole table in place again.
    pub async fn restore(&mut self) -> Result<(), Error> {
        match &self.applied {
            Some(_) => {
                self.load().await?;
                self.applied = Some(self.wanted.clone());
            }
            None => self.run(&text::adopt(&self.layout, &self.wanted)).await?,
        }
        Ok(())
    }

    /// Has foreign filters let our packets through. What they refuse is reported once: it is no reason not to run.
    pub async fn admit(&mut self) {
        let table = self.layout.table.clone();
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
        nft::run(&self.nft, &self.layout.table, script, &self.runs).await
    }
}

/// Removes the table of an instance, whether it is there or not, and its rules in foreign filters.
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
    nft::run(&nft, &table, &text::remove(&table), &runs).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
