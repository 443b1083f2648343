//! Long answers that clients do not read: counted until they are sent, and handed over piece by piece.
//!
//! A client may ask for a large list on each of its streams and read none. HTTP/2 keeps whatever it is given until the
//! client has room, so it is given no more than a piece at a time, and what is left is counted against the user.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::respond::{self, Response};
use crate::BoxError;
use crate::flow::places::Place;
use crate::server::State;
use crate::status::ApiError;

/// Shorter answers are not counted.
const LONG_BYTES_MIN: u64 = 256 * 1024;
/// What the connection is given at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Who gets the answer.
#[derive(Clone)]
pub(super) struct Reader(pub String);

/// Counts a long answer. One that only reads (`safe`) becomes 429 when the user leaves too much unread already; what a write has
/// done is told in any case: nobody may believe that it did nothing.
pub(super) async fn counted(state: &State, safe: bool, response: Response) -> Response {
    let length = response.body().size_hint().exact();
    let Some(length) = length.filter(|length| *length >= LONG_BYTES_MIN) else {
        return response;
    };
    let Some(Reader(user)) = response.extensions().get().cloned() else {
        return response;
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let place = match state.unsent.take_some(&user, length) {
        Ok(place) => place,
        Err(error) if safe => return respond::error(&error),
        Err(_) => state.unsent.take_beyond(&user, length),
    };
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => {
            let body = Pieces {
                rest: body.to_bytes(),
                _place: place,
            };
            Response::from_parts(parts, body.boxed_unsync())
        }
        Err(_) => respond::error(&ApiError::internal("the answer was lost")),
    }
}

/// A body in pieces that share its memory.
struct Pieces {
    rest: Bytes,
    _place: Place,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
