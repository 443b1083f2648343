//! How many requests are worked on at one time, and whose: upstream's limits on requests in flight, with a queue in
//! which every user waits for their own, so that one client's storm is that client's wait.
//!
//! Requests are of one of two levels, which take nothing from each other: what the cluster is run with (its
//! administrators, nodes and control plane) and everybody else. Roles inside this process are not counted at all.
//! Requests that last (watches, logs, exec, port-forward) have places of their own: [`places`].

pub(crate) mod places;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::auth::Identity;
use crate::status::ApiError;
use queue::{Arrival, Bounds, Queue};

/// How long a request waits for its turn (upstream: a quarter of the request timeout).
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Requests of one user that wait; more get 429.
const WAITING_PER_USER_MAX: usize = 128;
/// Requests that wait, of all users.
const WAITING_MAX: usize = 2048;

/// The requests in flight of one server.
pub(crate) struct Flows {
    /// By level, then reads and writes.
    lanes: [[Arc<Lane>; 2]; 2],
    wait_max: Duration,
}

type Lane = Mutex<Queue<oneshot::Sender<Ticket>>>;

impl Flows {
    /// So many reads and writes at one time for each level; a user has at most half of a level's.
    pub fn new(reads_max: usize, writes_max: usize) -> Self {
        let lane = |running_max: usize| {
            Arc::new(Mutex::new(Queue::new(Bounds {
                running_max: running_max.max(1),
                running_per_user_max: running_max.div_ceil(2).max(1),
                waiting_per_user_max: WAITING_PER_USER_MAX,
                waiting_max: WAITING_MAX,
            })))
        };
        let level = || [lane(reads_max), lane(writes_max)];
        Flows {
            lanes: [level(), level()],
            wait_max: WAIT_MAX,
        }
    }

    /// Waits for the user's turn; 429 when too many wait already, or when it takes too long.
    pub async fn admit(&self, identity: &Identity, mutating: bool) -> Result<Ticket, ApiError> {
        let lane = &self.lanes[usize::from(!runs_the_cluster(identity))][usize::from(mutating)];
        let user = identity.user.as_str();
        let receiver = {
            let mut queue = lane.lock();
            match queue.arrive(user) {
                Arrival::Run => return Ok(Ticket::new(lane, user)),
                Arrival::Refuse => return Err(too_many()),
                Arrival::Wait => {
                    let (sender, receiver) = oneshot::channel();
                    queue.wait(user, sender);
                    receiver
                }
            }
        };
        match tokio::time::timeout(self.wait_max, receiver).await {
            Ok(Ok(ticket)) => Ok(ticket),
            // The receiver is dropped with this; its place in the queue is passed over.
            Ok(Err(_)) | Err(_) => Err(too_many()),
        }
    }
}

/// Whom the cluster needs to go on: administrators, nodes, the control plane.
fn runs_the_cluster(identity: &Identity) -> bool {
    identity.is_master()
        || identity.groups.iter().any(|group| group == "system:nodes")
        || matches!(
            identity.user.as_str(),
            "system:kube-controller-manager" | "system:kube-scheduler"
        )
}

/// Upstream's answer; clients wait a second and come again.
pub(crate) fn too_many() -> ApiError {
    let mut error = ApiError::new(
        429,
        "TooManyRequests",
        "Too many requests, please try again later.",
    );
    error.retry_after_seconds = Some(1);
    error
}

/// The right to work on a request; the next in the queue has it when this is dropped.
pub(crate) struct Ticket {
    /// None when there is nothing to give back.
    lane: Option<Arc<Lane>>,
    user: String,
}

impl Ticket {
    fn new(lane: &Arc<Lane>, user: &str) -> Self {
        Ticket {
            lane: Some(lane.clone()),
            user: user.to_owned(),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else {
            return;
        };
        let mut user = std::mem::take(&mut self.user);
        // The lock is not held while a ticket changes hands. Who gave up waiting does not take it; then the next one
        // has it.
        loop {
            let next = lane.lock().leave(&user);
            let Some((next, sender)) = next else {
                return;
            };
            match sender.send(Ticket::new(&lane, &next)) {
                Ok(()) => return,
                Err(mut ticket) => {
                    ticket.lane = None;
                    user = next;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Identity {
        Identity::new(name, &[])
    }

    #[tokio::test]
    async fn a_storm_of_one_user_leaves_room_for_others() {
        let flows = Flows::new(4, 2);
        let storm: Vec<_> = [
            flows.admit(&user("storm"), false).await,
            flows.admit(&user("storm"), false).await,
        ]
        .into_iter()
        .map(|ticket| ticket.map_err(|error| error.code))
        .collect();
        assert!(storm.iter().all(Result::is_ok));
        let storming = user("storm");
        let third = flows.admit(&storming, false);
        tokio::pin!(third);
        tokio::select! {
            biased;
            _ = &mut third => panic!("a third of four is more than half"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        let other = flows.admit(&user("other"), false).await;
        assert!(other.is_ok(), "others come through");
        assert!(
            flows.admit(&storming, true).await.is_ok(),
            "writes are apart"
        );
        let admin = flows.admit(&Identity::admin(), false).await;
        assert!(admin.is_ok(), "administrators have a level of their own");
        drop(storm);
        assert!(third.await.is_ok(), "it has its turn when one ends");
    }

    #[tokio::test]
    async fn waiting_has_an_end() {
        let mut flows = Flows::new(2, 2);
        flows.wait_max = Duration::from_millis(30);
        let one = user("a");
        let _first = flows.admit(&one, true).await.map_err(|e| e.code);
        let started = tokio::time::Instant::now();
        let error = flows.admit(&one, true).await.err().expect("429");
        assert_eq!((error.code, error.retry_after_seconds), (429, Some(1)));
        assert_eq!(error.message, "Too many requests, please try again later.");
        assert!(started.elapsed() >= flows.wait_max);
    }

    #[tokio::test]
    async fn who_gave_up_is_passed_over() {
        let flows = Flows::new(2, 2);
        let one = user("a");
        let first = flows.admit(&one, true).await.map_err(|e| e.code);
        {
            let gives_up = flows.admit(&one, true);
            tokio::pin!(gives_up);
            let waited = tokio::time::timeout(Duration::from_millis(5), &mut gives_up).await;
            assert!(waited.is_err());
        }
        let stays = flows.admit(&one, true);
        tokio::pin!(stays);
        assert!(
            tokio::time::timeout(Duration::from_millis(5), &mut stays)
                .await
                .is_err()
        );
        drop(first);
        let ticket = tokio::time::timeout(Duration::from_secs(5), stays)
            .await
            .expect("in time");
        drop(ticket);
        assert!(flows.admit(&one, true).await.is_ok(), "nothing is lost");
    }
}
