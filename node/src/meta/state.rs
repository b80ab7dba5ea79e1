//! MetaState: nodes, shard map with its epoch, replicas, catalogue versions, jobs. Pure: a command in, an outcome out;
//! the log, the network and the work of a job's steps live elsewhere.

use bytes::Bytes;
use prost::Message as _;
use reckoner_shard::base::refusal::{Reason, Refusal};

use super::command::{
    CatalogueRow, Command, EndSteps, Entry, FORMAT, Found, Held, JobRow, Join, NodeRow, NodeState, OpenJob, Outcome,
    Place, RangeRow, Register, ReplicasRow, Seen, SetNode, StepState, Tables,
};

/// Number of slots; fixed for good.
pub const SLOTS: u32 = 4096;

/// Replicas of a shard: two may be lost with five, one with three; three is what the design measures.
pub const REPLICAS_MAX: usize = 3;

/// Nodes that a cluster can have, removed ones not counted: each holds the whole map and hears every change of it.
pub const NODES_MAX: usize = 256;

/// Ended jobs that are kept for whoever asks late; a job is a few hundred bytes.
pub const JOBS_KEPT_MAX: usize = 256;

/// Versions of one catalogue: a bill names one for as long as it is kept, so none is ever dropped.
pub const CATALOGUE_VERSIONS_MAX: usize = 10_000;

/// The state of the meta group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaState {
    pub(super) tables: Tables,
}

impl Default for MetaState {
    fn default() -> Self {
        Self { tables: Tables { format: FORMAT, ..Tables::default() } }
    }
}

impl MetaState {
    /// Reads the tables as [`MetaState::encode`] wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let tables = Tables::decode(bytes).map_err(|error| format!("meta tables: {error}"))?;
        if tables.format != FORMAT {
            return Err(format!("meta tables have format {}, this version reads {FORMAT}", tables.format));
        }
        Ok(Self { tables })
    }

    /// All tables; equal states give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.tables.encode_to_vec()
    }

    /// Applies one entry.
    ///
    /// # Errors
    /// An entry that cannot be read: the group must stop.
    pub fn apply(&mut self, entry: &[u8]) -> Result<Outcome, String> {
        let entry = Entry::decode(entry).map_err(|error| format!("meta entry: {error}"))?;
        if entry.format != FORMAT {
            return Err(format!("meta entry has format {}, this version reads {FORMAT}", entry.format));
        }
        let result = match entry.command.ok_or("meta entry without a command")? {
            Command::Found(found) => self.found(found),
            Command::PutNode(put) => self.put_node(put.node.unwrap_or_default()),
            Command::OpenJob(OpenJob { job }) => self.open_job(job.unwrap_or_default()),
            Command::EndSteps(ended) => self.end_steps(ended),
            Command::Register(register) => self.register(&register),
            Command::Join(join) => self.join(join),
            Command::SetNode(set) => self.set_node(&set),
            Command::Place(place) => self.place(&place),
            Command::Held(held) => self.held(held),
            Command::SetLayout(layout) => self.set_layout(layout),
            Command::StartMove(start) => self.start_move(&start),
            Command::Decide(decide) => self.decide(decide),
            Command::Settled(settled) => self.settled(&settled),
            Command::Retire(retire) => self.retire(&retire),
            Command::Recover(recover) => self.recover(recover),
            Command::Seen(seen) => self.see(seen),
        };
        Ok(result.unwrap_or_else(|refusal| Outcome {
            refusal: u32::from(refusal.reason.number()),
            detail: refusal.detail,
            ..Outcome::default()
        }))
    }

    /// Whether the cluster was founded.
    pub fn is_founded(&self) -> bool {
        !self.tables.cluster.is_empty()
    }

    /// The cluster's id; `None` before it is founded.
    pub fn cluster(&self) -> Option<u128> {
        Some(u128::from_be_bytes(self.tables.cluster.as_ref().try_into().ok()?))
    }

    /// The nodes by id, without those that were removed.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &NodeRow> + Clone {
        self.tables.nodes.iter().filter(|node| node.state() != NodeState::Removed)
    }

    /// The row of a node, also of one that was removed.
    pub fn node(&self, id: u64) -> Option<&NodeRow> {
        self.tables.nodes.iter().find(|node| node.id == id)
    }

    /// Where a node is reached.
    pub fn address(&self, node: u64) -> Option<&str> {
        self.node(node).map(|row| row.address.as_str())
    }

    /// Epoch of the map, from 1: higher whenever a client should ask for the routes again, since slots, replicas or nodes
    /// are others. 0 before the cluster is founded.
    pub fn epoch(&self) -> u64 {
        self.tables.epoch
    }

    /// The highest ids that a node, a move of slots and a shard ever had.
    pub fn last_ids(&self) -> (u64, u64, u32) {
        let shards = self.tables.replicas.iter().map(|row| row.shard).max().unwrap_or(0);
        (self.tables.last_node, self.tables.last_move, self.tables.last_shard.max(shards))
    }

    /// blake3 of all that concerns several shards at once: slots, catalogues and jobs, and not where replicas are.
    pub fn mark(&self) -> [u8; 32] {
        let tables = Tables { nodes: Vec::new(), replicas: Vec::new(), epoch: 0, last_node: 0, ..self.tables.clone() };
        *blake3::hash(&tables.encode_to_vec()).as_bytes()
    }

    pub fn ranges(&self) -> &[RangeRow] {
        &self.tables.ranges
    }

    pub fn replicas(&self) -> &[ReplicasRow] {
        &self.tables.replicas
    }

    /// Every version of every catalogue, by name and version.
    pub fn catalogues(&self) -> &[CatalogueRow] {
        &self.tables.catalogues
    }

    /// The newest version of a catalogue.
    pub fn catalogue(&self, name: &str) -> Option<&CatalogueRow> {
        self.tables.catalogues.iter().rfind(|row| row.name == name)
    }

    pub fn jobs(&self) -> &[JobRow] {
        &self.tables.jobs
    }

    pub fn job(&self, id: &str) -> Option<&JobRow> {
        self.tables.jobs.iter().find(|job| job.id == id)
    }

    fn found(&mut self, found: Found) -> Result<Outcome, Refusal> {
        if self.is_founded() {
            return Ok(unchanged());
        }
        self.tables.cluster = found.cluster;
        self.tables.nodes = found.nodes;
        self.tables.nodes.sort_by_key(|node| node.id);
        self.tables.last_node = self.tables.nodes.last().map_or(0, |node| node.id);
        self.tables.epoch = 1;
        self.tables.ranges = found.ranges;
        self.tables.replicas = found.replicas;
        Ok(Outcome::default())
    }

    fn put_node(&mut self, node: NodeRow) -> Result<Outcome, Refusal> {
        match self.tables.nodes.iter_mut().find(|row| row.id == node.id) {
            Some(row) if row.address == node.address => Ok(unchanged()),
            Some(row) => {
                row.address = node.address;
                self.tables.epoch += 1;
                Ok(Outcome::default())
            }
            None => {
                let known: Vec<_> = self.tables.nodes.iter().map(|row| row.id).collect();
                let detail =
                    format!("node {} is not of this cluster, which has {known:?}; use one of these ids", node.id);
                Err(Refusal::new(Reason::NotFound, detail))
            }
        }
    }

    /// Gives a new node its id; the same ticket gets the same one.
    fn join(&mut self, join: Join) -> Result<Outcome, Refusal> {
        if let Some(known) = self.tables.nodes.iter_mut().find(|node| node.ticket == join.ticket) {
            if known.state() == NodeState::Removed {
                let detail =
                    format!("node {} was removed; start it on an empty --data-dir to join as a new one", known.id);
                return Err(Refusal::new(Reason::NotFound, detail));
            }
            let unchanged = known.address == join.address;
            known.address = join.address;
            let node = known.id;
            self.tables.epoch += u64::from(!unchanged);
            return Ok(Outcome { node, unchanged, ..Outcome::default() });
        }
        if let Some(twin) = self.nodes().find(|node| node.address == join.address) {
            let detail = format!(
                "{} is the address of node {}; remove that node first, or choose another",
                join.address, twin.id
            );
            return Err(Refusal::new(Reason::VersionConflict, detail));
        }
        let count = self.nodes().count();
        if count >= NODES_MAX {
            let detail = format!("the cluster has {count} nodes, at most {NODES_MAX} are allowed; remove one first");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let id = self.tables.last_node + 1;
        self.tables.last_node = id;
        let (state, address, ticket) = (NodeState::Active as i32, join.address, join.ticket);
        self.tables.nodes.push(NodeRow { id, address, state, ticket, ..NodeRow::default() });
        self.tables.epoch += 1;
        Ok(Outcome { node: id, ..Outcome::default() })
    }

    fn see(&mut self, seen: Seen) -> Result<Outcome, Refusal> {
        match self.tables.nodes.iter_mut().find(|row| row.id == seen.node && !row.seen) {
            Some(row) => {
                row.seen = true;
                Ok(Outcome { node: seen.node, ..Outcome::default() })
            }
            None => Ok(unchanged()),
        }
    }

    fn set_node(&mut self, set: &SetNode) -> Result<Outcome, Refusal> {
        let active = self.nodes().filter(|node| node.state() == NodeState::Active && node.id != set.node).count();
        let not_found =
            || Refusal::new(Reason::NotFound, format!("there is no node {}; see cluster nodes list", set.node));
        let row = self.tables.nodes.iter_mut().find(|node| node.id == set.node).ok_or_else(not_found)?;
        if row.state == set.state {
            return Ok(Outcome { node: row.id, ..unchanged() });
        }
        if row.state() == NodeState::Removed {
            let detail = format!("node {} was removed and never comes back under its id; start a new one", row.id);
            return Err(Refusal::new(Reason::NotFound, detail));
        }
        if active == 0 {
            let detail = format!("node {} is the last active one; add another first", row.id);
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        row.state = set.state;
        self.tables.epoch += 1;
        Ok(Outcome { node: set.node, ..Outcome::default() })
    }

    /// Takes rows whose nodes all can hold replicas; a row that names another node is passed over: the plan was made
    /// before that node left, and the next one will do without it.
    fn place(&mut self, place: &Place) -> Result<Outcome, Refusal> {
        let mut outcome = unchanged();
        for wanted in &place.rows {
            let is_active = |id: &u64| self.node(*id).is_some_and(|node| node.state() == NodeState::Active);
            if wanted.nodes.is_empty() || !wanted.nodes.iter().all(is_active) {
                continue;
            }
            let Some(row) = self.tables.replicas.iter_mut().find(|row| row.shard == wanted.shard) else { continue };
            // Its founders are told once: others would found another group.
            if row.held.is_empty() {
                continue;
            }
            if row.nodes != wanted.nodes {
                row.want(&wanted.nodes);
                outcome.unchanged = false;
            }
        }
        Ok(outcome)
    }

    fn held(&mut self, held: Held) -> Result<Outcome, Refusal> {
        let row = self.tables.replicas.iter_mut().find(|row| row.shard == held.shard);
        let row = row.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no shard {}", held.shard)))?;
        if held.changes != row.changes {
            return Ok(unchanged());
        }
        let mut nodes = held.nodes;
        nodes.sort_unstable();
        let unchanged = row.held == nodes;
        // Founders are where the map says from the beginning.
        let moved = !unchanged && !row.held.is_empty();
        row.held = nodes;
        self.tables.epoch += u64::from(moved);
        Ok(Outcome { unchanged, ..Outcome::default() })
    }

    fn open_job(&mut self, job: JobRow) -> Result<Outcome, Refusal> {
        if let (None, Some(moving)) = (self.job(&job.id), self.tables.moves.first()) {
            let (first, last) = (moving.first, moving.last);
            let detail = format!("slots {first} to {last} are on their way to shard {}; try again", moving.to);
            return Err(Refusal::new(Reason::SlotMoving, detail));
        }
        if let Some(known) = self.job(&job.id) {
            if known.documents != job.documents {
                let detail = format!("job {} was opened with other documents; choose another id", job.id);
                return Err(Refusal::new(Reason::VersionConflict, detail));
            }
            return Ok(unchanged());
        }
        self.tables.jobs.push(job);
        while self.tables.jobs.len() > JOBS_KEPT_MAX {
            let Some(oldest) = self.tables.jobs.iter().position(JobRow::ended) else { break };
            self.tables.jobs.remove(oldest);
        }
        Ok(Outcome::default())
    }

    fn end_steps(&mut self, ended: EndSteps) -> Result<Outcome, Refusal> {
        let not_found = |what: String| Refusal::new(Reason::NotFound, what);
        let job = self.tables.jobs.iter_mut().find(|job| job.id == ended.job);
        let job = job.ok_or_else(|| not_found(format!("there is no job {}", ended.job)))?;
        if let Some(end) = ended.ends.iter().find(|end| end.step as usize >= job.steps.len()) {
            return Err(not_found(format!("job {} has no step {}", ended.job, end.step)));
        }
        let mut outcome = unchanged();
        for end in ended.ends {
            let step = &mut job.steps[end.step as usize];
            if step.state() == StepState::Waiting {
                (step.state, step.detail, step.refusal) = (end.state, end.detail, end.refusal);
                outcome.unchanged = false;
            }
        }
        Ok(outcome)
    }

    fn register(&mut self, register: &Register) -> Result<Outcome, Refusal> {
        let versions = self.tables.catalogues.iter().filter(|row| row.name == register.name);
        let (count, newest) = (versions.clone().count(), versions.last());
        if let Some(newest) = newest.filter(|newest| newest.hash == register.hash) {
            return Ok(Outcome { version: newest.version, ..unchanged() });
        }
        if count >= CATALOGUE_VERSIONS_MAX {
            let detail = format!(
                "catalogue {} has {count} versions, at most {CATALOGUE_VERSIONS_MAX} are kept; begin one under another name",
                register.name
            );
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let version = newest.map_or(1, |newest| newest.version + 1);
        self.tables.catalogues.push(CatalogueRow {
            name: register.name.clone(),
            version,
            hash: register.hash.clone(),
            effective: register.effective,
        });
        self.tables.catalogues.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        Ok(Outcome { version, ..Outcome::default() })
    }
}

pub(super) fn unchanged() -> Outcome {
    Outcome { unchanged: true, ..Outcome::default() }
}

/// The command that founds a cluster of `nodes` with `shards` shards: even slot ranges, each shard on up to
/// [`REPLICAS_MAX`] nodes, the first of which should lead it. Shards count from 1, since 0 is the meta group.
pub fn founding(cluster: u128, nodes: Vec<NodeRow>, shards: u32) -> Command {
    let shards = shards.clamp(1, SLOTS);
    let ranges = (0..shards).map(|at| RangeRow {
        first: at * SLOTS / shards,
        last: (at + 1) * SLOTS / shards - 1,
        shard: at + 1,
    });
    let mut ids: Vec<u64> = nodes.iter().map(|node| node.id).collect();
    ids.sort_unstable();
    let replicas = (0..shards).map(|at| {
        let turned = ids.iter().cycle().skip(at as usize % ids.len().max(1));
        let nodes = turned.take(ids.len().min(REPLICAS_MAX)).copied().collect();
        ReplicasRow { shard: at + 1, nodes, ..ReplicasRow::default() }
    });
    Command::Found(Found {
        cluster: Bytes::copy_from_slice(&cluster.to_be_bytes()),
        ranges: ranges.collect(),
        replicas: replicas.collect(),
        nodes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::command::{DocumentRow, StepEnd, StepKind, StepRow, encode};
    use super::*;

    fn node(id: u64) -> NodeRow {
        NodeRow { id, address: format!("127.0.0.1:{id}"), ..NodeRow::default() }
    }

    fn apply(state: &mut MetaState, command: Command) -> Outcome {
        state.apply(&encode(command)).unwrap()
    }

    #[test]
    fn founding_covers_every_slot_once_and_spreads_replicas() {
        for (shards, nodes) in [(1, 1), (8, 1), (8, 3), (7, 3), (256, 5)] {
            let mut state = MetaState::default();
            assert!(!state.is_founded());
            let founded = founding(9, (1..=nodes).map(node).collect(), shards);
            assert!(!apply(&mut state, founded.clone()).unchanged);
            assert!(apply(&mut state, founded).unchanged, "founding twice changes nothing");
            let mut next = 0;
            for range in state.ranges() {
                assert_eq!(range.first, next);
                next = range.last + 1;
            }
            assert_eq!(next, SLOTS);
            for row in state.replicas() {
                assert_eq!(row.nodes.len() as u64, nodes.min(3), "{row:?}");
                let mut distinct = row.nodes.clone();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), row.nodes.len());
            }
            assert_eq!(MetaState::decode(&state.encode()).unwrap(), state);
        }
    }

    #[test]
    fn a_replica_stays_until_a_change_of_mind_is_confirmed() {
        let mut state = MetaState::default();
        apply(&mut state, founding(9, (1..=3).map(node).collect(), 1));
        let ticket = |address: &str| Join { address: address.into(), ticket: vec![7; 16].into() };
        apply(&mut state, Command::Join(ticket("d:1")));
        let place = |state: &mut MetaState, nodes: &[u64]| {
            let row = ReplicasRow { shard: 1, nodes: nodes.to_vec(), ..ReplicasRow::default() };
            apply(state, Command::Place(Place { rows: vec![row] }));
            state.replicas()[0].changes
        };
        let held = |state: &mut MetaState, nodes: &[u64], changes: u64| {
            apply(state, Command::Held(Held { shard: 1, nodes: nodes.to_vec(), changes }));
            (state.replicas()[0].held.clone(), state.replicas()[0].is_settled())
        };
        assert_eq!(held(&mut state, &[1, 2, 3], 0), (vec![1, 2, 3], true));
        let first = place(&mut state, &[4, 2, 3]);
        assert_eq!(held(&mut state, &[4, 2, 3], first), (vec![2, 3, 4], true));
        let second = place(&mut state, &[4, 3, 1]);
        // Node 1 may be a member again by the time that it is wanted no more.
        let third = place(&mut state, &[4, 3, 2]);
        assert_eq!(held(&mut state, &[4, 3, 2], first), (vec![1, 2, 3, 4], false), "found before both changes");
        assert_eq!(held(&mut state, &[4, 3, 1], second), (vec![1, 2, 3, 4], false), "found before the last one");
        assert_eq!(place(&mut state, &[2, 3, 4]), third, "another order is no change");
        assert_eq!(held(&mut state, &[4, 3, 2], third), (vec![2, 3, 4], true));
    }

    #[test]
    fn nodes_join_once_and_leave_for_good() {
        let mut state = MetaState::default();
        apply(&mut state, founding(9, vec![node(1)], 2));
        let join = |ticket: &'static [u8], address: &str| {
            Command::Join(Join { address: address.into(), ticket: Bytes::from_static(ticket) })
        };
        let set = |node, to: NodeState| Command::SetNode(SetNode { node, state: to as i32 });
        let mut check = |command: Command, expected: Result<(u64, bool), Reason>| {
            let outcome = apply(&mut state, command.clone());
            let found = match Reason::from_number(outcome.refusal as u8) {
                Some(reason) => Err(reason),
                None => Ok((outcome.node, outcome.unchanged)),
            };
            assert_eq!(found, expected, "{command:?}: {}", outcome.detail);
        };
        check(set(1, NodeState::Draining), Err(Reason::LimitReached));
        check(join(b"a", "h:2"), Ok((2, false)));
        check(join(b"a", "h:2"), Ok((2, true)));
        check(join(b"a", "h:3"), Ok((2, false)));
        check(join(b"b", "h:3"), Err(Reason::VersionConflict));
        check(join(b"b", "h:4"), Ok((3, false)));
        check(set(3, NodeState::Removed), Ok((3, false)));
        check(set(3, NodeState::Active), Err(Reason::NotFound));
        check(join(b"b", "h:4"), Err(Reason::NotFound));
        // The address is free again, the id is not.
        check(join(b"c", "h:4"), Ok((4, false)));
        check(set(9, NodeState::Draining), Err(Reason::NotFound));
        check(set(2, NodeState::Draining), Ok((2, false)));
        check(set(2, NodeState::Active), Ok((2, false)));
        assert_eq!(state.nodes().map(|node| node.id).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn catalogue_versions_count_by_content() {
        let mut state = MetaState::default();
        let register = |hash: &'static [u8]| {
            Command::Register(Register { name: "aws".into(), hash: Bytes::from_static(hash), effective: 24296 })
        };
        let mut check = |hash, version, unchanged| {
            let outcome = apply(&mut state, register(hash));
            assert_eq!((outcome.version, outcome.unchanged), (version, unchanged));
        };
        check(b"a", 1, false);
        check(b"a", 1, true);
        check(b"b", 2, false);
        check(b"a", 3, false);
    }

    #[test]
    fn a_job_goes_step_by_step_and_stops_at_a_refusal() {
        let mut state = MetaState::default();
        let step = |name: &str| StepRow { kind: StepKind::Stage as i32, name: name.into(), ..StepRow::default() };
        let document = DocumentRow { kind: "Catalogue".into(), hash: Bytes::from_static(b"h"), place: 0 };
        let job = JobRow { id: "j".into(), documents: vec![document], steps: vec![step("a"), step("b"), step("c")] };
        let open = |job: &JobRow| Command::OpenJob(OpenJob { job: Some(job.clone()) });
        assert!(!apply(&mut state, open(&job)).unchanged);
        assert!(apply(&mut state, open(&job)).unchanged);
        let other = JobRow { documents: vec![], ..job.clone() };
        assert_eq!(apply(&mut state, open(&other)).refusal, u32::from(Reason::VersionConflict.number()));
        let end = |step, end: StepState| {
            let end = StepEnd { step, state: end as i32, ..StepEnd::default() };
            Command::EndSteps(EndSteps { job: "j".into(), ends: vec![end] })
        };
        assert_eq!(state.job("j").unwrap().next_step(), Some(0));
        apply(&mut state, end(0, StepState::Done));
        assert!(apply(&mut state, end(0, StepState::Refused)).unchanged, "a step ends once");
        assert_eq!(state.job("j").unwrap().next_step(), Some(1));
        apply(&mut state, end(1, StepState::Refused));
        assert!(state.job("j").unwrap().ended());
        assert_ne!(apply(&mut state, end(9, StepState::Done)).refusal, 0);
    }

    #[test]
    fn steps_of_a_kind_go_together() {
        fn check(steps: &[(StepKind, &str, u32)], done: usize, expected: &[usize]) {
            let rows = steps.iter().enumerate().map(|(index, (kind, name, document))| StepRow {
                kind: *kind as i32,
                name: (*name).to_owned(),
                document: *document,
                state: if index < done { StepState::Done } else { StepState::Waiting } as i32,
                ..StepRow::default()
            });
            let job = JobRow { id: "j".into(), documents: vec![], steps: rows.collect() };
            assert_eq!(job.next_wave(), expected, "{steps:?} after {done}");
        }
        use StepKind::{Activate, Hierarchy, Register};
        check(&[(Hierarchy, "put a", 0), (Hierarchy, "put b", 1), (Activate, "activate c", 2)], 0, &[0, 1]);
        check(&[(Hierarchy, "put a", 0), (Hierarchy, "put b", 1), (Activate, "activate c", 2)], 1, &[1]);
        check(&[(Hierarchy, "put a", 0), (Hierarchy, "put b", 1), (Activate, "activate c", 2)], 3, &[]);
        // One document on several shards goes together; a second version of it waits for the first.
        check(&[(Activate, "activate c", 0), (Activate, "activate c", 0), (Activate, "activate c", 1)], 0, &[0, 1]);
        check(&[(Register, "register c", 0), (Register, "register d", 1)], 0, &[0]);
    }

    #[test]
    fn unreadable_bytes_stop_the_group() {
        assert!(MetaState::default().apply(b"\xff\xff").is_err());
        assert!(MetaState::default().apply(b"").is_err());
        assert!(MetaState::decode(b"").is_err(), "no format");
    }
}
