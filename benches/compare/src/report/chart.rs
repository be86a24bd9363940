//! The chart: how each subject does relative to the kernel, on a logarithmic scale, longer is better.

use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Machine, Sample, median};
use crate::plan::{BASE, Better, ROWS, Row, Subject};

const BARS: [(Subject, RGBColor); 3] = [
    (Subject::Usernet, RGBColor(0, 114, 178)),
    (Subject::UsernetPlain, RGBColor(86, 180, 233)),
    (Subject::Smoltcp, RGBColor(213, 94, 0)),
];
const WIDTH: i32 = 900;
/// Where bars begin and end.
const PLOT: Range<i32> = 330..850;
const TOP: i32 = 78;
const BAR: i32 = 13;
const ROW: i32 = 3 * BAR + 11;
/// The least and the largest ratio shown.
const SCALE: (f64, f64) = (1.0 / 32.0, 4.0);

/// A row with what each bar says, larger than one where the subject is better than the kernel.
type Line<'a> = (&'a Row, Vec<(usize, f64)>);

pub fn draw(machine: &Machine, samples: &[Sample], path: &Path) -> io::Result<()> {
    let lines: Vec<Line> = ROWS.iter().filter_map(|row| line(samples, row)).collect();
    let rows = i32::try_from(lines.len()).unwrap_or(0);
    let height = TOP + rows * ROW + 54;
    let area = SVGBackend::new(path, (WIDTH.unsigned_abs(), height.unsigned_abs())).into_drawing_area();
    paint(&area, machine, &lines).map_err(|error| io::Error::other(format!("drawing {}: {error}", path.display())))
}

fn line<'a>(samples: &[Sample], row: &'a Row) -> Option<Line<'a>> {
    let base = median(samples, row, BASE)?;
    let relative = |value: f64| if row.better == Better::More { value / base } else { base / value };
    let of =
        |(place, (subject, _)): (usize, &(Subject, RGBColor))| Some((place, relative(median(samples, row, *subject)?)));
    let bars: Vec<(usize, f64)> = BARS.iter().enumerate().filter_map(of).collect();
    (!bars.is_empty()).then_some((row, bars))
}

fn x(ratio: f64) -> i32 {
    let (least, most) = (SCALE.0.ln(), SCALE.1.ln());
    let share = (ratio.clamp(SCALE.0, SCALE.1).ln() - least) / (most - least);
    #[expect(clippy::cast_possible_truncation, reason = "a pixel")]
    let along = (share * f64::from(PLOT.end - PLOT.start)) as i32;
    PLOT.start + along
}

type Painted = Result<(), Box<dyn std::error::Error>>;

fn paint<'a>(area: &DrawingArea<SVGBackend<'a>, Shift>, machine: &Machine, lines: &[Line]) -> Painted
where
    SVGBackend<'a>: DrawingBackend<ErrorType: 'static>,
{
    area.fill(&WHITE)?;
    let style = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    let anchored = |size: i32, h: HPos| style(size).pos(Pos::new(h, VPos::Center));
    let bottom = TOP + i32::try_from(lines.len())? * ROW;
    area.draw_text("usernet relative to the kernel (tokio::net over veth); longer is better", &style(18), (14, 12))?;
    for (place, (subject, colour)) in (0..).zip(BARS) {
        let left = 330 + place * 185;
        area.draw(&Rectangle::new([(left, 44), (left + 12, 56)], colour.filled()))?;
        area.draw_text(subject.title(), &anchored(12, HPos::Left), (left + 17, 50))?;
    }
    for exponent in -5..=2 {
        let ratio = 2_f64.powi(exponent);
        let colour = if exponent == 0 { BLACK } else { RGBColor(215, 215, 215) };
        area.draw(&PathElement::new([(x(ratio), TOP - 6), (x(ratio), bottom)], colour.stroke_width(1)))?;
        let label = if exponent < 0 { format!("1/{}×", 1 << -exponent) } else { format!("{ratio}×") };
        area.draw_text(&label, &anchored(12, HPos::Center), (x(ratio), bottom + 12))?;
    }
    for (number, (row, bars)) in (0..).zip(lines) {
        let top = TOP + number * ROW;
        area.draw_text(row.title, &anchored(13, HPos::Right), (PLOT.start - 10, top + 3 * BAR / 2))?;
        for (place, ratio) in bars {
            let (_, colour) = BARS[*place];
            let y = top + i32::try_from(*place)? * BAR;
            area.draw(&Rectangle::new([(PLOT.start, y), (x(*ratio), y + BAR - 1)], colour.filled()))?;
            area.draw_text(&format!("{ratio:.2}×"), &anchored(11, HPos::Left), (x(*ratio) + 4, y + BAR / 2))?;
        }
    }
    area.draw_text(&machine.0, &style(11), (14, bottom + 32))?;
    area.present()?;
    Ok(())
}
