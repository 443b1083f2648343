//! Packet filter rules of one instance: what they should be ([`plan`]), how nft says it ([`text`]), and the program that
//! takes it ([`nft`]).
//!
//! One table. A map leads from (address, protocol, port) to the chain of a service port in constant time; that chain is a
//! single rule which picks an endpoint at random. A change touches only the elements and chains that differ. Modelled on
//! upstream's nftables mode (KEP-3866), with one chain per service port where upstream has one more per endpoint.
//!
//! Not here yet: the rule that lets our packets through a foreign chain which would drop them (ufw, DOCKER-USER). Such a
//! chain is another owner's, so an "accept" of ours does not help; it belongs beside [`nft`], recorded like forwarding is.

mod fixed;
pub(crate) mod nft;
pub(crate) mod plan;
mod render;
pub(crate) mod text;

use std::path::PathBuf;

use crate::Error;
use plan::Plan;
use text::Layout;

/// The table of an instance as this process believes it to be.
pub(crate) struct Rules {
    nft: PathBuf,
    layout: Layout,
    /// What is applied; `None` until this process has loaded the services: an earlier one may have left rules that work.
    applied: Option<Plan>,
    /// What should be applied.
    wanted: Plan,
}

impl Rules {
    /// Loads the fixed rules and `published`; rules for services that are there already stay as they are.
    pub async fn open(layout: Layout, wanted: Plan) -> Result<Self, Error> {
        let nft = nft::find()?;
        let rules = Self {
            nft,
            layout,
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
        Ok(rules)
    }

    /// Changes what is wanted, and the kernel with it, in one transaction. Returns the plan that it replaced, if this
    /// process knew it. On an error nothing has changed and the next call tries again from scratch.
    pub async fn change(&mut self, edit: impl FnOnce(&mut Plan)) -> Result<Option<Plan>, Error> {
        edit(&mut self.wanted);
        match self.applied.take() {
            Some(applied) => {
                let difference = text::difference(&self.layout, &applied, &self.wanted);
                if !difference.is_empty()
                    && let Err(error) = self.run(&difference).await
                {
                    tracing::warn!(%error, "a change of rules failed: loading all of them");
                    self.run(&text::replace(&self.layout, &self.wanted)).await?;
                }
                self.applied = Some(self.wanted.clone());
                Ok(Some(applied))
            }
            None => {
                self.run(&text::replace(&self.layout, &self.wanted)).await?;
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

    async fn run(&self, script: &str) -> Result<(), Error> {
        nft::run(&self.nft, &self.layout.table, script).await
    }
}

/// Removes a table, whether it is there or not.
pub(crate) async fn purge(table: &str) -> Result<(), Error> {
    nft::run(&nft::find()?, table, &text::remove(table)).await
}
