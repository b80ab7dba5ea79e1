//! `schema`: the JSON Schema of a kind of document, for editors.

use clap::{Args, ValueEnum};

use super::Exit;
use super::output::Out;
use crate::error::Error;
use crate::files::schema::{Kind, schema};

/// Arguments of `schema`.
#[derive(Args, Clone, Debug)]
pub struct SchemaArguments {
    /// Kind of document
    #[arg(value_enum, ignore_case = true)]
    pub kind: Name,
}

/// The kinds, spelt as documents spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Name {
    Catalogue,
    Hierarchy,
    Contract,
}

/// Runs `schema`; a schema is JSON in whatever form.
pub fn run(arguments: &SchemaArguments, out: &Out) -> Result<Exit, Error> {
    let kind = match arguments.kind {
        Name::Catalogue => Kind::Catalogue,
        Name::Hierarchy => Kind::Hierarchy,
        Name::Contract => Kind::Contract,
    };
    out.json(&schema(kind));
    Ok(Exit::Ok)
}
