//! From a contract document's subscriptions to those that count: who, what and when, checked against a catalogue.

use std::collections::BTreeMap;

use super::compile::Compiler;
use super::document::SubscriptionDocument;
use super::subscription::{Subscribed, Subscriber, Subscription};
use crate::base::id::{ClauseId, SkuId};
use crate::base::money::Quantity;
use crate::base::problem::Place;
use crate::pricing::active::Span;
use crate::pricing::catalogue::Catalogue;
use crate::pricing::document::PoolPeriod;
use crate::pricing::document_fee::{FeeDue, FeePeriod, Prorate};
use crate::pricing::ladders::number;
use crate::pricing::limits::{FEE_QUANTITY_MAX, SUBSCRIPTIONS_MAX};
use crate::pricing::pool::SplitKey;

impl Compiler<'_> {
    pub(super) fn subscriptions(&mut self) -> Vec<Option<Subscription>> {
        let document = self.document;
        let top = Place::top().key("subscriptions");
        if document.subscriptions.len() > SUBSCRIPTIONS_MAX {
            let message = format!("{} subscriptions, at most {SUBSCRIPTIONS_MAX}", document.subscriptions.len());
            self.problems.error(&top, message, "subscribe payers or groups, with a quantity");
        }
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut subscriptions = Vec::with_capacity(document.subscriptions.len());
        for (index, subscription) in document.subscriptions.iter().enumerate() {
            let place = top.index(index);
            if let Some(first) = seen.insert(&subscription.id, index) {
                let message =
                    format!("subscription {} is declared twice, first at subscriptions[{first}]", subscription.id);
                self.problems.error(&place.key("id"), message, "give each its own id");
            }
            subscriptions.push(self.subscription(subscription, &place));
        }
        subscriptions
    }

    fn subscription(&mut self, document: &SubscriptionDocument, place: &Place) -> Option<Subscription> {
        let own = &document.id;
        let id = ClauseId::new(own).map_err(|error| self.problems.refuse(&place.key("id"), error)).ok();
        let who = match (&document.account, &document.payer, &document.group) {
            (Some(account), None, None) | (None, Some(account), None) => Some(Subscriber::Account(account.clone())),
            (None, Some(payer), Some(group)) => Some(Subscriber::Group(payer.clone(), group.clone())),
            _ => {
                self.problems.error(
                    place,
                    format!("subscription {own} does not say who takes it"),
                    "state account, or payer, or group with its payer",
                );
                None
            }
        };
        if let Some(to) = document.to.filter(|to| *to <= document.from) {
            let message = format!("subscription {own} begins at {} and ends before {to}", document.from);
            self.problems.error(&place.key("to"), message, "to is the first day that no longer counts");
        }
        let quantity = document.quantity.as_ref().map_or(Quantity::ONE, |text| {
            number(text, "quantity", FEE_QUANTITY_MAX, &place.key("quantity"), &mut self.problems)
        });
        let what = match (&document.fee, &document.sku) {
            (Some(fee), None) => self.subscribed_fee(own, fee, quantity, place),
            (None, Some(sku)) => {
                if document.quantity.is_some() {
                    let message = format!("subscription {own} takes a quantity of sku {sku}");
                    self.problems.error(&place.key("quantity"), message, "drop it; only fees are taken several times");
                }
                self.subscribed_sku(own, sku, place)
            }
            _ => {
                let message = format!("subscription {own} does not say what is taken");
                self.problems.error(place, message, "state fee or sku");
                None
            }
        };
        let at_once = document.at_once;
        if at_once {
            self.check_at_once(document, place);
        }
        let span = Span { from: document.from, to: document.to };
        Some(Subscription { id: id?, who: who?, what: what?, span, at_once })
    }

    fn subscribed_fee(&mut self, own: &str, fee: &str, quantity: Quantity, place: &Place) -> Option<Subscribed> {
        let place = place.key("fee");
        if let Some(catalogue) = self.catalogue.filter(|catalogue| catalogue.fee_by_id(fee).is_none()) {
            let message =
                format!("subscription {own} takes fee '{fee}', which catalogue {} does not have", catalogue.name);
            self.problems.error(&place, message, "declare it under fees of the catalogue, or correct the name");
        }
        let id = SkuId::new(fee).map_err(|error| self.problems.refuse(&place, error)).ok();
        Some(Subscribed::Fee(id?, quantity))
    }

    /// Only what is known when it is bought can be billed then.
    fn check_at_once(&mut self, document: &SubscriptionDocument, place: &Place) {
        let (own, place) = (&document.id, place.key("at_once"));
        let Some(id) = &document.fee else {
            let message = format!("subscription {own} is billed at once, but takes no fee");
            return self.problems.error(&place, message, "drop at_once; what is used is billed with the cycle");
        };
        let fee = self.catalogue.and_then(|catalogue| catalogue.fee_by_id(id));
        if fee.is_some_and(|fee| fee.period != FeePeriod::Once && fee.due == FeeDue::Arrears) {
            let message = format!("subscription {own} is billed at once, but fee {id} is due in arrears");
            self.problems.error(&place, message, "drop at_once, or let the fee be due in advance, or once");
        }
    }

    fn subscribed_sku(&mut self, own: &str, sku: &str, place: &Place) -> Option<Subscribed> {
        let place = place.key("sku");
        if let Some(catalogue) = self.catalogue {
            self.check_sku(own, sku, catalogue, &place);
        }
        let id = SkuId::new(sku).map_err(|error| self.problems.refuse(&place, error)).ok();
        Some(Subscribed::Sku(id?))
    }

    /// A SKU can be subscribed to where its price charges for nothing, and it is plain which pool is meant.
    fn check_sku(&mut self, own: &str, id: &str, catalogue: &Catalogue, place: &Place) {
        let Some(sku) = catalogue.sku_by_id(id).map(|index| catalogue.sku(index)) else {
            let message =
                format!("subscription {own} takes sku '{id}', which catalogue {} does not have", catalogue.name);
            return self.problems.error(place, message, "correct the name");
        };
        let price = catalogue.price(sku.price);
        let prorates = price.prorate_limits != Prorate::None;
        if price.minimum.is_zero() && !price.flat_when_zero && !prorates {
            self.problems.error(
                place,
                format!(
                    "subscription {own} takes sku {id}, whose price {} has no minimum, flat_when_zero or prorate_limits",
                    price.id
                ),
                "give the price one, or subscribe to a fee",
            );
        }
        if price.period != PoolPeriod::Cycle {
            self.problems.error(
                place,
                format!("subscription {own} takes sku {id}, whose pools last a shorter or longer time than the cycle"),
                "subscribe to a fee, or use a price whose pool lasts the cycle",
            );
        }
        for key in &price.split_by.0 {
            let is_plain = match key {
                SplitKey::Region => sku.matches.region.exact().is_some(),
                SplitKey::Service => sku.matches.service.exact().is_some(),
                SplitKey::Attribute(name) => {
                    sku.matches.attributes.get(name).is_some_and(|pattern| pattern.exact().is_some())
                }
                SplitKey::Root | SplitKey::Payer | SplitKey::Group | SplitKey::Account | SplitKey::Sku => true,
            };
            if !is_plain {
                self.problems.error(
                    place,
                    format!(
                        "subscription {own} takes sku {id}, whose price has a pool a {key}, and does not say which"
                    ),
                    format!("use a sku with one {key}, or subscribe to a fee"),
                );
            }
        }
    }
}
