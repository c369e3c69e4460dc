//! One requester among ten thousand, a hundred thousand and a million simulated machines: `sim/benches/scale.rs` measures,
//! this holds the figures to "flat within a factor of two" and draws them.

use anyhow::{Context, Result, anyhow, ensure};
use plotters::prelude::*;

use crate::cargo::{cargo, root};
use crate::figure::{Bar, Figure};

/// Where the drawing goes.
const PLOT: &str = "docs/scale.svg";
const SIZE: (u32, u32) = (1_080, 360);
const MIB: f64 = 1_048_576.0;

/// One world.
struct Point {
    machines: f64,
    match_us: f64,
    machine_kib: f64,
    requester_mib: f64,
}

/// What a panel shows of each world.
type Part = fn(&Point) -> f64;

/// Measures, draws, and compares the worst world with the best.
pub fn scale() -> Result<Vec<Figure>> {
    let text = cargo(&["bench", "--bench", "scale"])?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("scale: "));
    let points = lines.map(point).collect::<Result<Vec<Point>>>()?;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Err(anyhow!("the bench printed no world:\n{text}"));
    };
    ensure!(first.machines < last.machines, "one size alone shows no slope");
    draw(&points).map_err(|error| anyhow!("{PLOT}: {error}"))?;
    let mut figures = Vec::new();
    for at in &points {
        let among = format!("one job among {} simulated machines", at.machines);
        figures.extend([
            Figure::new(format!("{among}: finding a machine for a task"), at.match_us, "us"),
            Figure::new(format!("{among}: memory for each machine"), at.machine_kib, "KiB"),
            Figure::new(format!("{among}: memory of the requester's brain"), at.requester_mib, "MiB"),
        ]);
    }
    let grows = |part: Part| {
        let parts = || points.iter().map(part);
        parts().fold(f64::MIN, f64::max) / parts().fold(f64::MAX, f64::min)
    };
    figures.extend([
        Figure::new("worst over best: finding a machine", grows(|at| at.match_us), "x").bar(Bar::AtMost(2.0)),
        Figure::new("worst over best: memory for each machine", grows(|at| at.machine_kib), "x").bar(Bar::AtMost(2.0)),
        Figure::new("worst over best: memory of the requester", grows(|at| at.requester_mib), "x")
            .bar(Bar::AtMost(2.0)),
    ]);
    Ok(figures)
}

/// `machines 10000 match_us 41 ...`
fn point(line: &str) -> Result<Point> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |name: &str| -> Result<f64> {
        let pair =
            words.chunks_exact(2).find(|pair| pair[0] == name).with_context(|| format!("no {name} in: {line}"))?;
        Ok(pair[1].parse()?)
    };
    Ok(Point {
        machines: number("machines")?,
        match_us: number("match_us")?,
        machine_kib: number("machine_bytes")? / 1_024.0,
        requester_mib: number("requester_bytes")? / MIB,
    })
}

/// Three panels side by side, each with the line that twice the smallest world's figure would be.
fn draw(points: &[Point]) -> Result<(), Box<dyn std::error::Error>> {
    let path = root().join(PLOT);
    std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let panels: [(&str, Part); 3] = [
        ("finding a machine, microseconds per task", |at| at.match_us),
        ("memory for each machine, KiB", |at| at.machine_kib),
        ("memory of the requester's brain, MiB", |at| at.requester_mib),
    ];
    for (area, (title, part)) in area.split_evenly((1, 3)).iter().zip(panels) {
        panel(area, title, &points.iter().map(|at| (at.machines, part(at))).collect::<Vec<_>>())?;
    }
    area.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    line: &[(f64, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    let (Some((from, first)), Some((to, _))) = (line.first().copied(), line.last().copied()) else {
        return Err("no points".into());
    };
    let top = line.iter().map(|(_, y)| *y).fold(2.0 * first, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(48)
        .build_cartesian_2d((from / 1.5..to * 1.5).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(4)
        .x_desc("simulated machines")
        .x_label_formatter(&|x| format!("10^{:.0}", x.log10()))
        .y_labels(6)
        .draw()?;
    chart.draw_series(LineSeries::new([(from, 2.0 * first), (to, 2.0 * first)], RED.mix(0.5)))?;
    chart.draw_series(LineSeries::new(line.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_series(line.iter().map(|at| Circle::new(*at, 4, BLUE.filled())))?;
    chart.draw_series([Text::new("twice the first", (from, 2.0 * first * 1.03), ("sans-serif", 12))])?;
    Ok(())
}
