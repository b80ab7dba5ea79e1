//! What a state names by hash and does not contain: bill bodies and archives of billed cycles. Where they are kept, and how
//! they come to another node, is not known here.

use super::query::View;
use crate::base::hash::Hash;
use crate::billing::cycle::Phase;

impl View {
    /// Every bill and archive that the slots here name, each once, ascending.
    pub fn contents(&self) -> Vec<Hash> {
        let mut contents = Vec::new();
        for (_, root) in self.roots() {
            let Ok(cycles) = self.cycles(root) else { continue };
            for extra in &cycles.extras {
                contents.extend(extra.bills.iter().map(|bill| bill.body_hash));
                contents.extend(extra.archive);
            }
            for cut in &cycles.cut {
                match &cut.phase {
                    Phase::Closing => (),
                    Phase::Closed(bills) => contents.extend(bills.iter().map(|bill| bill.body_hash)),
                    Phase::Issued(bills) => contents.extend(bills.iter().map(|bill| bill.body_hash)),
                    Phase::Archived(bills, archive) => {
                        contents.extend(bills.iter().map(|bill| bill.body_hash));
                        contents.push(*archive);
                    }
                }
            }
        }
        contents.sort_unstable();
        contents.dedup();
        contents
    }

    /// Whether slots are on their way from or to another shard.
    pub fn is_moving(&self) -> bool {
        self.moves.is_under_way()
    }
}
