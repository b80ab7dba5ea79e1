//! The cluster's tables after a disaster: made anew from a backup, or carried on by the one node that is left. Both give the
//! cluster a new identity and remember the old one, so that whoever comes back of it is told what happened. Pure; what it
//! takes on disk is in [`crate::restore`] and [`crate::recover`].

use bytes::Bytes;
use reckoner_client::proto;
use reckoner_shard::base::refusal::{Reason, Refusal};

use super::command::{
    CatalogueRow, FORMAT, FormerRow, NodeRow, NodeState, Outcome, RangeRow, Recover, ReplicasRow, Tables,
};
use super::state::{MetaState, unchanged};

/// What became of an older identity of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// One node went on alone after the majority was lost.
    Recovered,
    /// The cluster was made of a backup of it.
    Restored,
}

impl MetaState {
    /// The tables of a new cluster that holds what a backup holds, all on one node.
    pub fn restored(cluster: u128, backup: &proto::BackupReply, from: u128, address: &str) -> (MetaState, u64) {
        // Ids of the old nodes are not used again: their directories may still be somewhere.
        let node = backup.last_node + 1;
        let id = |number: u128| Bytes::copy_from_slice(&number.to_be_bytes());
        let range = |range: &proto::SlotRange| RangeRow { first: range.first, last: range.last, shard: range.shard };
        let replicas =
            |shard: &u32| ReplicasRow { shard: *shard, nodes: vec![node], held: vec![node], ..ReplicasRow::default() };
        let catalogue = |row: &proto::KeptCatalogue| CatalogueRow {
            name: row.name.clone(),
            version: row.version,
            hash: row.hash.clone(),
            effective: row.effective,
        };
        let tables = Tables {
            format: FORMAT,
            cluster: id(cluster),
            nodes: vec![NodeRow { id: node, address: address.to_owned(), ..NodeRow::default() }],
            epoch: backup.map_epoch + 1,
            ranges: backup.ranges.iter().map(range).collect(),
            replicas: backup.shards.iter().map(replicas).collect(),
            catalogues: backup.catalogues.iter().map(catalogue).collect(),
            last_node: node,
            last_move: backup.last_move,
            last_shard: backup.last_shard,
            former: vec![FormerRow { cluster: id(from), is_restored: true }],
            ..Tables::default()
        };
        (MetaState { tables }, node)
    }

    /// What became of `cluster`, where it is an older identity of this one.
    pub fn former(&self, cluster: u128) -> Option<Former> {
        let row = self.tables.former.iter().find(|row| row.cluster[..] == cluster.to_be_bytes())?;
        Some(if row.is_restored { Former::Restored } else { Former::Recovered })
    }

    /// Carries on under a new identity with one node; all others are struck off. Shards that it has no replica of stay
    /// where they were, and nobody serves them.
    pub(super) fn recover(&mut self, recover: Recover) -> Result<Outcome, Refusal> {
        if self.tables.cluster == recover.cluster {
            return Ok(unchanged());
        }
        let tables = &mut self.tables;
        let Some(own) = tables.nodes.iter_mut().find(|row| row.id == recover.node) else {
            let detail = format!("node {} is not of this cluster", recover.node);
            return Err(Refusal::new(Reason::NotFound, detail));
        };
        own.state = NodeState::Active as i32;
        for row in tables.nodes.iter_mut().filter(|row| row.id != recover.node) {
            row.state = NodeState::Removed as i32;
        }
        for row in &mut tables.replicas {
            (row.nodes, row.held) = (vec![recover.node], vec![recover.node]);
            row.changes += 1;
        }
        let cluster = std::mem::replace(&mut tables.cluster, recover.cluster);
        tables.former.push(FormerRow { cluster, is_restored: false });
        tables.epoch += 1;
        Ok(Outcome { node: recover.node, ..Outcome::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Found, encode};
    use super::super::state::founding;
    use super::*;

    #[test]
    fn the_survivor_goes_on_under_a_new_identity_and_remembers_the_old() {
        let node = |id: u64| NodeRow { id, address: format!("h:{id}"), ..NodeRow::default() };
        let mut state = MetaState::default();
        let mut apply = |command: Command| {
            let outcome = state.apply(&encode(command)).unwrap();
            (outcome.refusal == 0, outcome.unchanged, state.clone())
        };
        assert!(apply(founding(7, vec![node(1), node(2), node(3)], 2)).0);
        let recover = |node| Command::Recover(Recover { cluster: Bytes::copy_from_slice(&8_u128.to_be_bytes()), node });
        assert!(!apply(recover(9)).0, "a stranger does not go on");
        let (_, unchanged, after) = apply(recover(2));
        assert!(!unchanged);
        assert_eq!((after.cluster(), after.former(7), after.former(8)), (Some(8), Some(Former::Recovered), None));
        assert_eq!(after.nodes().map(|row| row.id).collect::<Vec<_>>(), [2]);
        assert!(after.replicas().iter().all(|row| row.nodes == [2] && row.is_settled()));
        assert!(apply(recover(2)).1, "twice is once");
        assert!(apply(Command::Found(Found::default())).1, "it stays founded");
    }

    #[test]
    fn a_restored_cluster_uses_no_old_id_again() {
        let range = proto::SlotRange { first: 0, last: 4095, shard: 3 };
        let backup = proto::BackupReply {
            map_epoch: 5,
            ranges: vec![range],
            shards: vec![3],
            last_node: 4,
            last_move: 6,
            last_shard: 9,
            ..proto::BackupReply::default()
        };
        let (state, node) = MetaState::restored(2, &backup, 1, "h:1");
        assert_eq!((node, state.epoch(), state.last_ids()), (5, 6, (5, 6, 9)));
        assert_eq!((state.cluster(), state.former(1)), (Some(2), Some(Former::Restored)));
        assert_eq!((&state.replicas()[0].nodes, state.replicas()[0].is_settled()), (&vec![5], true));
        assert_eq!(MetaState::decode(&state.encode()).unwrap(), state);
    }
}
