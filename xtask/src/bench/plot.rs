//! Draws what a run of `bench issuance` wrote as JSON: throughput and latency over the number of clients.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use clap::Args;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::measurement::Measurement;
use super::report::Report;
use crate::failure::{Context, Failure};

const SIZE: (u32, u32) = (960, 400);

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// What `bench issuance --json` wrote
    figures: PathBuf,
    /// The picture, SVG
    picture: PathBuf,
}

pub(crate) fn run(args: &PlotArgs) -> Result<(), Failure> {
    let reading = || format!("cannot read {}", args.figures.display());
    let report: Report = serde_json::from_slice(&fs::read(&args.figures).context(reading)?).context(reading)?;
    let picture = draw(&report.rows).map_err(|error| Failure::new(format!("cannot draw: {error}")))?;
    fs::write(&args.picture, picture).context(|| format!("cannot write {}", args.picture.display()))
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    /// A server's and type's lines have one colour.
    colour: usize,
    /// Of the stroke.
    width: u32,
    /// Clients, and the figure.
    points: Vec<(f64, f64)>,
}

/// A line for each server and type of challenge.
fn lines(rows: &[Measurement], suffix: &str, width: u32, figure: impl Fn(&Measurement) -> f64) -> Vec<Line> {
    let mut lines = BTreeMap::<String, Vec<(f64, f64)>>::new();
    for row in rows {
        let server = row.database.map_or_else(|| row.server.clone(), |it| it.to_string());
        let name = format!("{server}, {}{suffix}", row.challenge);
        lines.entry(name).or_default().push((row.clients.into(), figure(row)));
    }
    let line = |(colour, (name, points))| Line { name, colour, width, points };
    lines.into_iter().enumerate().map(line).collect()
}

type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

fn draw(rows: &[Measurement]) -> Drawn<String> {
    let mut picture = String::new();
    let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    chart(&left, "certificates a second", &lines(rows, "", 2, |row| row.certificates_per_second))?;
    let median = lines(rows, " p50", 2, |row| row.issuance_ms.p50);
    let slow = lines(rows, " p99", 1, |row| row.issuance_ms.p99);
    let alternating: Vec<Line> = median.into_iter().zip(slow).flat_map(<[Line; 2]>::from).collect();
    chart(&right, "issuance, ms", &alternating)?;
    area.present()?;
    drop((left, right, area));
    Ok(picture)
}

/// What an axis must show.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), it| (least.min(it), most.max(it)));
    if least < most { least..most } else { most * 0.5..most * 2.0 }
}

fn chart(area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, lines: &[Line]) -> Drawn<()> {
    let points = || lines.iter().flat_map(|it| &it.points);
    let clients = range(points().map(|it| it.0));
    let most = points().map(|it| it.1).fold(1.0, f64::max) * 1.25;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(clients.log_scale().base(2.0), 0.0..most)?;
    let (x_label, y_label) = (|clients: &f64| format!("{clients:.0}"), |figure: &f64| format!("{figure:.0}"));
    let mut mesh = chart.configure_mesh();
    mesh.x_label_formatter(&x_label).y_label_formatter(&y_label).x_desc("clients");
    mesh.light_line_style(WHITE).max_light_lines(1).draw()?;
    for line in lines {
        let style = Palette99::pick(line.colour).to_rgba().stroke_width(line.width);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?
            .label(line.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_point_of_its_line_and_named_in_the_picture() {
        let rows: Vec<Measurement> = [(1, 40.0), (8, 90.0)]
            .map(|(clients, rate)| Measurement {
                clients,
                certificates_per_second: rate,
                ..super::super::measurement::tests::row()
            })
            .into();
        let drawn = lines(&rows, "", 2, |row| row.certificates_per_second);
        let [line] = drawn.as_slice() else { panic!("{drawn:?}") };
        assert_eq!(line.points, [(1.0, 40.0), (8.0, 90.0)]);
        let picture = draw(&rows).unwrap();
        assert!(picture.starts_with("<svg") && picture.contains(&line.name), "{picture}");
    }
}
