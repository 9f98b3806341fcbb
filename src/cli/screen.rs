//! How tables and progress look on a terminal; in a pipe there is neither colour nor progress.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, TableComponent};
use indicatif::{ProgressBar, ProgressStyle};

/// A narrower terminal, or one that does not know its width, gets lines that it breaks itself.
const NARROWEST: u16 = 80;

/// From here on a table of eight columns reads well with every word written out.
const WIDE: u16 = 110;

/// A table with these column heads, as wide as the terminal at most.
pub(super) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    // Lines above, below and under the heads; none between the rows.
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .remove_style(TableComponent::HorizontalLines)
        .remove_style(TableComponent::LeftBorderIntersections)
        .remove_style(TableComponent::MiddleIntersections)
        .remove_style(TableComponent::RightBorderIntersections)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    // Set before colours are switched off, which would make the terminal's width unknown.
    if let Some(width) = table.width() {
        table.set_width(width.max(NARROWEST));
    }
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        table.force_no_tty();
    }
    table
}

/// Leaves one space between the columns instead of two.
pub(super) fn squeeze(table: &mut Table) {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 1));
    });
}

/// A number, aligned with those above it.
pub(super) fn number(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// An outcome in its colour: a mark, and its name where there is room.
pub(super) fn outcome(name: &str, room: bool) -> Cell {
    let (mark, color) = match name {
        "RECOGNIZED" => ("✓", Color::Green),
        "UNCERTAIN" => ("?", Color::Yellow),
        "NOT_RECOGNIZED" => ("✗", Color::DarkGrey),
        _ => ("!", Color::Red),
    };
    Cell::new(if room { format!("{mark} {name}") } else { mark.to_owned() }).fg(color)
}

/// Whether a table of many columns has room for long words in them.
pub(super) fn is_wide(table: &Table) -> bool {
    table.width().is_none_or(|width| width >= WIDE)
}

/// Progress on standard error, shown on a terminal only.
pub(super) fn progress(what: &'static str, length: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("the template is legal");
    ProgressBar::new(length as u64).with_style(style).with_message(what)
}

/// Microseconds for people.
pub(super) fn micros(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1_000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

/// Bytes for people.
pub(super) fn bytes(bytes: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    if bytes < 1024 * 1024 {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    } else {
        format!("{:.1} MiB", bytes as f64 / MIB)
    }
}
