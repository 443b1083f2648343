//! The queue in front of the writer, bounded in requests and in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Options;
use super::plan::Request;
use crate::Error;

/// A request in the queue, with the room in memory that it takes until it has been answered, even
/// when its caller no longer waits.
pub(super) struct Queued {
    pub request: Request,
    pub room: OwnedSemaphorePermit,
}

/// The callers' end.
pub(super) struct Entrance {
    requests: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    room_bytes: usize,
}

/// The writer's end.
pub(super) struct Queue(mpsc::Receiver<Queued>);

pub(super) fn queue(options: &Options) -> (Entrance, Queue) {
    let (requests, queue) = mpsc::channel(options.queue_writes_max.max(1));
    // A semaphore hands out at most u32::MAX permits at once.
    let room_bytes = options.queue_bytes_max.clamp(1, u32::MAX as usize);
    let room = Arc::new(Semaphore::new(room_bytes));
    (
        Entrance {
            requests,
            room,
            room_bytes,
        },
        Queue(queue),
    )
}

impl Entrance {
    /// Waits for room, then enqueues. A request larger than all the room waits for all of it.
    pub async fn send(&self, request: Request) -> Result<(), Error> {
        let bytes = request.size_bytes().min(self.room_bytes);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self
            .room
            .clone()
            .acquire_many_owned(permits)
            .await
            .map_err(|_| Error::Closed)?;
        self.requests
            .send(Queued { request, room })
            .await
            .map_err(|_| Error::Closed)
    }
}

impl Queue {
    /// Waits for a request; `None` when the callers' end has been dropped and all are taken.
    pub fn next(&mut self) -> Option<Queued> {
        self.0.blocking_recv()
    }

    /// A request that already waits.
    pub fn try_next(&mut self) -> Option<Queued> {
        self.0.try_recv().ok()
    }
}
