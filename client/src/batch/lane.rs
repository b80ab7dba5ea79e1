//! One stream to the leader of one shard, and what is in flight on it. A lane only carries: what is packed and what a
//! reply means is `driver`'s matter.

use std::collections::{BTreeMap, VecDeque};

use reckoner_shard::base::id::ShardId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::records::Run;
use crate::client::Client;
use crate::error::Error;
use crate::proto;
use crate::retry::Waits;
use crate::stubs::usage;

/// What happens on a stream.
#[derive(Debug)]
pub(super) enum Event {
    Reply(proto::PushReply),
    /// The stream is over; nothing more arrives on it.
    Down(Option<Error>),
}

/// An event with the stream it happened on; events of a stream that was given up are not looked at.
#[derive(Debug)]
pub(super) struct LaneEvent {
    pub shard: ShardId,
    pub stream: u64,
    pub event: Event,
}

/// A run under way, with the series that its segment defined.
#[derive(Debug)]
pub(super) struct Sent {
    pub run: Run,
    pub definitions: Vec<u32>,
    /// The number that the segment named as the one before it.
    pub previous: Option<u64>,
}

/// A batch without a verdict.
#[derive(Debug)]
pub(super) struct InFlight {
    pub sent: Vec<Sent>,
    pub at: Instant,
}

/// The way to one shard.
#[derive(Debug)]
pub(super) struct Lane {
    pub shard: ShardId,
    /// Runs that may go, in order.
    pub ready: VecDeque<Run>,
    /// By tag, which rises.
    pub in_flight: BTreeMap<u64, InFlight>,
    pub waits: Option<Waits>,
    /// The last failure named another leader, which was gone to at once: the next one is not chased.
    pub followed: bool,
    /// No stream is opened before.
    pub not_before: Option<Instant>,
    pub address: String,
    stream: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    id: u64,
    requests: mpsc::Sender<proto::PushRequest>,
    task: JoinHandle<()>,
}

impl Lane {
    pub fn new(shard: ShardId) -> Lane {
        Lane {
            shard,
            ready: VecDeque::new(),
            in_flight: BTreeMap::new(),
            waits: None,
            followed: false,
            not_before: None,
            address: String::new(),
            stream: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether an event comes from the stream that is up now.
    pub fn is_current(&self, stream: u64) -> bool {
        self.stream.as_ref().is_some_and(|current| current.id == stream)
    }

    /// Opens a stream to the leader as last learnt. At most `in_flight_max` requests wait in it.
    pub fn open(
        &mut self,
        client: &Client,
        id: u64,
        in_flight_max: usize,
        events: mpsc::UnboundedSender<LaneEvent>,
    ) -> Result<(), Error> {
        let shard = self.shard;
        self.address = client.routes().leader_of(shard).unwrap_or_else(|| client.routes().any());
        let channel = client.routes().channel(&self.address)?;
        let (requests, receiver) = mpsc::channel(in_flight_max.max(1));
        let mut calls = Request::new(ReceiverStream::new(receiver));
        client.routes().mark(&mut calls);
        let task = tokio::spawn(async move {
            let send = |event| events.send(LaneEvent { shard, stream: id, event }).is_ok();
            let replies = usage(channel).push(calls).await;
            let mut replies = match replies {
                Ok(replies) => replies.into_inner(),
                Err(status) => {
                    send(Event::Down(Some(Error::from_status(&status))));
                    return;
                }
            };
            loop {
                let event = match replies.message().await {
                    Ok(Some(reply)) => Event::Reply(reply),
                    Ok(None) => Event::Down(None),
                    Err(status) => Event::Down(Some(Error::from_status(&status))),
                };
                let over = matches!(event, Event::Down(_));
                if !send(event) || over {
                    return;
                }
            }
        });
        self.stream = Some(Stream { id, requests, task });
        Ok(())
    }

    /// Hands a batch to the stream; false where the stream is over. The in-flight bound keeps the channel from filling.
    pub fn send(&mut self, request: proto::PushRequest) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.requests.try_send(request).is_ok())
    }

    /// Gives the stream up.
    pub fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.task.abort();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}
