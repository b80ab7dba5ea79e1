//! Bills that `-o json` printed, read back: a difference to them is exact, since they carry their canonical bodies.

use std::path::Path;

use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::codec;
use serde::Deserialize;

use crate::error::Error;
use crate::files::bundle::unhex;

/// What `read_billed` needs of a printed bill.
#[derive(Deserialize)]
struct PrintedBill {
    body: String,
}

#[derive(Deserialize)]
struct PrintedBills {
    bills: Vec<PrintedBill>,
}

/// Bills that `-o json` printed, back from their canonical bodies.
pub fn read_billed(path: &Path) -> Result<Vec<BillBody>, Error> {
    let failed = |why: String| {
        Error::invalid(format!(
            "{}: {why}; give what 'bills show -o json' or 'simulate -o json' printed",
            path.display()
        ))
    };
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let bills = match serde_json::from_slice::<PrintedBills>(&text) {
        Ok(printed) => printed.bills,
        Err(error) => vec![serde_json::from_slice::<PrintedBill>(&text).map_err(|_| failed(error.to_string()))?],
    };
    bills
        .iter()
        .map(|bill| {
            let bytes = unhex(&bill.body).ok_or_else(|| failed("a body is not hexadecimal".to_owned()))?;
            codec::decode(&bytes).map_err(|error| failed(error.to_string()))
        })
        .collect()
}
