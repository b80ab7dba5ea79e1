//! What the demo shows: steps, progress, checks, a bill. Colours and moving bars only on a terminal.

use std::time::{Duration, Instant};

use anstream::println;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use reckoner_shard::base::money::{Money, checked_sum};
use reckoner_shard::billing::bill::{BillBody, LineKind, Source};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();

/// Prints the story and remembers whether every check passed.
pub struct Screen {
    started: Instant,
    passed: u32,
    failed: u32,
}

impl Screen {
    pub fn new() -> Screen {
        Screen { started: Instant::now(), passed: 0, failed: 0 }
    }

    /// A new part of the story.
    pub fn step(&self, title: &str) {
        println!("\n{DIM}{:>5.1} s{DIM:#}  {BOLD}{title}{BOLD:#}", self.started.elapsed().as_secs_f64());
    }

    /// A fact.
    pub fn say(&self, text: &str) {
        println!("         {text}");
    }

    /// Something that looks alarming and is meant to happen.
    pub fn event(&self, text: &str) {
        println!("         {YELLOW}{text}{YELLOW:#}");
    }

    /// A check: what was compared and what came out.
    pub fn check(&mut self, good: bool, text: &str) {
        if good {
            self.passed += 1;
            println!("         {GREEN}ok{GREEN:#}   {text}");
        } else {
            self.failed += 1;
            println!("         {RED}FAIL{RED:#} {text}");
        }
    }

    /// A bar over `total` records; nothing where nobody looks.
    pub fn bar(&self, total: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("         {bar:30} {pos}/{len} records  {msg}")
            .expect("the template is well formed");
        ProgressBar::new(total).with_style(style.progress_chars("=> "))
    }

    /// The bill in short: what each service or clause comes to, then the total.
    pub fn bill(&self, body: &BillBody, number: &str, lines_max: usize) {
        self.say(&format!(
            "{BOLD}bill {number}{BOLD:#} of {} for {}, {} lines, catalogue {}",
            body.payer,
            body.cycle,
            body.lines.len(),
            body.catalogue.name
        ));
        let mut rows: std::collections::BTreeMap<String, Money> = std::collections::BTreeMap::new();
        for line in &body.lines {
            let name = match (line.kind(), body.item(line)) {
                (LineKind::Usage, Some(item)) => item.series.service.clone(),
                (_, _) => title(&line.source),
            };
            let row = rows.entry(name).or_default();
            *row = checked_sum([*row, line.amount]).unwrap_or(*row);
        }
        let mut rows: Vec<(String, Money)> = rows.into_iter().collect();
        rows.sort_by(|a, b| b.1.0.abs().cmp(&a.1.0.abs()).then(a.0.cmp(&b.0)));
        let rest = rows.split_off(rows.len().min(lines_max));
        for (name, amount) in &rows {
            self.say(&format!("  {name:<44} {amount:>20} {}", body.priced_in()));
        }
        if !rest.is_empty() {
            let sum = checked_sum(rest.iter().map(|row| row.1)).unwrap_or_default();
            self.say(&format!("  {:<44} {sum:>20} {}", format!("and {} more", rest.len()), body.priced_in()));
        }
        self.say(&format!("  {BOLD}{:<44} {:>20} {}{BOLD:#}", "to pay", body.payable, body.currency));
    }

    /// The last word; whether all checks passed.
    pub fn end(&self) -> bool {
        let took: Duration = self.started.elapsed();
        let total = self.passed + self.failed;
        println!();
        if self.failed == 0 {
            println!("{GREEN}All {total} checks passed{GREEN:#} in {:.1} s.", took.as_secs_f64());
        } else {
            println!("{RED}{} of {total} checks failed{RED:#}, see above.", self.failed);
        }
        self.failed == 0
    }
}

fn title(source: &Source) -> String {
    match source {
        Source::Clause { clause, text, .. } if text.is_empty() || **text == *clause.as_str() => {
            format!("clause {clause}")
        }
        Source::Clause { clause, text, .. } => format!("clause {clause}: {text}"),
        Source::Rounding => "rounding to what can be paid".to_owned(),
        Source::Refund { number } => format!("refund of bill {number}"),
        Source::FreeUnits { price } | Source::Price { price, .. } => format!("price {price}"),
        Source::PricePart { price, part } => format!("price {price}, {}", part.name()),
        Source::Fee { fee, .. } => format!("fee {fee}"),
        Source::FreePool { pool } => format!("free pool {pool}"),
    }
}
