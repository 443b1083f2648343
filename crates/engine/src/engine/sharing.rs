//! How the machine is shared between what runs in sandboxes and everything else: the daemon, the supervising processes, and
//! whatever is on the machine besides.
//!
//! Weights count only while processors are short. Whoever is in a group at the top of the hierarchy (a service of systemd, a
//! session) or in none weighs 1024; everything of the instance together weighs four fifths of that, so that the daemon comes first
//! and pods still get their due beside other services; in it the supervising processes, which carry logs and exec, weigh twice as
//! much as all sandboxes.

use super::Engine;
use crate::error::Error;
use crate::spec::Resources;
use crate::status::Stats;
use crate::supervisor::{PODS, SUPERVISORS};
use std::path::Path;

const INSTANCE_SHARES: u64 = 819;
const SUPERVISORS_SHARES: u64 = 2048;
const PODS_SHARES: u64 = 1024;

impl Engine {
    /// Gives all sandboxes together less weight than the rest of the machine has, and at most so many bytes of memory. Makes the
    /// groups if there are none yet.
    ///
    /// False when the sandboxes take more memory than that already: then the limit is left as it is, because setting it would kill
    /// what runs; ask again when they take less.
    ///
    /// # Errors
    /// A group that cannot be made, or a limit that the kernel refuses.
    pub async fn share_machine(&self, sandboxes_memory_bytes: u64) -> Result<bool, Error> {
        let inner = self.inner.clone();
        let task = tokio::task::spawn_blocking(move || {
            let (cgroups, parent) = (&inner.cgroups, &inner.config.cgroup_parent);
            let (pods, supervisors) = (
                format!("{parent}/{PODS}"),
                format!("{parent}/{SUPERVISORS}"),
            );
            for (path, shares) in [
                (parent, INSTANCE_SHARES),
                (&supervisors, SUPERVISORS_SHARES),
                (&pods, PODS_SHARES),
            ] {
                cgroups.create(path)?;
                let weight = Resources {
                    cpu_shares: Some(shares),
                    ..Resources::default()
                };
                cgroups.limit(path, &weight)?;
            }
            // files that can be read again do not count: the kernel lets go of them first
            if cgroups.stats(&pods)?.memory_working_set_bytes > sandboxes_memory_bytes {
                return Ok(false);
            }
            cgroups.limit_memory(&pods, sandboxes_memory_bytes)
        });
        let path = Path::new(&self.inner.config.cgroup_parent);
        task.await.unwrap_or_else(|error| {
            let error = std::io::Error::other(error);
            Err(Error::io("set the limits of", path, error))
        })
    }

    /// Counters of all sandboxes together.
    ///
    /// # Errors
    /// When there is no group of them yet.
    pub fn sandboxes_stats(&self) -> Result<Stats, Error> {
        let inner = &self.inner;
        inner
            .cgroups
            .stats(&format!("{}/{PODS}", inner.config.cgroup_parent))
    }
}

/// Makes the kernel kill this process, and those that it starts, after all others when memory runs out; the score that it has then.
/// Without CAP_SYS_RESOURCE it cannot be lowered, and stays what it is.
pub fn lower_oom_score(wanted: i32) -> i32 {
    let score = crate::oci::oom_score_possible(wanted);
    // what cannot be written stays as it is, and that is what is told
    let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
    crate::oci::own_oom_score()
}
