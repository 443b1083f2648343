//! The one thread that writes: it takes every request that waits, commits what they change in one
//! transaction, then shows it to readers and watches, then answers.

use std::sync::Arc;
use std::time::Instant;

use super::Options;
use super::disk::Disk;
use super::plan::plan;
use super::queue::{Queue, Queued};
use super::record::Record;
use super::source::Source;
use crate::memory::Shared;
use crate::{Error, Revision};

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub options: Options,
    pub source: Source,
    pub disk: Writable,
    pub queue: Queue,
}

impl Drop for Writer {
    /// However the thread ends, no watch waits for ever.
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Whether the file can be written.
pub(super) enum Writable {
    Yes(Disk),
    /// A commit failed, for this reason; the next one after this moment opens the file again.
    Reopen(Error, Instant),
    /// A commit failed in a way that opening the file again would hide.
    No(Error),
}

impl Writer {
    /// Works until the store is dropped and every request has been answered.
    pub fn run(mut self) {
        while let Some(first) = self.next() {
            let batch = self.batch(first);
            self.work(batch);
        }
    }

    /// The next request. When none waits, the file is made shorter if much of it is unused.
    fn next(&mut self) -> Option<Queued> {
        if let Some(queued) = self.queue.try_next() {
            return Some(queued);
        }
        self.give_back();
        self.queue.next()
    }

    fn give_back(&mut self) {
        let held_bytes = self.shared.state.read().bytes();
        if let Writable::Yes(disk) = &mut self.disk
            && disk.may_be_too_long(held_bytes)
            && let Err(error) = disk.give_back(held_bytes)
        {
            self.failed(error, "the store could not be compacted");
        }
    }

    /// What may be done with the file after an error of writing to it.
    fn failed(&mut self, error: Error, what: &str) {
        tracing::error!(%error, "{what}; reads go on");
        if let Writable::Yes(disk) = &self.disk {
            self.disk = if disk.can_be_reopened() {
                Writable::Reopen(error, Instant::now() + self.options.reopen_pause)
            } else {
                Writable::No(error)
            };
        }
    }

    /// Everything that waits, up to the limits of one commit.
    fn batch(&mut self, first: Queued) -> Vec<Queued> {
        let options = &self.options;
        let mut bytes = first.request.size_bytes();
        let mut batch = vec![first];
        while batch.len() < options.commit_writes_max && bytes < options.commit_bytes_max {
            let Some(queued) = self.queue.try_next() else {
                break;
            };
            bytes += queued.request.size_bytes();
            batch.push(queued);
        }
        batch
    }

    fn work(&mut self, batch: Vec<Queued>) {
        // The room that the requests take is given back when they have been answered.
        let (requests, _room): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|queued| (queued.request, queued.room))
            .unzip();
        // Opening the file again may reveal that a commit reported as failed did happen, so it
        // comes before planning.
        if let Writable::Reopen(_, not_before) = self.disk
            && Instant::now() >= not_before
        {
            self.disk = self.reopen();
        }
        let (plan, before, compacted) = {
            // This thread alone changes the state, so it stays as planned upon after the unlock.
            let state = self.shared.state.read();
            let plan = plan(&state, requests);
            let trimmed = state.compacted_after(&plan.records, &self.shared.limits);
            let compacted = trimmed.max(plan.compact_to);
            (plan, state.compacted(), compacted)
        };
        let result = if plan.records.is_empty() && compacted == before {
            Ok(())
        } else {
            self.commit(plan.records, before, compacted)
        };
        for answer in plan.answers {
            match &result {
                Ok(()) => answer.send(),
                Err(error) => answer.fail(error),
            }
        }
    }

    fn commit(
        &mut self,
        records: Vec<Record>,
        before: Revision,
        compacted: Revision,
    ) -> Result<(), Error> {
        let disk = match &self.disk {
            Writable::Yes(disk) => disk,
            Writable::Reopen(error, _) | Writable::No(error) => return Err(error.clone()),
        };
        let revision = match records.last() {
            Some(record) => record.revision,
            None => self.shared.state.read().revision(),
        };
        if let Err(error) = disk.commit(&records, revision, before, compacted) {
            self.failed(
                error.clone(),
                "a commit failed, and the store refuses writes",
            );
            return Err(error);
        }
        self.shared.publish(records, revision, compacted);
        Ok(())
    }

    fn reopen(&mut self) -> Writable {
        let (disk, loaded) = match Disk::open(&mut self.source, &self.options) {
            Ok(opened) => opened,
            Err(error) => {
                return Writable::Reopen(error, Instant::now() + self.options.reopen_pause);
            }
        };
        let (shown, compacted) = {
            let state = self.shared.state.read();
            (state.revision(), state.compacted())
        };
        let found = loaded.revision();
        if found < shown {
            return Writable::No(Error::Corrupt {
                file: self.source.name.clone(),
                reason: format!("it is at revision {found} and was at {shown} before"),
            });
        }
        tracing::info!(file = self.source.name, "the store can be written again");
        // what is the same stays: its values are shared with who has read them
        if (found, loaded.compacted()) != (shown, compacted) {
            self.shared.replace(loaded);
        }
        Writable::Yes(disk)
    }
}
