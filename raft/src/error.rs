//! What can go wrong when asking a group, and what the asker may do then.
//!
//! A machine's own refusals are outcomes, not errors: they travel inside [`crate::group::Applied`].

use crate::types::NodeId;

/// A group could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another node leads. Nothing was appended: asking the leader is safe.
    #[error("this node does not lead the group; {}", leader_words(.leader))]
    NotLeader {
        /// The leader and its address, where known.
        leader: Option<(NodeId, String)>,
    },
    /// No majority can be reached now, or the group is just starting. Nothing was appended: ask again later.
    #[error("the group is unavailable: {reason}; try again")]
    Unavailable {
        /// What was missing.
        reason: String,
    },
    /// The proposal may or may not have happened, or still happen. Only a repeat that the machine recognises is safe.
    #[error("the outcome is unknown: {reason}; repeat under the same number")]
    Unknown {
        /// Why the outcome is not known.
        reason: String,
    },
    /// The group was stopped on this node, or its machine halted.
    #[error("the group is stopped on this node: {reason}")]
    Stopped {
        /// Who stopped it, or why it halted.
        reason: String,
    },
    /// This node's disk failed or holds bytes that fail their checksum.
    #[error("storage failed: {reason}")]
    Storage {
        /// What failed, with the file where known.
        reason: String,
    },
    /// The log is sound, and no snapshot is left that it goes on from: the replica's state has to come from a peer, see
    /// [`crate::host::Host::fetch_state`].
    #[error("the state is lost: {reason}")]
    StateLost {
        /// What is left.
        reason: String,
    },
    /// The proposal exceeds the limit. Nothing was appended.
    #[error("an entry of {bytes} bytes exceeds the limit of {bytes_max}; split it")]
    TooLarge {
        /// Size asked for.
        bytes: usize,
        /// Largest entry taken.
        bytes_max: usize,
    },
    /// A change of membership that cannot be made, such as an unknown node or a change under way.
    #[error("membership not changed: {reason}")]
    Membership {
        /// What stands against it.
        reason: String,
    },
}

impl Error {
    /// Whether the same request may simply be sent again, to the leader named or after a while, without any harm.
    /// `Unknown` is not: that one needs a machine that recognises repeats.
    pub fn retryable(&self) -> bool {
        match self {
            Error::NotLeader { .. } | Error::Unavailable { .. } => true,
            Error::Unknown { .. }
            | Error::Stopped { .. }
            | Error::Storage { .. }
            | Error::StateLost { .. }
            | Error::TooLarge { .. }
            | Error::Membership { .. } => false,
        }
    }

    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Error::Unavailable { reason: reason.into() }
    }

    pub(crate) fn storage(reason: impl ToString) -> Self {
        Error::Storage { reason: reason.to_string() }
    }

    pub(crate) fn stopped(reason: impl Into<String>) -> Self {
        Error::Stopped { reason: reason.into() }
    }
}

fn leader_words(leader: &Option<(NodeId, String)>) -> String {
    match leader {
        Some((node, address)) => format!("ask node {node} at {address}"),
        None => "no leader is known yet, try again".to_owned(),
    }
}
