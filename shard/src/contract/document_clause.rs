//! The clauses of a contract as people write them, one type a mechanism. Amounts are in the catalogue's currency with at
//! most 12 decimals, 0 to 10^15; percentages are 0 to 100 with at most 16 decimals (`"12"` is 12 percent).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document_scope::{
    BandDocument, Climb, LadderPeriod, Per, PercentBase, PrivateTierDocument, ScopeDocument, TriggerDocument, lower,
};
use crate::base::id::{AccountId, Currency};
use crate::base::time::{CycleId, Timestamp};
use crate::pricing::document::Bound;
use crate::pricing::document_fee::{Prorate, is_whole, whole};

/// A clause's type: what all clauses have, then its own fields.
macro_rules! clause {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            pub id: String,
            /// What the bill's reader sees; default: the id.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub text: Option<String>,
            /// First cycle of the clause; default: the contract's.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub effective: Option<CycleId>,
            /// First cycle without the clause; default: the contract's.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub until: Option<CycleId>,
            $($(#[$field_about])* pub $field: $type,)*
        }
    };
}

clause!(
    /// Rates of the customer's own in place of the public ladder's amounts; stage `private_rates`. Either one `rate`, or
    /// `tiers` over the clause's own pool: the paid units of all lines in scope, in their one unit, of the cycle or of the contract year. A pool's
    /// tiers, lowest first, are divided over the public ladders in it (in the order of their first lines: payer, item, tier) pro rata to the units that
    /// earlier tiers left of them, and meet each ladder's units in its own order. Both ladders are cut at each other's
    /// bounds; what a line has of a cut is divided by largest remainder and pays the private rate where that is lower.
    PrivateRateDocument {
        scope: ScopeDocument,
        /// Per priced unit, 0 to 10^9; one rate for everything, or `tiers`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<String>,
        /// Lowest first, without gaps; the last without `up_to`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tiers: Vec<PrivateTierDocument>,
        /// How the tiers are climbed; only with `tiers`; default `graduated`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<Climb>,
        /// Which tier holds a quantity at a bound; only with `tiers`; default `upper`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bound: Option<Bound>,
        /// Whose units are one pool; only with `tiers`; default `payer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per: Option<Per>,
        /// How long the tiers are climbed; only with `tiers`; default `cycle`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        period: Option<LadderPeriod>,
        /// First cycle of the first contract year, with `period: contract_year`; default: the clause's first. State it where
        /// a later version of the contract goes on with the clause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        starts: Option<CycleId>,
        /// Also where it is dearer than the public slice; default no.
        #[serde(default)]
        may_raise: bool,
        /// Of the clauses of one group only the most granular that matches a line applies to it: one that names a sku
        /// before one that names usage types, operations, regions or attributes (more of them first), then a service,
        /// then groups, accounts or payers. Two equally granular ones that can match the same line are refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exclusive_group: Option<String>,
    }
);

clause!(
    /// A share off what earlier stages left; the stage follows from `kind`.
    PercentDocument {
        kind: PercentKind,
        #[serde(default)]
        scope: ScopeDocument,
        /// 0 to 100: `"12"` takes 12 percent off.
        percent: String,
        /// `left` (default): one after the other; `stage`: this percentage adds to those before it in its stage.
        #[serde(default, skip_serializing_if = "is_default")]
        base: PercentBase,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// What must be used before the percentage counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trigger: Option<Box<TriggerDocument>>,
        /// As on a private rate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exclusive_group: Option<String>,
    }
);

clause!(
    /// Units used of one thing make units of another cheaper; stage `usage_waiver`. `source_units` of the source entitle
    /// to `target_units` of the target, fractions too, rounded half up to 12 decimals; of the cycle; what is not used
    /// lapses. The target's price is what private rates left of a paid slice over its units. Order: the account that used
    /// the source takes first (each account its own entitlement, accounts by id): highest price, earliest bucket, largest
    /// amount in the bucket; what is left goes to other accounts: highest price, account id, earliest bucket, largest
    /// amount; ties by account id, then SKU, then dimensions, then tier. Units that an earlier waiver took are not taken
    /// again.
    WaiverDocument {
        /// Usage that entitles, in its one priced unit: its whole quantity, free units too.
        source: ScopeDocument,
        /// Usage that becomes cheaper, in its one priced unit: paid slices only.
        target: ScopeDocument,
        /// Above zero, at most 10^16; default 1.
        #[serde(default = "one")]
        source_units: String,
        /// Above zero, at most 10^16; default 1.
        #[serde(default = "one")]
        target_units: String,
        /// Off the target's price; default 100.
        #[serde(default = "hundred")]
        percent: String,
        /// How far an entitlement goes beyond its own account; default: the payer's accounts.
        #[serde(default)]
        per: Per,
        /// `cycle` (default), or `hour`: what an hour's source entitles to is used in the same hour or lapses; both meters then
        /// keep hours or five minutes.
        #[serde(default, skip_serializing_if = "is_default")]
        period: WaiverPeriod,
    }
);

clause!(
    /// A percentage that grows with what the period brought; stage `volume`. The discount is computed on the net of the
    /// whole scope, rounded once, and split over its net lines pro rata. One line an item, or with `graduated` one an
    /// item and band: a band takes its part of every item pro rata to the items' nets.
    VolumeDocument {
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// What chooses the band: the scope's net amount (default), or its quantity, in its one priced unit. A graduated
        /// ladder over quantities divides the net amount pro rata to the quantities in the bands.
        #[serde(default)]
        measure: Measure,
        /// `volume` (default): the reached band's percentage on everything; `graduated`: each band's on its part.
        #[serde(default = "volume")]
        model: Climb,
        /// `lower` (default): a band is reached at its bound; `upper`: only above it.
        #[serde(default = "lower")]
        bound: Bound,
        /// Whose lines are measured together; default: each payer's own.
        #[serde(default)]
        per: Per,
        /// How long the bands are climbed.
        #[serde(default, skip_serializing_if = "is_default")]
        period: LadderPeriod,
        /// First cycle of the first contract year, with `period: contract_year`; default: the clause's first. State it where
        /// a later version of the contract goes on with the clause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        starts: Option<CycleId>,
        /// Lowest first, without gaps, from zero; the last without `up_to`.
        bands: Vec<BandDocument>,
    }
);

clause!(
    /// An amount off, split pro rata over the net of the lines in scope and never more than that; after the percentages
    /// of the stage that follows from `kind`.
    FixedDiscountDocument {
        /// Default `cross_service`.
        #[serde(default = "cross_service")]
        kind: PercentKind,
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// Off each cycle; or in all, where it is lasting.
        amount: String,
        /// What one bill does not need is kept for the next, until `until`; default no.
        #[serde(default, skip_serializing_if = "is_default")]
        lasting: bool,
        /// `root` (default): the amount once for all payers together; `payer`: the amount for each payer.
        #[serde(default = "root")]
        per: Per,
    }
);

clause!(
    /// An amount with a balance, used up charge by charge over as many bills as it lasts; stage `credits_before` or
    /// `credits_after`. `until` is the first cycle in which it has expired. Credits of a stage apply in the contract's
    /// `credit_order`. One credit goes to charges in this order: of its owner, then of the account with the highest net of
    /// eligible charges (ties by account id); within an account the service with the highest net first (ties by name);
    /// within a service the largest net charge first (ties in line order).
    CreditDocument {
        /// Default `before`.
        #[serde(default)]
        stage: CreditStage,
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// In all, over all bills. A later contract version may state more: the balance counts what was used.
        amount: String,
        /// The owner: its charges come first, and only charges of its payer's bill are eligible. Default: none; then the
        /// charges of all payers are eligible.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// Whether other accounts than the owner may use it; default yes.
        #[serde(default = "yes", skip_serializing_if = "is_true")]
        sharing: bool,
        /// Lower first; default 0.
        #[serde(default, skip_serializing_if = "is_default")]
        priority: u32,
    }
);

clause!(
    /// A percentage over all services bound to a spend commitment a contract year; stage `cross_service_percent`, and
    /// `shortfall` for what was not spent. A contract year is twelve cycles from `starts`. Retired by a cycle: the net of
    /// the lines in scope, not excluded and not of the marketplace, after stage `cross_service_percent`, credits of stage
    /// `credits_before` added back; plus the marketplace's net after the same stage, of which the year counts at most
    /// `marketplace_share` of its amount. The bill of the year's last cycle, or of the
    /// clause's last if that comes first, has one line of max(0, amount - retired), which then counts as retired. What is
    /// spent beyond the amount does not carry over. A later version of the contract must keep the clause while a year of it
    /// runs, or end it with `until`.
    CommitmentDocument {
        /// Off the net of the lines in scope; default 0.
        #[serde(default = "zero")]
        percent: String,
        /// As of a percentage.
        #[serde(default, skip_serializing_if = "is_default")]
        base: PercentBase,
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope: neither discounted nor counted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// First cycle of the first contract year; default: the clause's first. State it where a later version of the
        /// contract goes on with the clause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        starts: Option<CycleId>,
        /// What is committed in each contract year, in order, 1 to 20 years. After the last year nothing is.
        years: Vec<String>,
        /// Lines that are not discounted and count up to `marketplace_share`; default: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        marketplace: Option<ScopeDocument>,
        /// 0 to 1, of the year's amount; default `"0.25"`.
        #[serde(default = "quarter")]
        marketplace_share: String,
        /// Credits of stage `credits_before` lower what is retired; default no.
        #[serde(default, skip_serializing_if = "is_default")]
        credits_reduce: bool,
        /// Whose bill has the shortfall; default: the payer of the root account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payer: Option<AccountId>,
        /// Of a year that `until` cuts short, only the part of its amount for its cycles is committed; default no: all of it.
        #[serde(default, skip_serializing_if = "is_default")]
        prorate: bool,
        /// What is missing is a bill of its own, made once the cycle that ends the year is closed; default no: a line of
        /// that cycle's bill.
        #[serde(default, skip_serializing_if = "is_default")]
        own_bill: bool,
    }
);

clause!(
    /// An amount paid in advance that settles charges at a discount until it is used up; stage `prepayment`. Charges of c
    /// are settled by c x (1 - percent) of the balance, shared by all payers, pro rata over the net lines in scope: a line
    /// of the discount and a line of what was drawn for each. `until` is the first cycle in which it has expired. What is
    /// paid for it is billed elsewhere, unless it is bought by `purchase`.
    PrepaymentDocument {
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// Paid in advance, in all.
        amount: String,
        /// Below 100; default 0.
        #[serde(default = "zero")]
        percent: String,
        /// What of the amount no bill has charged yet is charged, as a purchase: a bill of its own at once. No discount,
        /// credit or prepayment touches it; taxes do. Default no.
        #[serde(default, skip_serializing_if = "is_default")]
        purchase: bool,
        /// Who buys it; default: the payer of the root account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payer: Option<AccountId>,
        /// Of the charge; default: the clause's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    }
);

clause!(
    /// A percentage of spend, as support plans have it; stage `fees`; one line a payer (or account), on the bill of each
    /// payer that has one. Only usage is in the base, never what other clauses charge.
    PercentFeeDocument {
        /// `net` (default): what earlier stages left of the lines in scope; `list`: their usage at public rates.
        #[serde(default)]
        base: FeeBase,
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// One percentage for everything, or `tiers`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<String>,
        /// Lowest first, without gaps, from zero; the last without `up_to`; a tier holds (begin, end].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tiers: Vec<BandDocument>,
        /// How the tiers are climbed; only with `tiers`; default `graduated`. A graduated fee has one line a tier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<Climb>,
        /// Least fee of a payer (or account) that has lines in scope; the difference is a line of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        minimum: Option<String>,
        /// What of `minimum` holds in a cycle that `from` and `to` do not fill: days, or exact time, of it over the cycle's.
        #[serde(default = "whole", skip_serializing_if = "is_whole")]
        prorate: Prorate,
        /// With `prorate`: the first day, or instant, that counts; default: the clause's first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Timestamp>,
        /// With `prorate`: the day, or instant, that no longer counts; default: the clause's end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Timestamp>,
        /// Whose spend is one base; default: each payer's own.
        #[serde(default)]
        per: FeePer,
        /// Who bears it; default: the payer, or with `per: account` each account. Not with `per: account`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// The service it is shown under; default: the clause's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    }
);

clause!(
    /// A fixed fee, each cycle or once; stage `fees`. Due whether or not there is usage; never prorated.
    FeeDocument {
        /// Each.
        amount: String,
        /// 0 to 10^16; default 1.
        #[serde(default = "one")]
        quantity: String,
        /// Only in the clause's first cycle; default no.
        #[serde(default, skip_serializing_if = "is_default")]
        once: bool,
        /// Who bears it; default: the payer of the root account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// The service it is shown under; default: the clause's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    }
);

clause!(
    /// A line by agreement, up or down; stage `fees`, after its fees: a flat `amount`, or a `percent` of the net of the
    /// lines in scope, usage only.
    CustomLineDocument {
        /// Flat, -10^15 to 10^15.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<String>,
        /// -100 to 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<String>,
        /// Only with `percent`.
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope; only with `percent`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        /// With `percent`: a line for each item, on its account, in place of one a payer; default no.
        #[serde(default, skip_serializing_if = "is_default")]
        itemised: bool,
        /// Who bears a line that is not itemised; default: the payer, of a flat amount the payer of the root account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// The service that a line which is not itemised is shown under; default: the clause's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    }
);

clause!(
    /// The least that a scope comes to in a cycle; stage `limits`. Base: the net after the stages before, credits of stage
    /// `credits_before` added back. One line of max(0, amount - base).
    MinimumDocument {
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        amount: String,
        /// What of the amount holds in a cycle that `from` and `to` do not fill: days, or exact time, of it over the cycle's.
        #[serde(default = "whole", skip_serializing_if = "is_whole")]
        prorate: Prorate,
        /// With `prorate`: the first day, or instant, that counts; default: the clause's first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Timestamp>,
        /// With `prorate`: the day, or instant, that no longer counts; default: the clause's end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Timestamp>,
        /// `payer` (default): of each payer with lines in scope; `root`: of all together, on the bill of `payer`.
        #[serde(default)]
        per: Per,
        /// With `per: payer`: only this payer, also without usage. With `per: root`: whose bill has the line (default: root's).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payer: Option<AccountId>,
        /// The service it is shown under; default: the clause's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    }
);

clause!(
    /// The most that a scope comes to in a cycle; stage `limits`. Base as of a minimum; what is above comes off pro rata to net.
    MaximumDocument {
        #[serde(default)]
        scope: ScopeDocument,
        /// What is left out of the scope.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exclude: Vec<ScopeDocument>,
        amount: String,
        /// What of the amount holds in a cycle that `from` and `to` do not fill: days, or exact time, of it over the cycle's.
        #[serde(default = "whole", skip_serializing_if = "is_whole")]
        prorate: Prorate,
        /// With `prorate`: the first day, or instant, that counts; default: the clause's first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Timestamp>,
        /// With `prorate`: the day, or instant, that no longer counts; default: the clause's end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Timestamp>,
        /// Whose lines are held together; default: each payer's own.
        #[serde(default)]
        per: Per,
    }
);

clause!(
    /// Taxes; stage `tax`. Each item's net after all stages before, fees too, is taxed by the first of `rates` whose scope
    /// matches it; taxes of several clauses add up and are not taxed themselves. One line a payer, rate and service,
    /// rounded to the minor unit whatever the catalogue's rounding is at.
    TaxDocument {
        /// First match wins; at most 1,000.
        rates: Vec<TaxRateDocument>,
    }
);

clause!(
    /// Bills in another currency than the catalogue's; in the last stage. Lines, the exact total, balances and every amount
    /// of a contract stay in the catalogue's currency; the exact total is converted once, at the rate that is in force when
    /// the cycle ends, and rounded to the bill's currency. A cycle's first bill settles currency and rate for its later ones.
    CurrencyDocument {
        /// The catalogue's currency.
        from: Currency,
        /// The bill's.
        to: Currency,
        /// Whose bills; default: those of all payers that no other clause names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payer: Option<AccountId>,
        /// By date; the latest that is in force when a cycle ends counts for it. At most 1,000.
        rates: Vec<ExchangeRateDocument>,
        /// Decimals of the payable, -6 to 12; default: those of the currency's minor unit. The catalogue says how to round.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decimals: Option<i32>,
    }
);

/// An exchange rate, from a day on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRateDocument {
    /// First day of the rate, `2026-09-30`.
    pub effective: Timestamp,
    /// What one unit of `from` is in `to`: above zero, at most 10^7, at most 18 decimals.
    pub rate: String,
}

/// One row of a tax table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaxRateDocument {
    /// What the bill's reader sees: `VAT 19%`.
    pub name: String,
    /// Shown after the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    #[serde(default)]
    pub scope: ScopeDocument,
    /// 0 to 100; 0 is an exemption that leaves no line.
    pub percent: String,
}

/// Which of the percent stages a clause belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PercentKind {
    /// Lines chosen by sku, usage type, operation, region or attributes.
    Attribute,
    /// A service's lines.
    Service,
    /// Lines of several services.
    CrossService,
}

/// How long an entitlement lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaiverPeriod {
    #[default]
    Cycle,
    Hour,
}

/// What chooses a band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    #[default]
    Spend,
    Quantity,
}

/// When a credit is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreditStage {
    /// Before discounts over several services.
    #[default]
    Before,
    /// After all discounts and fees.
    After,
}

/// What a percent fee is taken of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeeBase {
    #[default]
    Net,
    List,
}

/// Whose spend is one base of a percent fee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeePer {
    #[default]
    Payer,
    /// Each account's own, also by tier.
    Account,
}

fn zero() -> String {
    "0".to_owned()
}

fn one() -> String {
    "1".to_owned()
}

fn hundred() -> String {
    "100".to_owned()
}

fn quarter() -> String {
    "0.25".to_owned()
}

fn yes() -> bool {
    true
}

fn root() -> Per {
    Per::Root
}

fn volume() -> Climb {
    Climb::Volume
}

fn cross_service() -> PercentKind {
    PercentKind::CrossService
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
