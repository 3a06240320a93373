use std::io::{self, Write};

use anstyle::Style;

/// One record in full: a name and a value on each line. Long values are wrapped, and indented past
/// the name.
#[derive(Default)]
pub(crate) struct Record {
    fields: Vec<(&'static str, String)>,
}

impl Record {
    pub(crate) fn push(&mut self, name: &'static str, value: impl Into<String>) {
        self.fields.push((name, value.into()));
    }

    /// Prints the fields that aren't empty.
    pub(crate) fn print(&self, out: &mut impl Write, width: Option<usize>) -> io::Result<()> {
        let heading = Style::new().bold();
        let names = self.fields.iter().map(|(name, _)| name.len());
        let indent = names.max().unwrap_or(0) + 2;
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
        for (name, value) in &self.fields {
            let mut name = *name;
            for line in value.lines().flat_map(|line| textwrap::wrap(line, room)) {
                writeln!(out, "{heading}{name:indent$}{heading:#}{line}")?;
                name = "";
            }
        }
        Ok(())
    }
}
