//! How verbs speak: data as a table or JSON on stdout, talk on stderr, colours and progress only on a terminal.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::files::finding::Finding;

/// The form of data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Table,
    Json,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NEXT: Style = AnsiColor::Cyan.on_default();

/// The mouth of one run.
#[derive(Clone, Debug)]
pub struct Out {
    form: Form,
}

impl Out {
    pub fn new(form: Form) -> Out {
        Out { form }
    }

    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Prints data as JSON, one document.
    pub fn json(&self, data: &impl Serialize) {
        let text = serde_json::to_string_pretty(data).expect("rows of strings and numbers are always JSON");
        print_out(&text);
    }

    /// Prints a table; numbers align right, `right` says in which columns.
    pub fn table(&self, header: &[&str], right: &[usize], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if std::io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(header.iter().map(|name| name.to_uppercase()));
        table.add_rows(rows);
        for column in right {
            if let Some(column) = table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        print_out(&text.join("\n"));
    }

    /// Prints a line of data for people; nothing in JSON form.
    pub fn line(&self, text: &str) {
        if !self.is_json() {
            print_out(text);
        }
    }

    /// Says something on stderr.
    pub fn say(&self, text: &str) {
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// Says what to try next; nothing in JSON form, which is read by programs.
    pub fn next(&self, text: &str) {
        if !self.is_json() {
            let _ = writeln!(anstream::stderr(), "{NEXT}next:{NEXT:#} {text}");
        }
    }

    /// Says that something is doubtful.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(anstream::stderr(), "{WARNING}warning:{WARNING:#} {text}");
    }

    /// Says what failed.
    pub fn error(&self, error: &dyn std::fmt::Display) {
        let _ = writeln!(anstream::stderr(), "{ERROR}error:{ERROR:#} {error}");
    }

    /// Shows what is wrong in files.
    pub fn findings(&self, findings: &[Finding]) {
        let fancy = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for finding in findings {
            let text = if fancy { finding.fancy() } else { finding.plain() };
            let _ = writeln!(anstream::stderr(), "{}", text.trim_end());
        }
    }

    /// A progress bar over `total` things on a terminal; silent elsewhere.
    pub fn progress(&self, total: u64, what: &'static str) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let template = format!("{{bar:30}} {{human_pos}}/{{human_len}} {what}  {{per_sec}}  {{eta}} left");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style)
    }
}

/// A reader that closed its end has seen enough.
fn print_out(text: &str) {
    let _ = writeln!(anstream::stdout(), "{text}");
}
