//! Latency by percentile, as a picture.

use std::{error::Error, fmt::Write as _, path::Path};

use plotters::prelude::*;

use crate::{
    Latency, Report,
    report::{plural, time},
};

/// Draws the latency of each report: percentiles to the right, on a scale on which every nine more
/// is as far as the one before, and times upwards, on a logarithmic one. A curve ends where fewer
/// operations were timed than tell of a percentile.
///
/// Errors: no report has a latency, or the file cannot be written.
#[allow(clippy::cast_precision_loss)] // Figures for people.
pub fn plot(path: &Path, reports: &[Report]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let curves: Vec<_> = (reports.iter())
        .filter_map(|report| Some((report, report.latency.as_ref()?)))
        .collect();
    let lows = curves
        .iter()
        .filter_map(|(_, latency)| latency.percentile(0.0));
    let low = lows.min().ok_or("no latency was measured")?.max(1) as f64;
    let high = (curves.iter().map(|(_, latency)| latency.max).max()).unwrap_or(1) as f64;
    let root = SVGBackend::new(path, (900, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = curves
        .first()
        .map_or_else(String::new, |(report, _)| report.workload.clone());
    let mut chart = ChartBuilder::on(&root)
        .caption(
            format!("{title}: latency by percentile"),
            ("sans-serif", 24),
        )
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..NINES_MAX, (low * 0.8..high * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("latency")
        .x_labels(6)
        .label_style(("sans-serif", 16))
        .axis_desc_style(("sans-serif", 16))
        .x_label_formatter(&|nines| label(*nines))
        .y_label_formatter(&|nanos| time(*nanos))
        .draw()?;
    for (number, (report, latency)) in curves.iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let mut name = format!("{}, {}", report.store, plural(report.tasks as u64, "task"));
        if curves.len() > 1 {
            let _ = write!(name, ", run {}", number + 1);
        }
        chart
            .draw_series(LineSeries::new(points(latency), color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 16))
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}

/// The 99.999th percentile is the last on the scale.
const NINES_MAX: f64 = 5.0;

#[allow(clippy::cast_precision_loss)] // Figures for people.
fn points(latency: &Latency) -> Vec<(f64, f64)> {
    let all = latency.percentiles.iter();
    let beyond = |percentile: f64| latency.timed as f64 * (1.0 - percentile / 100.0);
    all.filter(|(percentile, _)| *percentile < 100.0 && beyond(*percentile) >= 1.0 - 1e-6)
        .map(|(percentile, nanos)| (nines(*percentile), *nanos as f64))
        .collect()
}

/// How many nines a percentile has: 90 is one, 99 two.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

fn label(nines: f64) -> String {
    let percentile = 100.0 * (1.0 - 10_f64.powf(-nines));
    match nines {
        ..0.5 => format!("{percentile:.0}"),
        ..2.5 => format!("p{percentile:.0}"),
        ..3.5 => format!("p{percentile:.1}"),
        ..4.5 => format!("p{percentile:.2}"),
        _ => format!("p{percentile:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_labelled_by_their_nines() {
        assert_eq!(label(nines(99.9)), "p99.9");
        assert_eq!(label(nines(90.0)), "p90");
        assert_eq!(label(0.0), "0");
    }
}
