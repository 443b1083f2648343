//! Healing: rules of ours that somebody flushes, and other firewalls that load their rules anew, are noticed within
//! moments. The kernel tells of every change of the packet filter; now and then everything is looked at anyhow.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rtnetlink::sys::{AsyncSocketExt, TokioSocket};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::netfilter::{Message, Messages, text};
use crate::network::Inner;
use crate::rules::nft::OwnRuns;
use crate::{names, system};

/// A firewall that loads its rules takes its time: wait until nothing has changed for so long, but not for ever.
const QUIET: Duration = Duration::from_millis(50);
const QUIET_MAX: Duration = Duration::from_secs(1);
/// How often everything is looked at without a word from the kernel.
const LOOK: Duration = Duration::from_secs(10);
/// Rest after a healing; doubles, up to the maximum, while somebody keeps undoing it.
const REST: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(60);

/// The running task; ends when dropped.
pub(crate) struct Healer(JoinHandle<()>);

impl Drop for Healer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Healer {
    /// Watches for `inner` from now on. What `socket` has heard since it was opened counts.
    pub fn start(inner: Weak<Inner>, socket: TokioSocket, table: String, runs: OwnRuns) -> Self {
        Self(tokio::spawn(watch(inner, socket, table, runs)))
    }
}

/// What has happened since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct News {
    /// Somebody else has changed our table.
    ours: bool,
    /// Somebody has changed another one, or word of it was lost.
    others: bool,
}

impl News {
    fn any(self) -> bool {
        self.ours || self.others
    }
}

async fn watch(inner: Weak<Inner>, mut socket: TokioSocket, table: String, runs: OwnRuns) {
    let mut rest = REST;
    loop {
        let mut news = News::default();
        let looked = timeout(LOOK, hear(&mut socket, &mut news, &table, &runs)).await;
        let began = Instant::now();
        while looked.is_ok()
            && began.elapsed() < QUIET_MAX
            && timeout(QUIET, hear(&mut socket, &mut news, &table, &runs))
                .await
                .is_ok()
        {}
        let Some(inner) = inner.upgrade() else { return };
        if !look(&inner, news, looked.is_err()).await {
            rest = REST;
            continue;
        }
        drop(inner);
        sleep(rest).await;
        rest = (rest * 2).min(REST_MAX);
    }
}

/// Returns at the next change that is not ours.
async fn hear(socket: &mut TokioSocket, news: &mut News, table: &str, runs: &OwnRuns) {
    loop {
        let mut heard = News::default();
        match socket.recv_from_full().await {
            Ok((bytes, _)) => {
                for message in Messages(&bytes) {
                    note(&mut heard, &message, table, runs);
                }
            }
            // More changes than the socket could hold (loading many services, for instance).
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => heard.others = true,
            Err(error) => {
                tracing::warn!(%error, "cannot hear of changes of the packet filter");
                sleep(LOOK).await;
                heard.others = true;
            }
        }
        news.ours |= heard.ours;
        news.others |= heard.others;
        if heard.any() {
            return;
        }
    }
}

/// Takes notice of one message.
fn note(news: &mut News, message: &Message<'_>, table: &str, runs: &OwnRuns) {
    const SUBSYSTEM: u16 = 10;
    /// NFT_MSG_*: new and deleted tables, chains and rules.
    const STRUCTURE: [u16; 6] = [0, 2, 3, 5, 6, 8];
    /// Sets and elements.
    const CONTENT: [u16; 4] = [9, 11, 12, 14];
    let what = message.kind & 0xff;
    let structure = STRUCTURE.contains(&what);
    if message.kind >> 8 != SUBSYSTEM || !(structure || CONTENT.contains(&what)) {
        return;
    }
    // The table's name is the first attribute of all of them.
    let Some(name) = text(message.attributes(), 1) else {
        return;
    };
    if runs.contains(message.port) {
        return;
    }
    if name == table {
        news.ours = true;
    } else if structure && !names::is_table(&name) {
        news.others = true;
    }
}

/// Looks at everything and puts right what is wrong. `true` when our own rules had to be restored.
async fn look(inner: &Inner, news: News, routine: bool) -> bool {
    let mut rules = inner.rules.lock().await;
    if inner.purged.load(Ordering::SeqCst) {
        return false;
    }
    let ill = news.ours || rules.damaged().await;
    if ill {
        tracing::warn!("somebody has changed our packet filter rules: restoring them");
        if let Err(error) = rules.restore().await {
            tracing::warn!(%error, "the packet filter rules could not be restored");
        }
    }
    rules.admit().await;
    if routine && let Err(error) = system::keep_forwarding(inner.ipv6()) {
        tracing::warn!(%error, "forwarding was turned off and cannot be turned on again");
    }
    ill
}
