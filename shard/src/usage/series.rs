//! Series: an account on a meter with its actual operation, region and attribute values, and its dense number within a
//! slot. Every string is kept once; what a series counted lives in [`super::counter`].

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::id::AccountId;

/// What a record names besides its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dimensions {
    pub service: String,
    pub usage_type: String,
    /// May be empty.
    pub operation: String,
    /// May be empty.
    pub region: String,
    /// Strictly sorted by key.
    pub attributes: Vec<(String, String)>,
}

/// The full name of a series. Its dimensions are read as its own fields: `key.service`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    pub account: AccountId,
    /// Shared by all accounts that use the same thing.
    pub dimensions: Arc<Dimensions>,
}

impl SeriesKey {
    /// A key from its names; attributes are sorted here.
    pub fn new(
        account: AccountId,
        service: impl Into<String>,
        usage_type: impl Into<String>,
        operation: impl Into<String>,
        region: impl Into<String>,
        mut attributes: Vec<(String, String)>,
    ) -> SeriesKey {
        attributes.sort();
        let (service, usage_type) = (service.into(), usage_type.into());
        let (operation, region) = (operation.into(), region.into());
        SeriesKey { account, dimensions: Arc::new(Dimensions { service, usage_type, operation, region, attributes }) }
    }
}

impl Deref for SeriesKey {
    type Target = Dimensions;
    fn deref(&self) -> &Dimensions {
        &self.dimensions
    }
}
