//! What is wrong with a document that a person wrote: where in it, what, and what to do about it. A checker collects
//! all problems before it answers. How a file is read and how a caret is drawn under the place lives with the reader.

use std::fmt;

use serde::Serialize;

/// One step from a document's top to a node in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum PathPart {
    Key(String),
    Index(usize),
}

/// Whether a document with this problem may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth reading, does not stop an apply.
    Warning,
    /// The document is refused.
    Error,
}

/// One thing that is wrong in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// From the top of the document to the field, as the reader of the file needs it.
    pub path: Vec<PathPart>,
    /// What is wrong and why, with the values, in the words of the document's fields.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    pub severity: Severity,
}

impl Problem {
    /// True where the document must not be applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `skus[3].price: unknown price 's3-tiers'; declare it under prices`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.path.iter().enumerate() {
            match part {
                PathPart::Key(key) if place == 0 => write!(f, "{key}")?,
                PathPart::Key(key) => write!(f, ".{key}")?,
                PathPart::Index(index) => write!(f, "[{index}]")?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// A place in a document, built step by step while it is walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<PathPart>);

impl Place {
    /// The document itself.
    pub fn top() -> Place {
        Place::default()
    }

    pub fn key(&self, key: &str) -> Place {
        let mut path = self.0.clone();
        path.push(PathPart::Key(key.to_owned()));
        Place(path)
    }

    pub fn index(&self, index: usize) -> Place {
        let mut path = self.0.clone();
        path.push(PathPart::Index(index));
        Place(path)
    }
}

/// The problems found so far.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds an error.
    pub fn error(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(place, message.into(), help.into(), Severity::Error);
    }

    /// Adds a warning.
    pub fn warning(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(place, message.into(), help.into(), Severity::Warning);
    }

    /// Adds an error whose sentence already says what to do, as those of ids and numbers do.
    pub fn refuse(&mut self, place: &Place, error: impl fmt::Display) {
        self.push(place, error.to_string(), String::new(), Severity::Error);
    }

    fn push(&mut self, place: &Place, message: String, help: String, severity: Severity) {
        let help = (!help.is_empty()).then_some(help);
        self.0.push(Problem { path: place.0.clone(), message, help, severity });
    }

    /// True where something stops the document.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Problem::is_error)
    }

    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_a_sentence_with_its_place() {
        let mut problems = Problems::default();
        let place = Place::top().key("skus").index(3).key("price");
        problems.warning(&Place::top(), "nothing is priced", "");
        assert!(!problems.has_errors());
        problems.error(&place, "unknown price 's3'", "declare it under prices");
        assert!(problems.has_errors());
        let read: Vec<String> = problems.into_vec().iter().map(Problem::to_string).collect();
        assert_eq!(read, ["nothing is priced", "skus[3].price: unknown price 's3'; declare it under prices"]);
    }
}
