//! What the meta group replicates: commands, their outcomes, and the tables, all prost messages with a format number.
//! What a command does is in [`super::state`].

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

/// Format of entries, outcomes and tables.
pub const FORMAT: u32 = 1;

/// Steps that are carried out together: enough to fill a flush of the log, few enough for one node's connections.
pub const WAVE_MAX: usize = 64;

/// What is wanted of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum NodeState {
    /// It holds replicas.
    Active = 0,
    /// Its replicas go to other nodes; it still serves.
    Draining = 1,
    /// It is gone for good: its replicas are made anew elsewhere, its id is never used again.
    Removed = 2,
}

/// A node and its address.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeRow {
    /// Never used again.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(enumeration = "NodeState", tag = "3")]
    pub state: i32,
    /// 16 random bytes that a node drew before it first asked to join, so that it may ask again; empty for founders.
    #[prost(bytes = "bytes", tag = "4")]
    pub ticket: Bytes,
    /// Whether it was ever heard to follow the meta group.
    #[prost(bool, tag = "5")]
    pub seen: bool,
}

/// Neighbouring slots of one shard.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RangeRow {
    #[prost(uint32, tag = "1")]
    pub first: u32,
    /// Included.
    #[prost(uint32, tag = "2")]
    pub last: u32,
    #[prost(uint32, tag = "3")]
    pub shard: u32,
}

/// Who holds replicas of a shard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReplicasRow {
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// Who should hold them; the first should lead.
    #[prost(uint64, repeated, tag = "2")]
    pub nodes: Vec<u64>,
    /// Who may hold them, ascending: who did when that was last confirmed, and whoever was wanted since; empty until the
    /// founders are at work. A node keeps its replica open while it is in either list.
    #[prost(uint64, repeated, tag = "3")]
    pub held: Vec<u64>,
    /// How often others were wanted than before.
    #[prost(uint64, tag = "4")]
    pub changes: u64,
}

impl ReplicasRow {
    /// Whether the replicas are where they should be.
    pub fn is_settled(&self) -> bool {
        self.held == sorted(self.nodes.clone())
    }

    /// Other nodes are wanted, or the same in another order. Those of before may be members by now, though nobody has
    /// confirmed it yet: they keep their replicas until somebody confirms that these here do without them.
    pub fn want(&mut self, nodes: &[u64]) {
        if sorted(self.nodes.clone()) != sorted(nodes.to_vec()) {
            self.held = sorted([&self.held[..], &self.nodes].concat());
            self.changes += 1;
        }
        self.nodes = nodes.to_vec();
    }
}

/// Ascending, each once.
fn sorted(mut nodes: Vec<u64>) -> Vec<u64> {
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Where a slot move stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum MoveState {
    /// The slots are frozen and carried over; they are still the first shard's.
    Carrying = 0,
    /// They are the second shard's.
    Committed = 1,
    /// They stay.
    Cancelled = 2,
}

/// Slots on their way from one shard to another.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MoveRow {
    /// Rising, from 1; never used again.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint32, tag = "2")]
    pub first: u32,
    /// Included.
    #[prost(uint32, tag = "3")]
    pub last: u32,
    #[prost(uint32, tag = "4")]
    pub from: u32,
    #[prost(uint32, tag = "5")]
    pub to: u32,
    #[prost(enumeration = "MoveState", tag = "6")]
    pub state: i32,
    /// The shards that know the decision.
    #[prost(uint32, repeated, tag = "7")]
    pub settled: Vec<u32>,
    /// Epoch of the map that the decision made.
    #[prost(uint64, tag = "8")]
    pub epoch: u64,
}

/// One version of a catalogue.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CatalogueRow {
    #[prost(string, tag = "1")]
    pub name: String,
    /// From 1, in the order of application.
    #[prost(uint32, tag = "2")]
    pub version: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub hash: Bytes,
    /// First cycle that it prices, months since year 0.
    #[prost(uint32, tag = "4")]
    pub effective: u32,
}

/// A document of a job; its bytes are a staged blob.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DocumentRow {
    /// Catalogue, Hierarchy, Contract or AccountMove.
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
    /// Place in the request.
    #[prost(uint32, tag = "3")]
    pub place: u32,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum StepKind {
    Unspecified = 0,
    /// The blob is on disk at every replica.
    Stage = 1,
    /// The catalogue has its version number.
    Register = 2,
    /// A shard activates the version.
    Activate = 3,
    /// The root's shard takes the hierarchy.
    Hierarchy = 4,
    /// A shard's directory learns of the hierarchy's accounts.
    Directory = 5,
    /// The root's shard takes the contract.
    Contract = 6,
    /// An account goes from one hierarchy to another.
    MoveAccount = 7,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum StepState {
    Waiting = 0,
    Done = 1,
    Refused = 2,
}

/// A step of a job. Every step is safe to repeat.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StepRow {
    #[prost(enumeration = "StepKind", tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    /// The shard that it concerns.
    #[prost(uint32, optional, tag = "3")]
    pub shard: Option<u32>,
    /// Index among the job's documents.
    #[prost(uint32, tag = "4")]
    pub document: u32,
    #[prost(enumeration = "StepState", tag = "5")]
    pub state: i32,
    /// What came of it.
    #[prost(string, tag = "6")]
    pub detail: String,
    /// The refusal's number in the domain; 0 for none.
    #[prost(uint32, tag = "7")]
    pub refusal: u32,
}

/// An apply job.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JobRow {
    /// Chosen by the caller.
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, repeated, tag = "2")]
    pub documents: Vec<DocumentRow>,
    #[prost(message, repeated, tag = "3")]
    pub steps: Vec<StepRow>,
}

impl JobRow {
    /// The first step that is not done, unless one was refused.
    pub fn next_step(&self) -> Option<usize> {
        let open = self.steps.iter().position(|step| step.state() != StepState::Done)?;
        (self.steps[open].state() == StepState::Waiting).then_some(open)
    }

    /// The steps that may be carried out together now: the next one and those behind it of its kind, up to a second
    /// document of the same name, which has to see what the first one did.
    pub fn next_wave(&self) -> Vec<usize> {
        let Some(first) = self.next_step() else { return Vec::new() };
        let kind = self.steps[first].kind();
        if kind == StepKind::Register {
            return vec![first];
        }
        let mut names = BTreeMap::new();
        let open = self.steps.iter().enumerate().skip(first);
        open.take_while(|(_, step)| {
            step.kind() == kind && *names.entry(&step.name).or_insert(step.document) == step.document
        })
        .filter(|(_, step)| step.state() == StepState::Waiting)
        .map(|(index, _)| index)
        .take(WAVE_MAX)
        .collect()
    }

    /// Whether nothing more will happen.
    pub fn ended(&self) -> bool {
        self.next_step().is_none()
    }
}

/// Everything that the meta group knows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Tables {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// 16 bytes; empty before the cluster is founded.
    #[prost(bytes = "bytes", tag = "2")]
    pub cluster: Bytes,
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<NodeRow>,
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    #[prost(message, repeated, tag = "5")]
    pub ranges: Vec<RangeRow>,
    #[prost(message, repeated, tag = "6")]
    pub replicas: Vec<ReplicasRow>,
    /// By name, then version.
    #[prost(message, repeated, tag = "7")]
    pub catalogues: Vec<CatalogueRow>,
    /// In the order in which they were opened.
    #[prost(message, repeated, tag = "8")]
    pub jobs: Vec<JobRow>,
    /// The highest id that a node ever had.
    #[prost(uint64, tag = "9")]
    pub last_node: u64,
    /// Where slots should be, where that is not where they are; sorted, all of them, or none.
    #[prost(message, repeated, tag = "10")]
    pub wanted: Vec<RangeRow>,
    /// By id.
    #[prost(message, repeated, tag = "11")]
    pub moves: Vec<MoveRow>,
    /// The highest id that a move ever had.
    #[prost(uint64, tag = "12")]
    pub last_move: u64,
    /// The highest id that a shard ever had; 0 before any was added.
    #[prost(uint32, tag = "13")]
    pub last_shard: u32,
    /// Why slots did not go where they were wanted, in words; empty where they did.
    #[prost(string, tag = "14")]
    pub halted: String,
    /// Older identities of this cluster.
    #[prost(message, repeated, tag = "15")]
    pub former: Vec<FormerRow>,
    /// Ids of the last wishes for a layout, oldest first.
    #[prost(string, repeated, tag = "16")]
    pub wishes: Vec<String>,
}

/// An identity that this cluster had, or that of the cluster whose backup it was made of.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FormerRow {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: Bytes,
    /// It was made of a backup; else one node went on alone.
    #[prost(bool, tag = "2")]
    pub is_restored: bool,
}

/// One node goes on alone, because the majority is lost.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Recover {
    /// The new identity, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: Bytes,
    #[prost(uint64, tag = "2")]
    pub node: u64,
}

/// A node was heard to follow the meta group: from then on an empty directory of its is a lost one.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Seen {
    #[prost(uint64, tag = "1")]
    pub node: u64,
}

/// Founds the cluster: nodes, even slot ranges, replicas. Once.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Found {
    #[prost(bytes = "bytes", tag = "1")]
    pub cluster: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub nodes: Vec<NodeRow>,
    #[prost(message, repeated, tag = "3")]
    pub ranges: Vec<RangeRow>,
    #[prost(message, repeated, tag = "4")]
    pub replicas: Vec<ReplicasRow>,
}

/// A node says where it is reached.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutNode {
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeRow>,
}

/// A new node asks for an id.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Join {
    #[prost(string, tag = "1")]
    pub address: String,
    /// As [`NodeRow::ticket`].
    #[prost(bytes = "bytes", tag = "2")]
    pub ticket: Bytes,
}

/// An operator says what is wanted of nodes, and where replicas go by that.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetNode {
    #[prost(uint64, tag = "1")]
    pub node: u64,
    #[prost(enumeration = "NodeState", tag = "2")]
    pub state: i32,
}

/// Where replicas should be.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Place {
    /// Their `held` is not looked at.
    #[prost(message, repeated, tag = "1")]
    pub rows: Vec<ReplicasRow>,
}

/// The leader of a shard confirms who its voters are.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Held {
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    #[prost(uint64, repeated, tag = "2")]
    pub nodes: Vec<u64>,
    /// Of the row that this was found for; one that changed since is not confirmed.
    #[prost(uint64, tag = "3")]
    pub changes: u64,
}

/// Where slots should be. Moves follow one by one; shards that have no slots then are given up.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetLayout {
    /// Sorted, all slots; none stops where things stand.
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<RangeRow>,
    /// New shards, with the ids that follow the last one.
    #[prost(message, repeated, tag = "2")]
    pub shards: Vec<ReplicasRow>,
    /// Of the wish; one that was heard already changes nothing. Empty where nobody sends it twice.
    #[prost(string, tag = "3")]
    pub wish: String,
}

/// Begins to move slots.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct StartMove {
    #[prost(uint32, tag = "1")]
    pub first: u32,
    #[prost(uint32, tag = "2")]
    pub last: u32,
    #[prost(uint32, tag = "3")]
    pub from: u32,
    #[prost(uint32, tag = "4")]
    pub to: u32,
}

/// Decides a move: the first decision stands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Decide {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(bool, tag = "2")]
    pub commit: bool,
    /// Why no more is to be moved until an operator asks again; empty to go on.
    #[prost(string, tag = "3")]
    pub halt: String,
}

/// A shard knows the decision of a move.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Settled {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint32, tag = "2")]
    pub shard: u32,
}

/// Gives up a shard without slots.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Retire {
    #[prost(uint32, tag = "1")]
    pub shard: u32,
}

/// Opens a job with all its steps.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OpenJob {
    #[prost(message, optional, tag = "1")]
    pub job: Option<JobRow>,
}

/// Records what came of steps that were carried out together.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EndSteps {
    #[prost(string, tag = "1")]
    pub job: String,
    #[prost(message, repeated, tag = "2")]
    pub ends: Vec<StepEnd>,
}

/// What came of a step.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StepEnd {
    /// Index among the job's steps.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    #[prost(enumeration = "StepState", tag = "2")]
    pub state: i32,
    #[prost(string, tag = "3")]
    pub detail: String,
    #[prost(uint32, tag = "4")]
    pub refusal: u32,
}

/// Gives a catalogue's content its version number.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Register {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
    #[prost(uint32, tag = "3")]
    pub effective: u32,
}

/// What is replicated.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Command {
    #[prost(message, tag = "2")]
    Found(Found),
    #[prost(message, tag = "3")]
    PutNode(PutNode),
    #[prost(message, tag = "4")]
    OpenJob(OpenJob),
    #[prost(message, tag = "5")]
    EndSteps(EndSteps),
    #[prost(message, tag = "6")]
    Register(Register),
    #[prost(message, tag = "7")]
    Join(Join),
    #[prost(message, tag = "8")]
    SetNode(SetNode),
    #[prost(message, tag = "9")]
    Place(Place),
    #[prost(message, tag = "10")]
    Held(Held),
    #[prost(message, tag = "11")]
    SetLayout(SetLayout),
    #[prost(message, tag = "12")]
    StartMove(StartMove),
    #[prost(message, tag = "13")]
    Decide(Decide),
    #[prost(message, tag = "14")]
    Settled(Settled),
    #[prost(message, tag = "15")]
    Retire(Retire),
    #[prost(message, tag = "16")]
    Recover(Recover),
    #[prost(message, tag = "17")]
    Seen(Seen),
}

/// One entry of the meta group's log.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Entry {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(oneof = "Command", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17")]
    pub command: Option<Command>,
}

/// What came of a command.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Outcome {
    /// The refusal's number in the domain; 0: done.
    #[prost(uint32, tag = "1")]
    pub refusal: u32,
    #[prost(string, tag = "2")]
    pub detail: String,
    /// The version that a catalogue has.
    #[prost(uint32, tag = "3")]
    pub version: u32,
    /// Nothing had to be done.
    #[prost(bool, tag = "4")]
    pub unchanged: bool,
    /// The id that a node has.
    #[prost(uint64, tag = "5")]
    pub node: u64,
}

/// The bytes of an entry.
pub fn encode(command: Command) -> Bytes {
    Entry { format: FORMAT, command: Some(command) }.encode_to_vec().into()
}
