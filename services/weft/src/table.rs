//! A table of text: columns as wide as they need to be, numbers to the right, no lines.

use crate::terminal::{Paint, Tone};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// What the columns of a table are called, and where their text stands.
pub(crate) type Columns = [(&'static str, Align)];

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell that is more than plain.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            columns: columns.iter().map(|&(name, align)| (name.to_owned(), align)).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The heading and the rows, a line each.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let heading: Vec<Cell> = self.columns.iter().map(|(name, _)| Cell::toned(Tone::Dim, name)).collect();
        let mut text = self.line(&heading, paint);
        for row in &self.rows {
            text.push_str(&self.line(row, paint));
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.max().unwrap_or(0).max(self.columns[column].0.chars().count())
    }

    fn line(&self, cells: &[Cell], paint: Paint) -> String {
        let mut line = String::new();
        let last = cells.iter().rposition(|cell| !cell.text.is_empty());
        for (column, (_, align)) in self.columns.iter().enumerate() {
            let Some(cell) = cells.get(column).filter(|_| Some(column) <= last) else { break };
            if column > 0 {
                line.push_str("  ");
            }
            let gap = " ".repeat(self.width(column).saturating_sub(cell.text.chars().count()));
            let text = paint.tone(cell.tone, &cell.text);
            match align {
                Align::Right => line.push_str(&format!("{gap}{text}")),
                Align::Left if Some(column) == last => line.push_str(&text),
                Align::Left => line.push_str(&format!("{text}{gap}")),
            }
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_where_their_text_does() {
        let mut table = Table::new(&[("pool", Align::Left), ("calls", Align::Right), ("note", Align::Left)]);
        table.row(vec!["cache".into(), "7".into(), "".into()]);
        table.row(vec!["database".into(), "1,204".into(), "über".into()]);
        table.row(vec!["all".into()]);
        assert_eq!(
            table.render(Paint::BARE),
            "pool      calls  note\ncache         7\ndatabase  1,204  über\nall\n"
        );
    }
}
