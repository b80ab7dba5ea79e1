//! A percentage that grows with what the period brought: what each band takes off (BILLING.md section 2.6).

use super::document_clause::Measure;
use super::document_scope::Per;
use super::steps::Steps;
use super::year::Yearly;
use crate::base::money::{Money, Quantity, Rate};
use crate::base::wide::split;

/// Bands of percentages over a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub measure: Measure,
    /// Over amounts or quantities; rates are shares of one.
    pub bands: Steps,
    pub per: Per,
    /// Where the bands go on over a contract year.
    pub yearly: Option<Yearly>,
}

/// What one band takes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Banded {
    /// Index of the band.
    pub band: usize,
    pub share: Rate,
    /// The part of the scope's net that lies in the band.
    pub base: Money,
    /// At most the base.
    pub off: Money,
}

impl Volume {
    /// The bands that a net amount lies in, and what each takes off; they begin at `before`, an amount or a quantity as
    /// they measure. `None` on overflow, which the limits at apply exclude.
    pub fn off(&self, before: i128, net: Money, quantity: Quantity) -> Option<Vec<Banded>> {
        if net <= Money::ZERO {
            return Some(Vec::new());
        }
        let parts = match self.measure {
            Measure::Spend => self.bands.cut_from(before, net.0)?,
            Measure::Quantity => {
                let parts = self.bands.cut_from(before, quantity.0)?;
                let weights: Vec<i128> = parts.iter().map(|(_, units)| *units).collect();
                let amounts = split(net.0, &weights).unwrap_or_default();
                parts.iter().map(|(band, _)| *band).zip(amounts).collect()
            }
        };
        let mut banded = Vec::with_capacity(parts.len());
        for (band, base) in parts {
            let (share, base) = (self.bands.steps[band].rate, Money(base));
            banded.push(Banded { band, share, base, off: base.share(share)? });
        }
        Some(banded)
    }
}

#[cfg(test)]
mod tests {
    use super::super::document_scope::Climb;
    use super::super::steps::Step;
    use super::*;
    use crate::base::money::parse_scaled;
    use crate::pricing::document::Bound;

    fn volume(measure: Measure, climb: Climb) -> Volume {
        let units = |text: &str| text.parse::<Money>().unwrap().0;
        let share = |text: &str| Rate(parse_scaled(text, 16).unwrap());
        let steps = vec![
            Step { begin: 0, end: Some(units("50000")), rate: share("0") },
            Step { begin: units("50000"), end: Some(units("100000")), rate: share("2") },
            Step { begin: units("100000"), end: None, rate: share("3") },
        ];
        Volume { measure, bands: Steps { climb, bound: Bound::Lower, steps }, per: Per::Payer, yearly: None }
    }

    #[test]
    fn retroactive_and_graduated() {
        fn check(volume: &Volume, net: &str, quantity: &str, expected: &[&str]) {
            check_from(volume, "0", net, quantity, expected);
        }
        fn check_from(volume: &Volume, before: &str, net: &str, quantity: &str, expected: &[&str]) {
            let before = before.parse::<Money>().unwrap().0;
            let banded = volume.off(before, net.parse().unwrap(), quantity.parse().unwrap()).unwrap();
            let found: Vec<String> = banded.iter().map(|banded| banded.off.to_string()).collect();
            assert_eq!(found, expected, "{net} {quantity}");
        }
        // BILLING.md 2.6: 3% of 120,000; or 2% of 50,000 and 3% of 20,000.
        check(&volume(Measure::Spend, Climb::Volume), "120000", "0", &["3600"]);
        check(&volume(Measure::Spend, Climb::Graduated), "120000", "0", &["0", "1000", "600"]);
        check(&volume(Measure::Spend, Climb::Volume), "49999.99", "0", &["0"]);
        check(&volume(Measure::Spend, Climb::Volume), "50000", "0", &["1000"]);
        // 120,000 units for 1,200: 500 in the band of 2%, 200 in that of 3%.
        check(&volume(Measure::Quantity, Climb::Graduated), "1200", "120000", &["0", "10", "6"]);
        check(&volume(Measure::Quantity, Climb::Volume), "1200", "100000", &["36"]);
        check(&volume(Measure::Spend, Climb::Volume), "-5", "0", &[]);
        // 90,000 came before: 10,000 are left of the band of 2%; the reached band's 3% is of this cycle's 20,000 alone.
        check_from(&volume(Measure::Spend, Climb::Graduated), "90000", "20000", "0", &["200", "300"]);
        check_from(&volume(Measure::Spend, Climb::Volume), "90000", "20000", "0", &["600"]);
        // 20,000 units for 1,200: half of them in the band of 2%.
        check_from(&volume(Measure::Quantity, Climb::Graduated), "90000", "1200", "20000", &["12", "18"]);
    }
}
