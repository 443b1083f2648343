//! Requests to etcd: one member at a time, the next one when it cannot be reached, logging in when
//! etcd wants it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use super::failure::{Failure, Kind};
use super::options::{Options, User};
use super::proto::{
    Answer, AuthenticateRequest, AuthenticateResponse, CompactionRequest, CompactionResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    WatchResponse, watch_request,
};
use crate::{Error, Revision};

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// A connection that is silent for so long is asked whether it lives (etcd refuses to be asked more
/// often than every 5 s), and given up when there is no answer for as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) struct Client {
    members: Vec<Member>,
    /// The member that is asked first.
    current: AtomicUsize,
    user: Option<User>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    /// The highest revision that any answer carried.
    known: AtomicU64,
    request_timeout: Duration,
    message_bytes_max: usize,
}

struct Member {
    name: String,
    channel: Channel,
}

impl Client {
    /// Checks the settings; connects when the first request is made.
    pub fn new(options: &Options) -> Result<Self, Error> {
        if options.endpoints.is_empty() {
            return Err(Error::Refused {
                attempted: "use etcd".into(),
                reason: "no endpoint is named; write etcd://HOST:PORT".into(),
            });
        }
        let members = options
            .endpoints
            .iter()
            .map(|name| {
                let channel = channel(name, options).map_err(|why| Error::Refused {
                    attempted: format!("use etcd at {name}"),
                    reason: chain(&why),
                })?;
                Ok(Member {
                    name: name.clone(),
                    channel,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            user: options.user.clone(),
            token: Mutex::new(None),
            known: AtomicU64::new(1),
            request_timeout: options.request_timeout,
            message_bytes_max: options.message_bytes_max,
        })
    }

    /// The highest revision that etcd has told of.
    pub fn known(&self) -> Revision {
        self.known.load(Ordering::Acquire)
    }

    /// Forgets [`known`](Self::known): etcd has been set back to this revision.
    pub fn set_back(&self, revision: Revision) {
        self.known.store(revision, Ordering::Release);
    }

    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        self.unary(RANGE, request, true).await
    }

    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        self.unary(TXN, request, false).await
    }

    /// Compacting twice does nothing, so it may be tried again.
    pub async fn compact(&self, revision: Revision) -> Result<(), Failure> {
        let request = CompactionRequest {
            revision: signed(revision),
        };
        let _: CompactionResponse = self.unary(COMPACT, request, true).await?;
        Ok(())
    }

    /// Opens a watch; the sender keeps it open.
    pub async fn watch(
        &self,
        create: WatchCreateRequest,
    ) -> Result<
        (
            Streaming<WatchResponse>,
            futures::channel::mpsc::Sender<WatchRequest>,
        ),
        Failure,
    > {
        let mut again = true;
        loop {
            let token = self.token().await?;
            let at = self.current.load(Ordering::Acquire);
            let (mut requests, outgoing) = futures::channel::mpsc::channel(1);
            let first = WatchRequest {
                request: Some(watch_request::Request::Create(create.clone())),
            };
            // The channel is empty and has room.
            let _ = requests.try_send(first);
            let opened = tokio::time::timeout(self.request_timeout, async {
                let mut grpc = self.grpc(at);
                grpc.ready().await.map_err(not_ready)?;
                let mut request = with_token(Request::new(outgoing), token.as_ref());
                // A member that is cut off from the others ends the watch, instead of keeping it open in silence.
                let yes = MetadataValue::from_static("true");
                request.metadata_mut().insert("hasleader", yes);
                grpc.streaming(
                    request,
                    PathAndQuery::from_static(WATCH),
                    ProstCodec::default(),
                )
                .await
                .map_err(Failure::from)
            })
            .await
            .unwrap_or_else(|_| Err(Failure::timeout(self.request_timeout)));
            match opened {
                Ok(stream) => return Ok((stream.into_inner(), requests)),
                Err(failure) if failure.kind == Kind::LogIn && again => {
                    again = false;
                    self.forget(token);
                }
                Err(failure) => {
                    self.next_after(at);
                    return Err(self.named(at, failure));
                }
            }
        }
    }

    /// Asks the member after this one first from now on.
    pub fn turn(&self) {
        self.next_after(self.current.load(Ordering::Acquire));
    }

    async fn unary<Q, A>(
        &self,
        path: &'static str,
        request: Q,
        repeatable: bool,
    ) -> Result<A, Failure>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + Answer + 'static,
    {
        let mut members_left = self.members.len();
        let mut log_in_again = true;
        loop {
            let token = self.token().await?;
            let at = self.current.load(Ordering::Acquire);
            let failure = match self.once(at, path, request.clone(), token.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match failure.kind {
                Kind::LogIn if log_in_again && self.user.is_some() => {
                    log_in_again = false;
                    self.forget(token);
                    continue;
                }
                Kind::NotDone => {}
                Kind::Unknown if repeatable => {}
                _ => return Err(self.named(at, failure)),
            }
            self.next_after(at);
            members_left -= 1;
            if members_left == 0 {
                return Err(self.named(at, failure));
            }
        }
    }

    async fn once<Q, A>(
        &self,
        at: usize,
        path: &'static str,
        request: Q,
        token: Option<&MetadataValue<Ascii>>,
    ) -> Result<A, Failure>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + Answer + 'static,
    {
        let answer = tokio::time::timeout(self.request_timeout, async {
            let mut grpc = self.grpc(at);
            grpc.ready().await.map_err(not_ready)?;
            let request = with_token(Request::new(request), token);
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            grpc.unary(request, PathAndQuery::from_static(path), codec)
                .await
                .map_err(Failure::from)
        })
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(self.request_timeout)))?
        .into_inner();
        if let Some(header) = answer.header() {
            self.known
                .fetch_max(unsigned(header.revision), Ordering::AcqRel);
        }
        Ok(answer)
    }

    fn grpc(&self, at: usize) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::new(self.members[at % self.members.len()].channel.clone())
            .max_decoding_message_size(self.message_bytes_max)
    }

    /// What etcd knows the user by; asked for when there is none yet.
    async fn token(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        if let Some(token) = self.token.lock().clone() {
            return Ok(Some(token));
        }
        let mut last = None;
        for _ in 0..self.members.len() {
            let at = self.current.load(Ordering::Acquire);
            let request = AuthenticateRequest {
                name: user.name.clone(),
                password: user.password.clone(),
            };
            match self.once(at, AUTHENTICATE, request, None).await {
                Ok(AuthenticateResponse { token, .. }) => {
                    let token = MetadataValue::try_from(token).map_err(|_| Failure {
                        reason: "the token that etcd gave is not text".into(),
                        kind: Kind::Refused,
                    })?;
                    *self.token.lock() = Some(token.clone());
                    return Ok(Some(token));
                }
                Err(failure) => {
                    let mut failure = self.named(at, failure);
                    // The write behind it was not even sent.
                    if failure.kind == Kind::Unknown {
                        failure.kind = Kind::NotDone;
                    }
                    if failure.kind != Kind::NotDone {
                        return Err(failure);
                    }
                    self.next_after(at);
                    last = Some(failure);
                }
            }
        }
        Err(last.unwrap_or(Failure {
            reason: "there is no member to log in at".into(),
            kind: Kind::NotDone,
        }))
    }

    fn forget(&self, used: Option<MetadataValue<Ascii>>) {
        let mut token = self.token.lock();
        if *token == used {
            *token = None;
        }
    }

    fn next_after(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        // Another request may have moved on already.
        let _ = self
            .current
            .compare_exchange(at, next, Ordering::AcqRel, Ordering::Acquire);
    }

    fn named(&self, at: usize, mut failure: Failure) -> Failure {
        failure.reason = format!("etcd at {}: {}", self.members[at].name, failure.reason);
        failure
    }
}

fn channel(name: &str, options: &Options) -> Result<Channel, tonic::transport::Error> {
    let scheme = if options.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{name}"))?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    if let Some(tls) = &options.tls {
        let mut config =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authority));
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name);
        }
        endpoint = endpoint.tls_config(config)?;
    }
    Ok(endpoint.connect_lazy())
}

fn not_ready(why: tonic::transport::Error) -> Failure {
    Failure {
        reason: chain(&why),
        kind: Kind::NotDone,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn with_token<T>(mut request: Request<T>, token: Option<&MetadataValue<Ascii>>) -> Request<T> {
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

/// etcd's revisions are signed and never negative.
pub(super) fn unsigned(revision: i64) -> Revision {
    u64::try_from(revision).unwrap_or(0)
}

pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
