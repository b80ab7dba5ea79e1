//! Exact amounts: money, quantities and rates as scaled integers, read from and printed as decimal strings.
//! `Decimal` only parses here; all arithmetic is checked and in integers (see [`super::wide`] for products and rounding).

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::wide::{Rounding, multiply_divide, power_of_ten};

/// Decimals of [`Money`] and [`Quantity`].
pub const SCALE: u32 = 12;
/// Decimals of [`Rate`].
pub const RATE_SCALE: u32 = 18;

/// Why a string is not an exact number of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNumber {
    #[error("'{value}' is not a decimal number; write it like 12.5, without exponent or separators")]
    Form { value: String },
    #[error("{value} has {decimals} decimals, at most {scale} are kept; round it")]
    TooFine { value: String, decimals: u32, scale: u32 },
    #[error("{value} is too large; at most 28 digits are kept")]
    TooLarge { value: String },
}

/// Reads a plain decimal string as an integer at `scale`, exactly: no exponent, no rounding, at most 28 digits.
pub fn parse_scaled(value: &str, scale: u32) -> Result<i128, BadNumber> {
    let form = || BadNumber::Form { value: value.chars().take(64).collect() };
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || digits.ends_with('.') {
        return Err(form());
    }
    // Zeros at the end carry no value: 2.000000000000000 is fine at any scale.
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > scale as usize {
        return Err(BadNumber::TooFine { value: value.to_owned(), decimals: fraction.len() as u32, scale });
    }
    let too_large = || BadNumber::TooLarge { value: value.chars().take(64).collect() };
    let kept = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    let number = Decimal::from_str_exact(&kept).map_err(|_| too_large())?;
    let scaled = number.mantissa().checked_mul(power_of_ten(scale - number.scale())).ok_or_else(too_large)?;
    Ok(if value.starts_with('-') { -scaled } else { scaled })
}

/// Prints an integer at `scale` as the shortest exact decimal string: `-0.05`, `12`, `6720`.
pub fn print_scaled(value: i128, scale: u32) -> String {
    let (unit, size) = (power_of_ten(scale).unsigned_abs(), value.unsigned_abs());
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (size / unit, size % unit);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{fraction:0width$}", width = scale as usize);
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

macro_rules! scaled {
    ($(#[$doc:meta])* $name:ident, $scale:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i128);

        impl $name {
            pub const ZERO: $name = $name(0);
            /// One whole unit.
            pub const ONE: $name = $name(power_of_ten($scale));

            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            pub fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&print_scaled(self.0, $scale))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadNumber;
            fn from_str(value: &str) -> Result<Self, BadNumber> {
                parse_scaled(value, $scale).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        /// Only from a string: a bare YAML or JSON number would pass through binary floating point.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = String::deserialize(deserializer)?;
                value.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

scaled!(
    /// An amount of one currency, in steps of 10^-12 of its unit.
    Money,
    SCALE
);
scaled!(
    /// A quantity in the unit that is priced, in steps of 10^-12.
    Quantity,
    SCALE
);
scaled!(
    /// A price per unit, or a share (0.12 is 12 percent), in steps of 10^-18.
    Rate,
    RATE_SCALE
);

impl Money {
    /// `quantity * rate`, exact in 256 bits and rounded half up once to 12 decimals. `None` on overflow, which limits
    /// at push and apply keep out of every fold.
    pub fn of(quantity: Quantity, rate: Rate) -> Option<Money> {
        multiply_divide(quantity.0, rate.0, power_of_ten(RATE_SCALE), Rounding::HalfUp).map(Money)
    }

    /// `self * share`, rounded half up once to 12 decimals.
    pub fn share(self, share: Rate) -> Option<Money> {
        multiply_divide(self.0, share.0, power_of_ten(RATE_SCALE), Rounding::HalfUp).map(Money)
    }

    /// Rounded to `decimals` (0 to 12, or below zero for tens and hundreds: -12 at the least).
    pub fn round(self, decimals: i32, mode: Rounding) -> Option<Money> {
        let step = power_of_ten(SCALE.checked_add_signed(-decimals)?);
        multiply_divide(self.0, 1, step, mode)?.checked_mul(step).map(Money)
    }
}

impl std::ops::Neg for Money {
    type Output = Money;
    fn neg(self) -> Money {
        Money(-self.0)
    }
}

/// Sums amounts; `None` on overflow.
pub fn checked_sum(amounts: impl IntoIterator<Item = Money>) -> Option<Money> {
    amounts.into_iter().try_fold(Money::ZERO, Money::checked_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_refused() {
        fn check(value: &str, expected: Result<&str, ()>) {
            let read = value.parse::<Money>().map(|money| money.to_string());
            assert_eq!(read.as_deref().map_err(|_| ()), expected, "{value}");
        }
        check("12.50", Ok("12.5"));
        check("-0.000000000001", Ok("-0.000000000001"));
        check("2.000000000000000", Ok("2"));
        check("0.1234567890123", Err(()));
        check("-0", Ok("0"));
        for bad in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "1_000",
            "+1",
            "1,5",
            "NaN",
            " 1",
            "0x1",
            "99999999999999999999999999999999",
        ] {
            check(bad, Err(()));
        }
    }

    #[test]
    fn products_round_once_half_up() {
        fn check(quantity: &str, rate: &str, expected: &str) {
            let amount = Money::of(quantity.parse().unwrap(), rate.parse().unwrap()).unwrap();
            assert_eq!(amount.to_string(), expected);
        }
        check("10240", "0.17", "1740.8");
        check("0.000000000001", "0.5", "0.000000000001");
        check("0.000000000001", "0.4", "0");
        check("-0.000000000001", "0.5", "-0.000000000001");
    }

    #[test]
    fn amounts_round_to_the_minor_unit() {
        fn check(amount: &str, decimals: i32, expected: &str) {
            let money: Money = amount.parse().unwrap();
            assert_eq!(money.round(decimals, Rounding::HalfUp).unwrap().to_string(), expected);
        }
        check("2671.78957", 2, "2671.79");
        check("0.005", 2, "0.01");
        check("-0.005", 2, "-0.01");
        check("149", -2, "100");
        check("150", -2, "200");
        check("12.345", 12, "12.345");
    }
}
