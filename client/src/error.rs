//! What can go wrong for a caller, in three kinds, and whether sending again is safe. How long to wait is `retry`'s
//! matter; how a server writes these into a gRPC status is the node's.

use std::time::Duration;

use reckoner_shard::base::refusal::{Reason, Refusal};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::proto;

/// ErrorInfo reason: this node does not lead the shard.
pub const NOT_LEADER: &str = "NOT_LEADER";
/// ErrorInfo reason: the slot belongs to another shard.
pub const WRONG_SHARD: &str = "WRONG_SHARD";
/// ErrorInfo metadata key of a redirect: the shard that owns the slot.
pub const META_SHARD: &str = "shard";
/// ErrorInfo metadata key of a redirect: id of the leading node.
pub const META_LEADER_NODE: &str = "leader_node";
/// ErrorInfo metadata key of a redirect: address of the leading node.
pub const META_LEADER_ADDRESS: &str = "leader_address";
/// ErrorInfo metadata key of a redirect: epoch of the shard map.
pub const META_MAP_EPOCH: &str = "map_epoch";

/// Why a call did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The domain says no; the same call will be refused again.
    #[error("{code}: {detail}")]
    Refused {
        /// Stable code, such as CYCLE_RUNNING; may be one that this version does not know.
        code: String,
        /// What, why with values, what next.
        detail: String,
    },
    /// Nobody could do it now; the same call may succeed later.
    #[error("{message}")]
    Unavailable {
        /// What was tried and what came back.
        message: String,
        /// Whether the call may have taken effect although no answer came.
        unknown: bool,
        /// The server's wish, when it stated one.
        retry_after: Option<Duration>,
        /// Who should have been asked, when the server knew.
        redirect: Option<proto::Redirect>,
    },
    /// The call, a file or an answer makes no sense; nobody was asked or nothing was understood.
    #[error("{message}")]
    Invalid {
        /// What, why with values, what next.
        message: String,
    },
}

impl Error {
    /// A call or an answer that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid { message: message.into() }
    }

    /// Nobody answered; nothing has taken effect.
    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::Unavailable { message: message.into(), unknown: false, retry_after: None, redirect: None }
    }

    /// Whether sending the same thing again can succeed. Usage under the same numbers or ids is never counted twice, and
    /// every other call of this contract is safe to repeat, so this is also whether sending again is safe.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Unavailable { .. } => true,
            Error::Refused { .. } | Error::Invalid { .. } => false,
        }
    }

    /// Whether the call may have taken effect although it failed.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Error::Unavailable { unknown, .. } => *unknown,
            Error::Refused { .. } | Error::Invalid { .. } => false,
        }
    }

    /// The reason of a refusal, where this version knows it.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Error::Refused { code, .. } => reason_of(code),
            Error::Unavailable { .. } | Error::Invalid { .. } => None,
        }
    }

    /// Reads a gRPC status: by its ErrorInfo where there is one, else by its code.
    pub fn from_status(status: &Status) -> Error {
        let details = status.get_error_details();
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        if let Some(info) = details.error_info().filter(|info| info.domain == proto::ERROR_DOMAIN) {
            let redirect = redirect_of(&info.reason, &info.metadata);
            let heals = reason_of(&info.reason).is_some_and(Reason::heals);
            if redirect.is_none() && !heals && !transient(status.code()) {
                return Error::Refused { code: info.reason.clone(), detail: status.message().to_owned() };
            }
            // A server that names a reason has decided: only its own UNAVAILABLE leaves the outcome open.
            let unknown = redirect.is_none() && !heals;
            return Error::Unavailable { message: status.message().to_owned(), unknown, retry_after, redirect };
        }
        if transient(status.code()) {
            let message = format!("{}: {}", code_word(status.code()), cause(status));
            let unknown = status.code() != Code::ResourceExhausted;
            return Error::Unavailable { message, unknown, retry_after, redirect: None };
        }
        Error::Invalid { message: format!("{}: {}", code_word(status.code()), cause(status)) }
    }

    /// Reads a failure inside a stream.
    pub fn from_failure(failure: proto::Failure) -> Error {
        if !failure.retryable {
            return Error::Refused { code: failure.reason, detail: failure.message };
        }
        let retry_after = (failure.retry_after_ms > 0).then(|| Duration::from_millis(failure.retry_after_ms.into()));
        let decided = failure.redirect.is_some() || reason_of(&failure.reason).is_some_and(Reason::heals);
        let message = format!("{}: {}", failure.reason, failure.message);
        Error::Unavailable { message, unknown: !decided, retry_after, redirect: failure.redirect }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused { code: refusal.reason.code(), detail: refusal.detail }
    }
}

/// The reason behind a stable code, where this version knows it.
pub fn reason_of(code: &str) -> Option<Reason> {
    let text: serde::de::value::StrDeserializer<'_, ValueError> = code.into_deserializer();
    Reason::deserialize(text).ok()
}

fn redirect_of(reason: &str, meta: &std::collections::HashMap<String, String>) -> Option<proto::Redirect> {
    if reason != NOT_LEADER && reason != WRONG_SHARD {
        return None;
    }
    let number = |key: &str| meta.get(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    Some(proto::Redirect {
        shard: u32::try_from(number(META_SHARD)).unwrap_or(0),
        leader_node: number(META_LEADER_NODE),
        leader_address: meta.get(META_LEADER_ADDRESS).cloned().unwrap_or_default(),
        map_epoch: number(META_MAP_EPOCH),
    })
}

fn transient(code: Code) -> bool {
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted
        | Code::ResourceExhausted
        | Code::Unknown
        | Code::Internal => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

fn code_word(code: Code) -> String {
    let name = format!("{code:?}");
    let mut word = String::with_capacity(name.len() + 2);
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            word.push(' ');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// The innermost cause says more than tonic's "transport error".
fn cause(status: &Status) -> String {
    let mut last = None;
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        last = Some(error.to_string());
        next = error.source();
    }
    match last {
        Some(last) if !status.message().contains(&last) => format!("{} ({last})", status.message()),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, reason: &str, meta: &[(&str, &str)]) -> Status {
        let meta: HashMap<String, String> = meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Status::with_error_details(code, "why", ErrorDetails::with_error_info(reason, proto::ERROR_DOMAIN, meta))
    }

    #[test]
    fn a_status_becomes_one_of_three_kinds() {
        fn check(status: Status, retryable: bool, unknown: bool) {
            let error = Error::from_status(&status);
            assert_eq!((error.retryable(), error.outcome_unknown()), (retryable, unknown), "{error:?}");
        }
        check(status(Code::FailedPrecondition, "CYCLE_RUNNING", &[]), false, false);
        check(status(Code::FailedPrecondition, "A_REASON_OF_TOMORROW", &[]), false, false);
        check(status(Code::Unavailable, "NOT_LEADER", &[("leader_address", "127.0.0.1:1")]), true, false);
        check(status(Code::FailedPrecondition, "WRONG_SHARD", &[("map_epoch", "7")]), true, false);
        check(status(Code::ResourceExhausted, "RESOURCE_EXHAUSTED", &[]), true, false);
        check(status(Code::Unavailable, "STOPPING", &[]), true, true);
        check(Status::unavailable("gone"), true, true);
        check(Status::deadline_exceeded("slow"), true, true);
        check(Status::invalid_argument("what"), false, false);
        check(Status::unimplemented("no"), false, false);
    }

    #[test]
    fn a_redirect_is_read_from_the_details() {
        let meta = [("shard", "3"), ("leader_node", "2"), ("leader_address", "10.0.0.2:7400"), ("map_epoch", "9")];
        let Error::Unavailable { redirect: Some(redirect), .. } =
            Error::from_status(&status(Code::Unavailable, NOT_LEADER, &meta))
        else {
            panic!("no redirect");
        };
        assert_eq!((redirect.shard, redirect.leader_node, redirect.map_epoch), (3, 2, 9));
        assert_eq!(redirect.leader_address, "10.0.0.2:7400");
    }

    #[test]
    fn codes_are_read_back_to_reasons() {
        assert_eq!(reason_of("UNKNOWN_METER"), Some(Reason::UnknownMeter));
        assert_eq!(reason_of("NO_SUCH_THING"), None);
    }
}
