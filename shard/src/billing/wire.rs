//! The messages of a bill's body as they are stored. Only `codec.rs` reads and writes them. Numbers are never used again
//! for something else.

/// A 128-bit integer, zigzag, so that small ones of either sign are short.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Wide {
    #[prost(uint64, tag = "1")]
    pub low: u64,
    #[prost(uint64, tag = "2")]
    pub high: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Body {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(string, repeated, tag = "2")]
    pub strings: Vec<String>,
    #[prost(uint32, tag = "3")]
    pub root: u32,
    #[prost(uint32, tag = "4")]
    pub payer: u32,
    #[prost(uint32, tag = "5")]
    pub currency: u32,
    #[prost(uint32, tag = "6")]
    pub cycle: u32,
    #[prost(message, required, tag = "7")]
    pub catalogue: Version,
    #[prost(message, optional, tag = "8")]
    pub contract: Option<Version>,
    #[prost(uint32, repeated, tag = "9")]
    pub stages: Vec<u32>,
    #[prost(message, optional, tag = "10")]
    pub difference: Option<Difference>,
    #[prost(message, repeated, tag = "11")]
    pub dimensions: Vec<Dimensions>,
    #[prost(message, repeated, tag = "12")]
    pub items: Vec<Item>,
    #[prost(message, repeated, tag = "13")]
    pub pools: Vec<Pool>,
    #[prost(message, repeated, tag = "14")]
    pub sources: Vec<Source>,
    #[prost(message, repeated, tag = "15")]
    pub lines: Vec<Line>,
    #[prost(message, repeated, tag = "16")]
    pub unpriced: Vec<Unpriced>,
    #[prost(message, required, tag = "17")]
    pub total: Wide,
    #[prost(message, required, tag = "18")]
    pub payable: Wide,
    #[prost(message, repeated, tag = "19")]
    pub balances: Vec<Balance>,
    #[prost(message, optional, tag = "30")]
    pub exchange: Option<Exchange>,
    /// A billing group's name.
    #[prost(uint32, optional, tag = "31")]
    pub pro_forma: Option<u32>,
    #[prost(message, optional, tag = "32")]
    pub refund: Option<Refund>,
    /// 0: the first.
    #[prost(uint32, tag = "33")]
    pub machine: u32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refund {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub body: Vec<u8>,
    #[prost(message, required, tag = "3")]
    pub asked: Wide,
    #[prost(message, required, tag = "4")]
    pub left: Wide,
    #[prost(uint32, tag = "5")]
    pub reason: u32,
    #[prost(uint32, tag = "6")]
    pub reference: u32,
}

/// The currency that it leads to is the body's.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Exchange {
    #[prost(uint32, tag = "1")]
    pub clause: u32,
    #[prost(uint32, tag = "2")]
    pub from: u32,
    #[prost(message, required, tag = "3")]
    pub rate: Wide,
    #[prost(sint64, tag = "4")]
    pub since: i64,
    #[prost(sint32, tag = "5")]
    pub decimals: i32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Balance {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(message, required, tag = "2")]
    pub before: Wide,
    #[prost(message, required, tag = "3")]
    pub change: Wide,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Version {
    #[prost(uint32, tag = "1")]
    pub name: u32,
    #[prost(uint32, tag = "2")]
    pub effective: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Difference {
    #[prost(bool, tag = "1")]
    pub interim: bool,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub earlier: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Dimensions {
    #[prost(uint32, tag = "1")]
    pub service: u32,
    #[prost(uint32, tag = "2")]
    pub usage_type: u32,
    #[prost(uint32, tag = "3")]
    pub operation: u32,
    #[prost(uint32, tag = "4")]
    pub region: u32,
    /// Names and values in turn.
    #[prost(uint32, repeated, tag = "5")]
    pub attributes: Vec<u32>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Counted {
    #[prost(message, required, tag = "1")]
    pub value: Wide,
    #[prost(uint32, tag = "2")]
    pub scale: u32,
    #[prost(uint64, tag = "3")]
    pub records: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Item {
    #[prost(uint32, tag = "1")]
    pub account: u32,
    #[prost(uint32, tag = "2")]
    pub dimensions: u32,
    /// Absent where a clause charges.
    #[prost(uint32, optional, tag = "3")]
    pub meter: Option<u32>,
    #[prost(uint32, tag = "4")]
    pub sku: u32,
    #[prost(uint32, tag = "5")]
    pub unit: u32,
    #[prost(message, required, tag = "6")]
    pub counted: Counted,
    #[prost(message, required, tag = "7")]
    pub quantity: Wide,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Tier {
    #[prost(uint32, tag = "1")]
    pub index: u32,
    #[prost(message, required, tag = "2")]
    pub begin: Wide,
    #[prost(message, optional, tag = "3")]
    pub end: Option<Wide>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Pool {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Keys and values in turn.
    #[prost(uint32, repeated, tag = "2")]
    pub keys: Vec<u32>,
    #[prost(message, required, tag = "3")]
    pub quantity: Wide,
    #[prost(message, repeated, tag = "4")]
    pub slices: Vec<Slice>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Slice {
    #[prost(message, required, tag = "1")]
    pub tier: Tier,
    #[prost(message, required, tag = "2")]
    pub quantity: Wide,
    #[prost(message, required, tag = "3")]
    pub rate: Wide,
    #[prost(message, required, tag = "4")]
    pub amount: Wide,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Source {
    /// 1 free units, 2 free pool, 3 price, 4 clause, 5 rounding, 20 per record, 21 minimum, 22 maximum,
    /// 23 fee, 24 refund.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint32, tag = "2")]
    pub id: u32,
    #[prost(uint32, tag = "3")]
    pub text: u32,
    #[prost(message, optional, tag = "4")]
    pub tier: Option<Tier>,
    #[prost(message, optional, tag = "5")]
    pub package: Option<Wide>,
    #[prost(message, optional, tag = "6")]
    pub rate: Option<Wide>,
    #[prost(bool, tag = "7")]
    pub drawn: bool,
    /// Of a minimum or maximum.
    #[prost(message, optional, tag = "20")]
    pub limit: Option<Wide>,
    /// Of a fee: its period's two ends, then those of the part.
    #[prost(sint64, repeated, tag = "21")]
    pub times: Vec<i64>,
    /// Of a refund: the bill's.
    #[prost(uint64, tag = "22")]
    pub number: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Line {
    #[prost(uint32, tag = "1")]
    pub stage: u32,
    #[prost(uint32, optional, tag = "2")]
    pub item: Option<u32>,
    #[prost(uint32, tag = "3")]
    pub source: u32,
    #[prost(message, optional, tag = "4")]
    pub base: Option<Wide>,
    #[prost(message, optional, tag = "5")]
    pub quantity: Option<Wide>,
    #[prost(message, required, tag = "6")]
    pub amount: Wide,
    #[prost(uint32, optional, tag = "7")]
    pub pool: Option<u32>,
    #[prost(uint32, repeated, tag = "8")]
    pub from: Vec<u32>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Unpriced {
    #[prost(uint32, tag = "1")]
    pub account: u32,
    #[prost(uint32, tag = "2")]
    pub dimensions: u32,
    #[prost(uint32, tag = "3")]
    pub meter: u32,
    #[prost(message, required, tag = "4")]
    pub counted: Counted,
    #[prost(uint32, tag = "5")]
    pub reason: u32,
}
