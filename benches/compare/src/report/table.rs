//! The table, in Markdown that also reads well on a terminal.

use super::{Machine, Sample, median};
use crate::plan::{BASE, Better, COLUMNS, ROWS, Row, Subject, Wanted};

pub fn markdown(machine: &Machine, samples: &[Sample]) -> String {
    let mut lines = vec![header()];
    lines.extend(ROWS.iter().filter_map(|row| line(samples, row)));
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (number, cells) in lines.iter().enumerate() {
        text.push_str(&joined(cells, &widths));
        if number == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&joined(&rules, &widths));
        }
    }
    format!(
        "{text}\n{}\n× is the ratio to tokio::net over veth; ↑ more is better, ↓ less is better. Every count and content verified.\n",
        machine.0
    )
}

fn joined(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("| {} |\n", padded.join(" | "))
}

fn header() -> Vec<String> {
    let mut cells = vec!["workload".to_owned()];
    cells.extend(COLUMNS.iter().map(|subject| subject.title().to_owned()));
    cells.push("wanted".to_owned());
    cells
}

/// A row that has at least one figure.
fn line(samples: &[Sample], row: &Row) -> Option<Vec<String>> {
    let base = median(samples, row, BASE);
    let mut cells = vec![title(row)];
    for subject in COLUMNS {
        // The pair has no column of its own.
        let alone = row.workload.subjects() == [Subject::UsernetPair] && subject == Subject::Usernet;
        let subject = if alone { Subject::UsernetPair } else { subject };
        let value = median(samples, row, subject);
        let ratio =
            base.filter(|_| subject != BASE).zip(value).map(|(base, value)| format!(" ({}×)", number(value / base)));
        let cell = value.map_or_else(|| "–".to_owned(), number);
        cells.push(cell + &ratio.unwrap_or_default());
    }
    if cells.iter().skip(1).all(|cell| cell == "–") {
        return None;
    }
    cells.push(match row.wanted {
        Wanted::Nothing => String::new(),
        Wanted::Ratio(must, goal) => format!("{must}×, goal {goal}×"),
        Wanted::Figure(text) => text.to_owned(),
    });
    Some(cells)
}

fn title(row: &Row) -> String {
    let arrow = if row.better == Better::More { '↑' } else { '↓' };
    format!("{}, {} {arrow}", row.title, row.unit)
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
