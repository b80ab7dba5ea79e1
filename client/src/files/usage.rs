//! Usage files: JSON lines and CSV, read line by line; a bad line is told and the rest goes on, a cut-off end is an
//! error. Sending the records is `cli`'s matter.
//!
//! JSON lines: one object a line, with the fields of [`UsageRecord`]. CSV: a header that names the same fields;
//! attributes are columns `attributes.NAME`; an empty cell is an absent field.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use csv::StringRecord;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::usage::record::UsageRecord;

use crate::error::Error;

/// A longer line is no usage record; it is refused without keeping it in memory.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// How a usage file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    JsonLines,
    Csv,
}

impl Format {
    /// By the file's name: `.csv` is CSV, everything else JSON lines.
    pub fn of(path: &Path) -> Format {
        let csv = path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("csv"));
        if csv { Format::Csv } else { Format::JsonLines }
    }
}

/// One line of a usage file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// From 1; the line that the record begins on.
    pub line: u64,
    /// The record, or why it is none.
    pub record: Result<UsageRecord, String>,
}

/// A usage file that is being read; after an `Err` nothing follows.
pub struct UsageReader {
    path: PathBuf,
    kind: Kind,
    over: bool,
}

enum Kind {
    JsonLines { input: BufReader<File>, line: u64 },
    Csv { reader: Box<csv::Reader<BufReader<File>>>, columns: Columns, ends_with_line_feed: bool, end: u64 },
}

impl UsageReader {
    /// Opens a file. A CSV header that lacks a needed column, or has an unknown one, is an error.
    pub fn open(path: &Path) -> Result<UsageReader, Error> {
        let input = BufReader::with_capacity(BUFFER_BYTES, open(path)?);
        let kind = match Format::of(path) {
            Format::JsonLines => Kind::JsonLines { input, line: 0 },
            Format::Csv => Kind::csv(path, input)?,
        };
        Ok(UsageReader { path: path.to_owned(), kind, over: false })
    }

    fn cut_off(&self, line: u64, why: &str) -> Error {
        Error::invalid(format!(
            "{}: line {line} is cut off: {why}; what came before stands, push the file again when the line is complete",
            self.path.display()
        ))
    }
}

impl Iterator for UsageReader {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = match &mut self.kind {
            Kind::JsonLines { input, line } => next_json(input, line),
            Kind::Csv { reader, columns, ends_with_line_feed, end } => {
                next_csv(reader, columns, *ends_with_line_feed, *end)
            }
        };
        match next {
            Next::Row(row) => Some(Ok(*row)),
            Next::End => {
                self.over = true;
                None
            }
            Next::CutOff(line, why) => {
                self.over = true;
                Some(Err(self.cut_off(line, &why)))
            }
            Next::Failed(error) => {
                self.over = true;
                Some(Err(Error::invalid(format!("{} cannot be read: {error}", self.path.display()))))
            }
        }
    }
}

enum Next {
    Row(Box<Row>),
    End,
    CutOff(u64, String),
    Failed(std::io::Error),
}

fn next_json(input: &mut BufReader<File>, line: &mut u64) -> Next {
    loop {
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if let Err(error) = input.by_ref().take(limit).read_until(b'\n', &mut bytes) {
            return Next::Failed(error);
        }
        if bytes.is_empty() {
            return Next::End;
        }
        *line += 1;
        let complete = bytes.last() == Some(&b'\n');
        if !complete && bytes.len() > LINE_BYTES_MAX {
            if let Err(error) = skip_line(input) {
                return Next::Failed(error);
            }
            let why = format!("the line has more than {LINE_BYTES_MAX} bytes; a record is a few hundred");
            return Next::Row(Box::new(Row { line: *line, record: Err(why) }));
        }
        let text = bytes.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let record = serde_json::from_slice::<UsageRecord>(text).map_err(|error| json_words(&error));
        return match record {
            // A closed object is complete, with or without a line feed behind it.
            Err(why) if !complete => Next::CutOff(*line, why),
            record => Next::Row(Box::new(Row { line: *line, record })),
        };
    }
}

fn skip_line(input: &mut BufReader<File>) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                input.consume(at + 1);
                return Ok(());
            }
            None => {
                let length = buffer.len();
                input.consume(length);
            }
        }
    }
}

/// `column 17: invalid type: ...`: the line is the file's, the column serde's.
fn json_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]).replace('`', "'");
    let advice = if what.starts_with("invalid type") && what.contains("expected a string") && what.contains("'") {
        "; quote it: decimals are strings"
    } else {
        ""
    };
    format!("column {}: {what}{advice}", error.column())
}

/// Which column holds what.
#[derive(Debug, Default)]
struct Columns {
    id: Option<usize>,
    account: usize,
    service: usize,
    usage_type: usize,
    operation: Option<usize>,
    region: Option<usize>,
    quantity: usize,
    start: usize,
    end: Option<usize>,
    amount: Option<usize>,
    corrects: Option<usize>,
    attributes: Vec<(usize, String)>,
}

const CSV_FIELDS: &str =
    "id, account, service, usage_type, operation, region, quantity, start, end, amount, corrects and attributes.NAME";

impl Columns {
    fn of(header: &StringRecord) -> Result<Columns, String> {
        let mut columns = Columns::default();
        let mut needed =
            [("account", None), ("service", None), ("usage_type", None), ("quantity", None), ("start", None)];
        for (at, name) in header.iter().enumerate() {
            let name = name.trim().trim_start_matches('\u{feff}');
            if let Some(found) = needed.iter_mut().find(|(needed, _)| *needed == name) {
                found.1 = Some(at);
                continue;
            }
            match name {
                "id" => columns.id = Some(at),
                "operation" => columns.operation = Some(at),
                "region" => columns.region = Some(at),
                "end" => columns.end = Some(at),
                "amount" => columns.amount = Some(at),
                "corrects" => columns.corrects = Some(at),
                _ => match name.strip_prefix("attributes.") {
                    Some(attribute) if !attribute.is_empty() => columns.attributes.push((at, attribute.to_owned())),
                    _ => return Err(format!("column '{name}' is not known; the columns are {CSV_FIELDS}")),
                },
            }
        }
        let at = |place: usize| {
            let (name, at) = needed[place];
            at.ok_or_else(|| format!("column '{name}' is missing; the columns are {CSV_FIELDS}"))
        };
        (columns.account, columns.service, columns.usage_type) = (at(0)?, at(1)?, at(2)?);
        (columns.quantity, columns.start) = (at(3)?, at(4)?);
        Ok(columns)
    }

    fn record(&self, row: &StringRecord) -> Result<UsageRecord, String> {
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let some = |at: Option<usize>| at.map(cell).filter(|text| !text.is_empty());
        let text = |at: Option<usize>| some(at).unwrap_or_default().to_owned();
        let said = |name: &str, why: String| format!("{name}: {why}");
        Ok(UsageRecord {
            id: text(self.id),
            account: AccountId::new(cell(self.account)).map_err(|bad| said("account", bad.to_string()))?,
            service: cell(self.service).to_owned(),
            usage_type: cell(self.usage_type).to_owned(),
            operation: text(self.operation),
            region: text(self.region),
            quantity: cell(self.quantity).parse().map_err(|bad| said("quantity", format!("{bad}")))?,
            start: cell(self.start).parse::<Timestamp>().map_err(|bad| said("start", bad.to_string()))?,
            end: some(self.end)
                .map(|value| value.parse::<Timestamp>().map_err(|bad| said("end", bad.to_string())))
                .transpose()?,
            attributes: self
                .attributes
                .iter()
                .filter_map(|(at, name)| Some((name.clone(), some(Some(*at))?.to_owned())))
                .collect(),
            amount: some(self.amount)
                .map(|value| value.parse().map_err(|bad| said("amount", format!("{bad}"))))
                .transpose()?,
            corrects: some(self.corrects).map(str::to_owned),
        })
    }
}

impl Kind {
    fn csv(path: &Path, mut input: BufReader<File>) -> Result<Kind, Error> {
        let failed = |why: String| Error::invalid(format!("{}: line 1: {why}", path.display()));
        let ends_with_line_feed = ends_with_line_feed(&mut input).map_err(|error| failed(error.to_string()))?;
        let end = input.get_ref().metadata().map_err(|error| failed(error.to_string()))?.len();
        let mut reader = Box::new(csv::ReaderBuilder::new().from_reader(input));
        let header = reader.headers().map_err(|error| failed(error.to_string()))?.clone();
        let columns = Columns::of(&header).map_err(failed)?;
        Ok(Kind::Csv { reader, columns, ends_with_line_feed, end })
    }
}

fn ends_with_line_feed(input: &mut BufReader<File>) -> std::io::Result<bool> {
    let length = input.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if length > 0 {
        input.seek(SeekFrom::End(-1))?;
        input.read_exact(&mut last)?;
    }
    input.seek(SeekFrom::Start(0))?;
    Ok(last == [b'\n'])
}

fn next_csv(reader: &mut csv::Reader<BufReader<File>>, columns: &Columns, complete: bool, end: u64) -> Next {
    let mut row = StringRecord::new();
    let before = reader.position().line();
    let read = reader.read_record(&mut row);
    let line = row.position().map_or(before, csv::Position::line);
    // Without a line feed nobody can tell 12 from the beginning of 1234.
    let is_last = reader.position().byte() >= end;
    match read {
        Ok(false) => Next::End,
        Ok(true) if is_last && !complete => {
            Next::CutOff(line, "it has no line feed at its end; add one if it is complete".to_owned())
        }
        Ok(true) => Next::Row(Box::new(Row { line, record: columns.record(&row) })),
        Err(error) => {
            let line = error.position().map_or(line, csv::Position::line);
            let why = match error.into_kind() {
                csv::ErrorKind::Io(error) => return Next::Failed(error),
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("the row has {len} cells, the header {expected_len}")
                }
                csv::ErrorKind::Utf8 { .. } => "the row is not UTF-8".to_owned(),
                _ => "the row cannot be read".to_owned(),
            };
            if is_last && !complete {
                Next::CutOff(line, why)
            } else {
                Next::Row(Box::new(Row { line, record: Err(why) }))
            }
        }
    }
}

/// Lines and digest of a file's beginning: of its first `lines` lines, or of all that end with a line feed. `None` where
/// it has fewer lines than asked for.
pub fn mark(path: &Path, lines: Option<u64>) -> Result<Option<(u64, [u8; 32])>, Error> {
    let failed = |error: std::io::Error| Error::invalid(format!("{} cannot be read: {error}", path.display()));
    let mut input = BufReader::with_capacity(BUFFER_BYTES, open(path)?);
    let mut hasher = blake3::Hasher::new();
    let mut count = 0_u64;
    let mut pending: Vec<u8> = Vec::new();
    while lines.is_none_or(|lines| count < lines) {
        let buffer = input.fill_buf().map_err(failed)?;
        if buffer.is_empty() {
            break;
        }
        // Only what ends with a line feed is hashed; the rest waits for its own.
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                hasher.update(&pending);
                hasher.update(&buffer[..=at]);
                pending.clear();
                count += 1;
                input.consume(at + 1);
            }
            None => {
                pending.extend_from_slice(buffer);
                let length = buffer.len();
                input.consume(length);
            }
        }
    }
    let reached = lines.is_none_or(|lines| count == lines);
    Ok(reached.then(|| (count, *hasher.finalize().as_bytes())))
}

/// BLAKE3 of a whole file: the producer of a file that is pushed without a name.
pub fn digest(path: &Path) -> Result<blake3::Hash, Error> {
    let failed = |error: std::io::Error| Error::invalid(format!("{} cannot be read: {error}", path.display()));
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut open(path)?, &mut hasher).map_err(failed)?;
    Ok(hasher.finalize())
}

fn open(path: &Path) -> Result<File, Error> {
    let failed = |why: String| Error::invalid(format!("{} cannot be read: {why}; check the path", path.display()));
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    if file.metadata().map_err(|error| failed(error.to_string()))?.is_dir() {
        return Err(failed("it is a folder".to_owned()));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines with `ok` or the reason, and the last error.
    fn rows(name: &str, text: &str) -> (Vec<(u64, String)>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let (mut rows, mut last) = (Vec::new(), None);
        for row in UsageReader::open(&path).unwrap() {
            match row {
                Ok(row) => {
                    rows.push((row.line, row.record.map_or_else(|why| why, |record| record.quantity.to_string())))
                }
                Err(error) => last = Some(error.to_string()),
            }
        }
        (rows, last)
    }

    const GOOD: &str =
        r#"{"account":"a","service":"s","usage_type":"u","quantity":"1.50","start":"2024-09-18T22:00:00Z"}"#;

    #[test]
    fn json_lines_are_read_and_bad_ones_told() {
        let bare = GOOD.replace("\"1.50\"", "1.50");
        let (rows, last) = rows("u.jsonl", &format!("{GOOD}\n\n{bare}\nnonsense\n{GOOD}"));
        assert_eq!(last, None, "a closed object needs no line feed");
        assert_eq!(rows[0], (1, "1.5".to_owned()));
        assert_eq!(rows[1].0, 3, "empty lines are skipped and counted");
        assert!(rows[1].1.contains("quote it"), "{}", rows[1].1);
        assert!(rows[2].1.starts_with("column 2: expected"), "{}", rows[2].1);
        assert_eq!(rows[3], (5, "1.5".to_owned()));
    }

    #[test]
    fn a_cut_off_end_is_an_error_that_names_the_line() {
        let cut = &GOOD[..60];
        let (seen, last) = rows("u.jsonl", &format!("{GOOD}\n{cut}"));
        assert_eq!(seen.len(), 1);
        assert!(last.unwrap().contains("line 2 is cut off"));
        let header = "account,service,usage_type,quantity,start\n";
        let (seen, last) = rows("u.csv", &format!("{header}a,s,u,1,2024-09-18\na,s,u,2,2024-09-18"));
        assert_eq!(seen, [(2, "1".to_owned())]);
        assert!(last.unwrap().contains("line 3 is cut off"));
    }

    #[test]
    fn csv_is_read_by_its_header() {
        let text = "id,account,service,usage_type,start,quantity,attributes.model,end\n\
                    1,a,s,u,2024-09-18T22:00:00Z,0.10,x,\n\
                    2,a,s,u,yesterday,1,,\n\
                    3,a,s,u,2024-09-18,1\n\
                    \"4\",a,s,\"u\nv\",2024-09-18,1,,\n\
                    5,a,s,u,2024-09-18,1e3,,\n\
                    6,a,s,u,2024-09-18,7,,\n";
        let (rows, last) = rows("u.csv", text);
        assert_eq!(last, None);
        let lines: Vec<u64> = rows.iter().map(|row| row.0).collect();
        assert_eq!(lines, [2, 3, 4, 5, 7, 8], "numbers are lines of the file");
        assert_eq!(rows[0].1, "0.1");
        assert!(rows[1].1.starts_with("start: 'yesterday' is not a time"), "{}", rows[1].1);
        assert_eq!(rows[2].1, "the row has 6 cells, the header 8");
        assert!(rows[4].1.starts_with("quantity: '1e3'"), "{}", rows[4].1);
        assert_eq!(rows[5].1, "7");
    }

    #[test]
    fn a_header_is_checked() {
        fn check(header: &str, part: &str) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("u.csv");
            std::fs::write(&path, format!("{header}\n")).unwrap();
            let error = UsageReader::open(&path).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        check("account,service,usage_type,quantity", "column 'start' is missing");
        check("account,service,usage_type,quantity,start,colour", "column 'colour' is not known");
    }

    #[test]
    fn a_mark_counts_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.jsonl");
        std::fs::write(&path, "a\nbc\nd").unwrap();
        let expected = (2, *blake3::hash(b"a\nbc\n").as_bytes());
        assert_eq!(mark(&path, None).unwrap(), Some(expected));
        assert_eq!(mark(&path, Some(1)).unwrap(), Some((1, *blake3::hash(b"a\n").as_bytes())));
        assert_eq!(mark(&path, Some(0)).unwrap(), Some((0, *blake3::hash(b"").as_bytes())));
        assert_eq!(mark(&path, Some(3)).unwrap(), None, "the last line has no end yet");
    }
}
