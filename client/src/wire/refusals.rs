//! Refusals and positions on the wire.

use reckoner_shard::base::refusal::Refusal;

use crate::proto;

/// A refusal as the contract carries it.
pub fn refusal(refusal: &Refusal) -> proto::Refusal {
    proto::Refusal { reason: refusal.reason.code(), detail: refusal.detail.clone() }
}

/// A refusal read from the contract; `None` where this version does not know the reason.
pub fn refusal_of(wire: &proto::Refusal) -> Option<Refusal> {
    crate::error::reason_of(&wire.reason).map(|reason| Refusal::new(reason, wire.detail.clone()))
}
