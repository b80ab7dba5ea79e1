//! The demo's inputs: the files under `examples/`, compiled in, so that the demo runs from wherever the binary is.

use std::io;
use std::path::{Path, PathBuf};

/// Files that price one usage file, and what an independent calculation says of them.
pub struct Example {
    pub name: &'static str,
    pub title: &'static str,
    pub source: &'static str,
    pub root: &'static str,
    pub cycle: &'static str,
    /// YAML documents, in the order in which they are applied.
    pub documents: &'static [(&'static str, &'static str)],
    pub usage: (&'static str, &'static str),
    pub records: u64,
    /// What the independent calculation in `examples/` found to be payable.
    pub payable: &'static str,
    /// The same before it is rounded.
    pub exact_total: &'static str,
}

/// A real AWS bill: one payer, 66 accounts, 239 prices, September 2024.
pub const FOCUS: Example = Example {
    name: "focus-aws",
    title: "a real AWS month: 941 usage rows, 66 accounts, 239 prices",
    source: "FOCUS sample data, FinOps Foundation, CC BY 4.0",
    root: "1234567890123",
    cycle: "2024-09",
    documents: &[
        ("catalogue.yaml", include_str!("../../../examples/focus-aws/catalogue.yaml")),
        ("hierarchy.yaml", include_str!("../../../examples/focus-aws/hierarchy.yaml")),
    ],
    usage: ("usage.jsonl", include_str!("../../../examples/focus-aws/usage.jsonl")),
    records: 941,
    payable: "20.76",
    exact_total: "20.763017638709",
};

/// Row id, account, SKU and list cost of every row, as the source file has them.
pub const FOCUS_EXPECTED: &str = include_str!("../../../examples/focus-aws/expected.csv");

/// A real metering trace: each request of a language model, two meters, one family of six accounts.
pub const TOKENS: Example = Example {
    name: "llm-tokens",
    title: "a real metering trace: 8,819 model requests, two meters, 6 accounts",
    source: "Azure LLM inference trace, Azure Public Dataset, CC BY 4.0; accounts and prices are ours",
    root: "lumen",
    cycle: "2023-11",
    documents: &[
        ("catalogue.yaml", include_str!("../../../examples/llm-tokens/catalogue.yaml")),
        ("hierarchy.yaml", include_str!("../../../examples/llm-tokens/hierarchy.yaml")),
        ("contract.yaml", include_str!("../../../examples/llm-tokens/contract.yaml")),
    ],
    usage: ("usage.csv", include_str!("../../../examples/llm-tokens/usage.csv")),
    records: 17_638,
    payable: "36.23",
    exact_total: "36.227936725",
};

impl Example {
    /// Writes the usage file into `folder`, where the file reader finds it.
    pub fn write_usage(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join(format!("{}-{}", self.name, self.usage.0));
        std::fs::write(&path, self.usage.1)?;
        Ok(path)
    }
}
