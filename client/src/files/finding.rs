//! What is wrong in a file: the place, the sentence, the help, and how it is shown: with a caret in plain text, in
//! colour on a terminal, or as data. Finding the problems is the readers' matter.

use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use reckoner_shard::base::problem::{Problem, Severity};
use serde::Serialize;

/// A file's name and text, shared by all that is found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// One thing that is wrong at a place of a file.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The file.
    pub source: Arc<Source>,
    /// Bytes in the text; `None` where the whole file is meant.
    pub span: Option<Range<usize>>,
    /// What and why, with the values.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
    /// Whether it stops an apply.
    pub severity: Severity,
}

/// A finding as data: the form of `-o json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingRow {
    pub file: String,
    /// From 1; absent where the whole file is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// In characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    pub severity: Severity,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Finding {
    /// A problem that stops an apply.
    pub fn error(source: &Arc<Source>, span: Option<Range<usize>>, message: impl Into<String>) -> Finding {
        let (source, message) = (source.clone(), message.into());
        Finding { source, span, message, help: None, severity: Severity::Error }
    }

    /// The same with advice.
    pub fn with_help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    /// A problem that the domain found, at a place that the reader knows.
    pub fn of_problem(source: &Arc<Source>, span: Option<Range<usize>>, problem: &Problem) -> Finding {
        Finding {
            source: source.clone(),
            span,
            message: problem.message.clone(),
            help: problem.help.clone(),
            severity: problem.severity,
        }
    }

    /// True where the file must not be applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Line and column, both from 1, the column in characters.
    pub fn place(&self) -> Option<(usize, usize)> {
        let at = self.span.as_ref()?.start.min(self.source.text.len());
        let before = &self.source.text[..floor(&self.source.text, at)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Some((line, column))
    }

    /// As data.
    pub fn row(&self) -> FindingRow {
        let (line, column) = self.place().unzip();
        FindingRow {
            file: self.source.name.clone(),
            line,
            column,
            severity: self.severity,
            message: self.message.clone(),
            help: self.help.clone(),
        }
    }

    /// In plain text, with the line and a caret under the place.
    pub fn plain(&self) -> String {
        let word = self.word();
        let mut out = format!("{word}: {}\n", self.message);
        match self.place() {
            None => {
                let _ = writeln!(out, " --> {}", self.source.name);
            }
            Some((line, column)) => {
                let text = self.source.text.lines().nth(line - 1).unwrap_or_default();
                let marked = self.span.as_ref().map_or(0, |span| {
                    self.source.text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("").chars().count()
                });
                let width = line.to_string().len();
                // Tabs keep their width when the padding repeats them.
                let pad: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                let carets = "^".repeat(marked.max(1));
                let _ = writeln!(out, "{:width$}--> {}:{line}:{column}", "", self.source.name);
                let _ = writeln!(out, "{:width$} |", "");
                let _ = writeln!(out, "{line} | {text}");
                let _ = writeln!(out, "{:width$} | {pad}{carets}", "");
            }
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, " = help: {help}");
        }
        out
    }

    /// For a terminal, with colours.
    pub fn fancy(&self) -> String {
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode());
        let view = View { finding: self, code: NamedSource::new(&self.source.name, self.source.text.clone()) };
        match handler.render_report(&mut out, &view) {
            Ok(()) => out,
            Err(fmt::Error) => self.plain(),
        }
    }

    fn word(&self) -> &'static str {
        match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// `examples/catalogue.yaml:3:5: unknown field 'nmae'`: one line, for logs and errors.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.source.name, self.message)?,
            None => write!(f, "{}: {}", self.source.name, self.message)?,
        }
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Finding {}

/// A finding as miette wants to see it.
#[derive(Debug)]
struct View<'f> {
    finding: &'f Finding,
    code: NamedSource<String>,
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for View<'_> {}

impl Diagnostic for View<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.finding.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.finding.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::underline(span))))
    }
}

/// The character boundary at or before `at`.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { name: "c.yaml".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn a_caret_stands_under_the_place() {
        let source = source("kind: x\nü: [1, zwei]\n");
        let at = source.text.find("zwei").unwrap();
        let finding = Finding::error(&source, Some(at..at + 4), "not a number").with_help("write 2");
        let expected = "\
error: not a number
 --> c.yaml:2:8
  |
2 | ü: [1, zwei]
  |        ^^^^
 = help: write 2
";
        assert_eq!(finding.plain(), expected);
        assert_eq!(finding.to_string(), "c.yaml:2:8: not a number; write 2");
        assert!(finding.fancy().contains("not a number"));
        let row = serde_json::to_string(&finding.row()).unwrap();
        let expected =
            r#"{"file":"c.yaml","line":2,"column":8,"severity":"error","message":"not a number","help":"write 2"}"#;
        assert_eq!(row, expected);
    }

    #[test]
    fn a_place_beyond_the_text_is_its_end() {
        let source = source("a: 1\n");
        assert_eq!(Finding::error(&source, Some(99..100), "cut off").place(), Some((2, 1)));
        assert_eq!(Finding::error(&source, None, "empty").plain(), "error: empty\n --> c.yaml\n");
    }
}
