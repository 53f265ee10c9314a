//! A plain table in aligned columns.

use std::fmt;

/// Rows under a head; columns are as wide as their widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of figures, aligned to the right.
    figures: &'static [usize],
}

impl Table {
    /// A table with this head. `figures` are the columns to align to the right.
    pub(super) fn new(head: &[&str], figures: &'static [usize]) -> Self {
        Self {
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
            figures,
        }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if self.figures.contains(&column) {
                    line.push_str(&format!("{cell:>width$}  "));
                } else {
                    line.push_str(&format!("{cell:<width$}  "));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_figures_to_the_right() {
        let mut table = Table::new(&["name", "usd"], &[1]);
        table.row(["a".into(), "10.00".into()]);
        assert_eq!(table.to_string(), "name    usd\na     10.00\n");
    }
}
