//! From what went wrong inside to what a caller is told: the only such table. ErrorInfo carries the stable reason,
//! RetryInfo says when sending again helps, and a redirect names shard, leader and map epoch.

use std::collections::HashMap;
use std::time::Duration;

use reckoner_client::error::{
    META_LEADER_ADDRESS, META_LEADER_NODE, META_MAP_EPOCH, META_SHARD, NOT_LEADER, WRONG_SHARD,
};
use reckoner_client::proto::{self, ERROR_DOMAIN, Failure, Redirect};
use reckoner_raft::error::Error;
use reckoner_shard::base::refusal::{Reason, Refusal};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::data::admission::Full;

/// When to come back after nobody could lead: a part of an election, or a hand-over.
pub const UNAVAILABLE_RETRY: Duration = Duration::from_millis(100);

/// The only words for a node that goes down.
pub const STOPPING: &str = "STOPPING";

/// Everything that a door can meet.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The domain says no.
    Refused(Refusal),
    /// Another node should have been asked.
    Elsewhere { reason: &'static str, message: String, redirect: Redirect },
    /// Nothing happened; it may go better later.
    Unavailable { reason: &'static str, message: String, retry_after: Duration },
    /// It may or may not have happened; repeating is safe.
    Unknown { message: String },
    /// This node cannot serve it any more.
    Broken { message: String },
    /// The caller's message makes no sense.
    Invalid { message: String },
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Trouble::Refused(refusal)
    }
}

impl From<Full> for Trouble {
    fn from(full: Full) -> Self {
        Trouble::Unavailable {
            reason: "RESOURCE_EXHAUSTED",
            message: format!("{}; send again after {:?}", full.message(), full.retry_after),
            retry_after: full.retry_after,
        }
    }
}

impl Trouble {
    /// A request that cannot be read: what, why, what next.
    pub fn invalid(message: impl Into<String>) -> Trouble {
        Trouble::Invalid { message: message.into() }
    }

    /// Nobody can do it now.
    pub fn unavailable(message: impl Into<String>) -> Trouble {
        Trouble::Unavailable { reason: "UNAVAILABLE", message: message.into(), retry_after: UNAVAILABLE_RETRY }
    }

    /// What a group answered instead of doing it.
    pub fn of_group(error: Error, shard: u32, map_epoch: u64) -> Trouble {
        match error {
            Error::NotLeader { leader } => {
                let message = error_words(&Error::NotLeader { leader: leader.clone() });
                Trouble::not_leader(message, shard, leader.map(|(node, address)| (node.0, address)), map_epoch)
            }
            Error::Unavailable { .. } => Trouble::unavailable(error_words(&error)),
            Error::Unknown { .. } => Trouble::Unknown { message: error_words(&error) },
            Error::TooLarge { bytes, bytes_max } => Trouble::Refused(Refusal::new(
                Reason::BatchTooLarge,
                format!("{bytes} bytes in one entry, at most {bytes_max} are taken; split it"),
            )),
            Error::Stopped { .. } | Error::Storage { .. } | Error::StateLost { .. } | Error::Membership { .. } => {
                Trouble::Broken { message: error_words(&error) }
            }
        }
    }

    /// Somebody else leads, or nobody yet.
    pub fn not_leader(message: String, shard: u32, leader: Option<(u64, String)>, map_epoch: u64) -> Trouble {
        let (leader_node, leader_address) = leader.unwrap_or_default();
        let redirect = Redirect { shard, leader_node, leader_address, map_epoch };
        Trouble::Elsewhere { reason: NOT_LEADER, message, redirect }
    }

    /// The slots belong to another shard, or this node does not host the shard.
    pub fn wrong_shard(message: String, redirect: Redirect) -> Trouble {
        Trouble::Elsewhere { reason: WRONG_SHARD, message, redirect }
    }

    /// As the end of a call.
    pub fn status(self) -> Status {
        let told = Told::of(self);
        let metadata = told.redirect.as_ref().map(metadata).unwrap_or_default();
        let mut details = ErrorDetails::with_error_info(told.reason, ERROR_DOMAIN, metadata);
        if let Some(after) = told.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(told.code, told.message, details)
    }

    /// As an answer inside a stream, which goes on.
    pub fn failure(self) -> Failure {
        let told = Told::of(self);
        Failure {
            retryable: told.retry_after.is_some() || told.redirect.is_some(),
            retry_after_ms: told.retry_after.map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX)),
            reason: told.reason,
            message: told.message,
            redirect: told.redirect,
        }
    }
}

impl From<Trouble> for Status {
    fn from(trouble: Trouble) -> Status {
        trouble.status()
    }
}

/// A refusal as a message of its own.
pub fn refusal_out(refusal: &Refusal) -> proto::Refusal {
    proto::Refusal { reason: refusal.reason.code(), detail: refusal.detail.clone() }
}

/// What a caller is told.
struct Told {
    code: Code,
    reason: String,
    message: String,
    retry_after: Option<Duration>,
    redirect: Option<Redirect>,
}

impl Told {
    fn of(trouble: Trouble) -> Told {
        match trouble {
            Trouble::Refused(refusal) => Told {
                code: code_of(refusal.reason),
                reason: refusal.reason.code(),
                message: refusal.detail,
                retry_after: refusal.reason.heals().then_some(UNAVAILABLE_RETRY),
                redirect: None,
            },
            Trouble::Elsewhere { reason, message, redirect } => Told {
                code: Code::Unavailable,
                reason: reason.to_owned(),
                message,
                // Without an address there is only waiting.
                retry_after: redirect.leader_address.is_empty().then_some(UNAVAILABLE_RETRY),
                redirect: Some(redirect),
            },
            Trouble::Unavailable { reason, message, retry_after } => Told {
                code: if reason == "RESOURCE_EXHAUSTED" { Code::ResourceExhausted } else { Code::Unavailable },
                reason: reason.to_owned(),
                message,
                retry_after: Some(retry_after),
                redirect: None,
            },
            Trouble::Unknown { message } => Told {
                code: Code::Unavailable,
                reason: "OUTCOME_UNKNOWN".to_owned(),
                message,
                retry_after: Some(UNAVAILABLE_RETRY),
                redirect: None,
            },
            Trouble::Broken { message } => Told {
                code: Code::Unavailable,
                reason: "REPLICA_STOPPED".to_owned(),
                message,
                retry_after: Some(UNAVAILABLE_RETRY),
                redirect: None,
            },
            Trouble::Invalid { message } => Told {
                code: Code::InvalidArgument,
                reason: "INVALID_REQUEST".to_owned(),
                message,
                retry_after: None,
                redirect: None,
            },
        }
    }
}

fn error_words(error: &Error) -> String {
    error.to_string()
}

fn metadata(redirect: &Redirect) -> HashMap<String, String> {
    let mut metadata = HashMap::from([
        (META_SHARD.to_owned(), redirect.shard.to_string()),
        (META_MAP_EPOCH.to_owned(), redirect.map_epoch.to_string()),
    ]);
    if !redirect.leader_address.is_empty() {
        metadata.insert(META_LEADER_NODE.to_owned(), redirect.leader_node.to_string());
        metadata.insert(META_LEADER_ADDRESS.to_owned(), redirect.leader_address.clone());
    }
    metadata
}

/// The gRPC code that comes nearest; callers go by the reason.
fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::UnknownAccount | Reason::UnknownRoot | Reason::UnknownCatalogue | Reason::NotFound => Code::NotFound,
        Reason::UnknownMeter
        | Reason::UnknownAttribute
        | Reason::InvalidValue
        | Reason::QuantityTooFine
        | Reason::QuantityTooLarge
        | Reason::NegativeQuantity
        | Reason::Malformed
        | Reason::BatchTooLarge
        | Reason::InvalidDocument => Code::InvalidArgument,
        Reason::IdReused | Reason::VersionConflict => Code::AlreadyExists,
        Reason::SeriesLimit | Reason::LimitReached | Reason::ResourceExhausted => Code::ResourceExhausted,
        Reason::OutOfOrder | Reason::StaleSeries => Code::Aborted,
        Reason::Moving | Reason::SlotMoving | Reason::WrongShard => Code::Unavailable,
        Reason::TooEarly
        | Reason::TooFarAhead
        | Reason::IdTooOld
        | Reason::StaleEpoch
        | Reason::ProducerKind
        | Reason::ProducerMismatch
        | Reason::CycleRunning
        | Reason::CycleClosed
        | Reason::CycleNotOpen
        | Reason::EffectiveTooEarly
        | Reason::CloseOldestFirst
        | Reason::InUse => Code::FailedPrecondition,
    }
}

#[cfg(test)]
mod tests {
    use reckoner_client::error::Error as Seen;
    use reckoner_raft::types::NodeId;

    use super::*;
    use crate::data::admission::Scarce;

    fn seen(trouble: Trouble) -> (Seen, Seen) {
        (Seen::from_status(&trouble.clone().status()), Seen::from_failure(trouble.failure()))
    }

    #[test]
    fn a_client_reads_what_was_meant() {
        let check = |trouble: Trouble, retryable: bool, unknown: bool| {
            let (status, failure) = seen(trouble);
            assert_eq!((status.retryable(), status.outcome_unknown()), (retryable, unknown), "{status:?}");
            assert_eq!(failure.retryable(), retryable, "{failure:?}");
        };
        check(Refusal::new(Reason::CycleRunning, "it runs").into(), false, false);
        check(Refusal::new(Reason::StaleSeries, "define again").into(), true, false);
        check(Full { scarce: Scarce::Room, retry_after: Duration::from_millis(5) }.into(), true, false);
        check(Trouble::of_group(Error::Unknown { reason: "late".into() }, 1, 1), true, true);
        check(Trouble::of_group(Error::TooLarge { bytes: 9, bytes_max: 8 }, 1, 1), false, false);
        check(Trouble::invalid("what"), false, false);
    }

    #[test]
    fn a_redirect_arrives_whole() {
        let leader = Some((NodeId(2), "10.0.0.2:7400".to_owned()));
        let trouble = Trouble::of_group(Error::NotLeader { leader }, 3, 7);
        let (status, failure) = seen(trouble);
        for seen in [status, failure] {
            let Seen::Unavailable { redirect: Some(redirect), .. } = seen else { panic!("{seen:?}") };
            assert_eq!((redirect.shard, redirect.leader_node, redirect.map_epoch), (3, 2, 7));
            assert_eq!(redirect.leader_address, "10.0.0.2:7400");
        }
    }
}
