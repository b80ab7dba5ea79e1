//! Text tables that an accountant can read: sections in brackets, YAML documents as users write them, and rows with a
//! bar between cells and the arithmetic behind a `#`. What is done with them is up to the test.

use std::collections::BTreeMap;

/// A file of sections, `[name]` or `[name argument]` on a line of its own, in order.
pub struct Tables {
    sections: Vec<(String, String)>,
}

/// A row: header to cell.
pub type Cells = BTreeMap<String, String>;

impl Tables {
    /// Reads a file. What stands before the first section is its story and is skipped.
    pub fn read(text: &str) -> Tables {
        let mut sections: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                Some(name) => sections.push((name.to_owned(), String::new())),
                None => {
                    if let Some((_, body)) = sections.last_mut() {
                        body.push_str(line);
                        body.push('\n');
                    }
                }
            }
        }
        Tables { sections }
    }

    /// The text of a section.
    pub fn section(&self, name: &str) -> Option<&str> {
        self.sections.iter().find(|(own, _)| own == name).map(|(_, body)| body.as_str())
    }

    /// Arguments of all sections of that name: the cycles of `[lines 2026-09]`.
    pub fn arguments(&self, name: &str) -> Vec<&str> {
        let split = self.sections.iter().filter_map(|(own, _)| own.split_once(' '));
        split.filter(|(own, _)| *own == name).map(|(_, argument)| argument).collect()
    }

    /// The rows of a section; `-` is an empty cell. Panics where a row has more or fewer cells than the header.
    pub fn rows(&self, name: &str) -> Vec<Cells> {
        let Some(body) = self.section(name) else { return Vec::new() };
        let split = |line: &str| -> Vec<String> {
            let line = line.split('#').next().unwrap_or("");
            let cell = |cell: &str| if cell.trim() == "-" { String::new() } else { cell.trim().to_owned() };
            line.split('|').map(cell).collect()
        };
        let mut lines = body.lines().filter(|line| !line.split('#').next().unwrap_or("").trim().is_empty());
        let header = split(lines.next().unwrap_or_else(|| panic!("section [{name}] is empty")));
        let row = |line: &str| {
            let cells = split(line);
            assert_eq!(cells.len(), header.len(), "section [{name}]: {line}");
            header.iter().cloned().zip(cells).collect()
        };
        lines.map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_rows_and_notes() {
        let tables = Tables::read("# story\n[a]\nx | y\n1 | -  # 1 + 0\n\n[b 2026-09]\nz\n");
        let row = |x: &str, y: &str| Cells::from([("x".to_owned(), x.to_owned()), ("y".to_owned(), y.to_owned())]);
        assert_eq!(tables.rows("a"), [row("1", "")]);
        assert_eq!(tables.arguments("b"), ["2026-09"]);
        assert!(tables.rows("b 2026-09").is_empty());
        assert!(tables.rows("none").is_empty());
    }
}
