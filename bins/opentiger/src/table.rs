//! Tables for people: as wide as the terminal, lines without frames.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use crate::console::{Console, clean};

/// A table with its headings; what is too long for the terminal is wrapped.
#[derive(Debug)]
pub(crate) struct Columns(Table);

impl Columns {
    pub(crate) fn new(console: &Console, headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(console.width);
        table.set_header(headings.iter().copied());
        Self(table)
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().map(|cell| clean(&cell)));
    }

    pub(crate) fn print(mut self, console: &Console) -> std::io::Result<()> {
        for column in self.0.column_iter_mut() {
            column.set_padding((0, 1));
        }
        for line in self.0.lines() {
            console.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// Names and what belongs to them, one to a line.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    pub(crate) fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, text.into()));
    }

    /// Adds what is there.
    pub(crate) fn add_some(&mut self, name: &'static str, text: Option<impl Into<String>>) {
        if let Some(text) = text {
            self.add(name, text);
        }
    }

    pub(crate) fn print(&self, console: &Console) -> std::io::Result<()> {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, text) in &self.0 {
            let mut lines = text.lines();
            console.line(format!("{name:<width$}  {}", lines.next().unwrap_or_default()))?;
            for line in lines {
                console.line(format!("{:<width$}  {line}", ""))?;
            }
        }
        Ok(())
    }
}
