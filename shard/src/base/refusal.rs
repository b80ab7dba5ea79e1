//! Refusals: every reason why the domain turns a command or a record down, with a stable code and a sentence that says
//! what, why and what next. A refusal is data: replicated, stored, compared; it is not an error of the world.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Stable reasons; the name on the wire is the variant in UPPER_SNAKE. New ones are appended, numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum Reason {
    // A record.
    UnknownAccount = 1,
    UnknownMeter = 2,
    UnknownAttribute = 3,
    InvalidValue = 4,
    QuantityTooFine = 5,
    QuantityTooLarge = 6,
    NegativeQuantity = 7,
    TooEarly = 8,
    TooFarAhead = 9,
    IdReused = 10,
    IdTooOld = 11,
    SeriesLimit = 12,
    // A segment: what a retry can heal.
    OutOfOrder = 20,
    StaleSeries = 21,
    Moving = 22,
    SlotMoving = 23,
    WrongShard = 24,
    ResourceExhausted = 25,
    // A segment: what a retry cannot heal.
    StaleEpoch = 30,
    ProducerKind = 31,
    ProducerMismatch = 32,
    Malformed = 33,
    BatchTooLarge = 34,
    // A command.
    CycleRunning = 40,
    CycleClosed = 41,
    CycleNotOpen = 42,
    UnknownRoot = 43,
    UnknownCatalogue = 44,
    EffectiveTooEarly = 45,
    VersionConflict = 46,
    InvalidDocument = 47,
    NotFound = 48,
    LimitReached = 49,
    CloseOldestFirst = 50,
    // The cluster.
    InUse = 51,
}

impl Reason {
    const ALL: [Reason; 35] = [
        Reason::UnknownAccount,
        Reason::UnknownMeter,
        Reason::UnknownAttribute,
        Reason::InvalidValue,
        Reason::QuantityTooFine,
        Reason::QuantityTooLarge,
        Reason::NegativeQuantity,
        Reason::TooEarly,
        Reason::TooFarAhead,
        Reason::IdReused,
        Reason::IdTooOld,
        Reason::SeriesLimit,
        Reason::OutOfOrder,
        Reason::StaleSeries,
        Reason::Moving,
        Reason::SlotMoving,
        Reason::WrongShard,
        Reason::ResourceExhausted,
        Reason::StaleEpoch,
        Reason::ProducerKind,
        Reason::ProducerMismatch,
        Reason::Malformed,
        Reason::BatchTooLarge,
        Reason::CycleRunning,
        Reason::CycleClosed,
        Reason::CycleNotOpen,
        Reason::UnknownRoot,
        Reason::UnknownCatalogue,
        Reason::EffectiveTooEarly,
        Reason::VersionConflict,
        Reason::InvalidDocument,
        Reason::NotFound,
        Reason::LimitReached,
        Reason::CloseOldestFirst,
        Reason::InUse,
    ];

    /// The stable number, for durable bytes.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The inverse of [`Reason::number`].
    pub fn from_number(number: u8) -> Option<Reason> {
        Self::ALL.into_iter().find(|reason| reason.number() == number)
    }

    /// The stable code on every wire: `UNKNOWN_METER`.
    pub fn code(self) -> String {
        let name = format!("{self:?}");
        let mut code = String::with_capacity(name.len() + 4);
        for (at, letter) in name.char_indices() {
            if at > 0 && letter.is_ascii_uppercase() {
                code.push('_');
            }
            code.push(letter.to_ascii_uppercase());
        }
        code
    }

    /// Whether sending the same thing again can succeed; such a refusal consumes nothing (ARCHITECTURE.md, "Once").
    pub fn heals(self) -> bool {
        use Reason::*;
        match self {
            OutOfOrder | StaleSeries | Moving | SlotMoving | WrongShard | ResourceExhausted => true,
            UnknownAccount | UnknownMeter | UnknownAttribute | InvalidValue | QuantityTooFine | QuantityTooLarge
            | NegativeQuantity | TooEarly | TooFarAhead | IdReused | IdTooOld | SeriesLimit | StaleEpoch
            | ProducerKind | ProducerMismatch | Malformed | BatchTooLarge | CycleRunning | CycleClosed
            | CycleNotOpen | UnknownRoot | UnknownCatalogue | EffectiveTooEarly | VersionConflict | InvalidDocument
            | NotFound | LimitReached | CloseOldestFirst | InUse => false,
        }
    }
}

/// A reason with its sentence: what, why with values, what next; lower case, no full stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub reason: Reason,
    pub detail: String,
}

impl Refusal {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal { reason, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.detail)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_stable_and_distinct() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
        assert_eq!(Reason::UnknownMeter.code(), "UNKNOWN_METER");
        assert_eq!(Reason::IdTooOld.code(), "ID_TOO_OLD");
        assert_eq!(Reason::from_number(0), None);
    }
}
