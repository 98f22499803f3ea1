//! Two servers in turn, A B B A: a machine that gets slower or faster meanwhile does so for both, so that their ratio says
//! more than the figures of two runs.

use serde::{Deserialize, Serialize};

use super::measurement::{Measurement, Setting};
use super::report;
use crate::failure::Failure;
use crate::table::Table;

/// A figure of a row: its name, and where it is.
type Figure = (&'static str, fn(&Measurement) -> Option<f64>);

/// The figure of a server's start.
pub(super) const START: &str = "start ms";

const FIGURES: [Figure; 10] = [
    ("certificates/s", |row| Some(row.certificates_per_second)),
    ("issuance p50 ms", |row| Some(row.issuance_ms.p50)),
    ("issuance p99 ms", |row| Some(row.issuance_ms.p99)),
    ("CPU ms", |row| row.cpu_ms_per_certificate),
    ("database's CPU ms", |row| row.database_cpu_ms_per_certificate),
    ("statements", |row| row.statements_per_certificate),
    ("fsyncs", |row| row.fsyncs_per_certificate),
    ("pages read", |row| row.pages_read_per_certificate),
    ("written octets", |row| row.written_octets_per_certificate),
    (START, |row| row.start_ms),
];

/// How the second server's figure stands to the first one's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ratio {
    pub(super) setting: String,
    pub(super) figure: String,
    /// The medians of all their measurements.
    pub(super) first: f64,
    pub(super) second: f64,
    /// Of the rounds: the median, and the two that are farthest from it.
    pub(super) ratio: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// A round: first, second, second, first.
type Round = [Measurement; 4];

/// Measures both, so many rounds.
pub(super) fn measure(
    setting: &Setting,
    rounds: u32,
    a: impl Fn() -> Result<Measurement, Failure>,
    b: impl Fn() -> Result<Measurement, Failure>,
) -> Result<(Vec<Measurement>, Vec<Ratio>), Failure> {
    let rounds = (0..rounds).map(|_| Ok([a()?, b()?, b()?, a()?])).collect::<Result<Vec<Round>, Failure>>()?;
    let ratios = FIGURES.iter().filter_map(|figure| ratio(&setting.to_string(), figure, &rounds)).collect();
    Ok((rounds.into_iter().flatten().collect(), ratios))
}

/// Nothing, where one of them does not know the figure, or the first has none of it.
fn ratio(setting: &str, (name, figure): &Figure, rounds: &[Round]) -> Option<Ratio> {
    let figures = rounds.iter().map(|[a, b, c, d]| Some([figure(a)?, figure(b)?, figure(c)?, figure(d)?]));
    let figures = figures.collect::<Option<Vec<_>>>()?;
    let first = sorted(figures.iter().flat_map(|[a, _, _, d]| [*a, *d]));
    let second = sorted(figures.iter().flat_map(|[_, b, c, _]| [*b, *c]));
    let ratios = sorted(figures.iter().map(|[a, b, c, d]| (b + c) / (a + d)));
    let (least, most) = (*ratios.first()?, *ratios.last()?);
    ratios.iter().all(|it| it.is_finite()).then(|| Ratio {
        setting: setting.to_owned(),
        figure: (*name).to_owned(),
        first: median(&first),
        second: median(&second),
        ratio: median(&ratios),
        least,
        most,
    })
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// Of what is sorted; between the two in the middle where there are two.
fn median(sorted: &[f64]) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    f64::midpoint(at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2))
}

pub(super) fn table(ratios: &[Ratio]) -> Table<6> {
    let heading = ["setting", "figure", "before", "after", "after / before", "of the rounds"];
    let rows = ratios.iter().map(|it| {
        [
            it.setting.clone(),
            it.figure.clone(),
            format!("{:.2}", it.first),
            format!("{:.2}", it.second),
            format!("{:.3}", it.ratio),
            format!("{:.3} to {:.3}", it.least, it.most),
        ]
    });
    report::table(heading, rows)
}

#[cfg(test)]
mod tests {
    use super::super::measurement::tests::row;
    use super::*;

    const RATE: Figure = ("certificates/s", |row| Some(row.certificates_per_second));

    fn round(rates: [f64; 4]) -> Round {
        rates.map(|certificates_per_second| Measurement { certificates_per_second, ..row() })
    }

    #[test]
    fn a_machine_that_slows_down_evenly_does_not_change_the_ratio() {
        let rounds = [round([100.0, 180.0, 160.0, 70.0]), round([60.0, 100.0, 80.0, 30.0]), round([10.0; 4])];
        let ratio = ratio("sqlite", &RATE, &rounds).unwrap();
        assert_eq!((ratio.least, ratio.ratio, ratio.most), (1.0, 2.0, 2.0));
        assert_eq!((ratio.first, ratio.second), (45.0, 90.0));
    }

    #[test]
    fn what_one_does_not_know_or_never_does_has_no_ratio() {
        let rounds = [round([1.0; 4])];
        assert_eq!(ratio("sqlite", &("database", |row| row.database_cpu_ms_per_certificate), &rounds), None);
        assert_eq!(ratio("sqlite", &("nothing", |_| Some(0.0)), &rounds), None);
        assert_eq!(ratio("sqlite", &RATE, &[]), None);
    }
}
