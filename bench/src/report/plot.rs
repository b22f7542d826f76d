//! The plot: cost of an established flow's packet against the number of flows.

use std::fmt::{self, Write as _};

use super::Report;
use crate::{
    measure::Measurement,
    program::Program,
    scenarios::{MAGLEV, MAGLEV_IN_WINDOW, RR, Scenario},
    statistics::Summary,
    traffic::{Traffic, format_count},
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 56.0;
/// Flows at the axis's ends.
const MOST: f64 = 4e6;

/// Programs and their colours, which the colour-blind can tell apart (Okabe and Ito, "Color universal design", 2008).
const LINES: [(Program, &str); 5] = [
    (Program::Reference, "#d55e00"),
    (RR, "#0072b2"),
    (MAGLEV_IN_WINDOW, "#56b4e9"),
    (MAGLEV, "#009e73"),
    (Program::MacSwap, "#888888"),
];

/// The plot as SVG.
pub fn to_svg(report: &Report) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = all(report, &mut svg);
    svg
}

/// A point: flows, and nanoseconds a packet.
type Point = (u32, Summary);

fn all(report: &Report, svg: &mut String) -> fmt::Result {
    let rows = report.rows();
    let lines: Vec<_> = LINES
        .iter()
        .map(|&(program, colour)| (program, colour, points(&rows, program)))
        .filter(|(_, _, points)| !points.is_empty())
        .collect();
    let highest = lines
        .iter()
        .flat_map(|(_, _, points)| points)
        .map(|(_, summary)| summary.upper_quartile);
    let step = step_for(highest.fold(1.0, f64::max));
    let top = step
        * (lines
            .iter()
            .flat_map(|(_, _, points)| points)
            .fold(1.0, |most: f64, (_, s)| most.max(s.upper_quartile))
            / step)
            .ceil();
    let y = |ns: f64| HEIGHT - BOTTOM - ns.max(0.0) / top * (HEIGHT - TOP - BOTTOM);
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" fill="#222">"##
    )?;
    writeln!(svg, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>"##)?;
    writeln!(
        svg,
        r##"<text x="{LEFT}" y="24" font-size="16">Established TCP connections over IPv4, one service</text>"##
    )?;
    writeln!(
        svg,
        r##"<text x="{LEFT}" y="43" fill="#666">ns a packet net of the packet generator, median and quartiles; {}</text>"##,
        report.machine.processor
    )?;
    axes(svg, top, step, y)?;
    let mut labels = Vec::new();
    for (program, colour, points) in &lines {
        line(svg, colour, points, y)?;
        if let Some((flows, summary)) = points.last() {
            labels.push((y(summary.median), x(*flows), program, colour));
        }
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = f64::MIN;
    for (height, end, program, colour) in labels {
        // Lines that end close together must not have their names on top of each other.
        above = height.max(above + 16.0);
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" fill="{colour}">{program}</text>"##,
            end + 10.0,
            above + 4.0
        )?;
    }
    writeln!(svg, "</svg>")
}

fn points(rows: &[&Measurement], program: Program) -> Vec<Point> {
    let mut points: Vec<Point> = rows
        .iter()
        .filter(|measured| {
            measured.scenario == Scenario::new(program, Traffic::established(measured.scenario.traffic.flows))
        })
        .map(|measured| (measured.scenario.traffic.flows, measured.summary))
        .collect();
    points.sort_by_key(|(flows, _)| *flows);
    points
}

/// A round distance of lines that makes five to ten of them.
fn step_for(highest: f64) -> f64 {
    let magnitude = 10_f64.powf(highest.log10().floor());
    [0.1, 0.2, 0.5, 1.0]
        .map(|part| part * magnitude)
        .into_iter()
        .find(|step| highest / step <= 10.0)
        .unwrap_or(magnitude)
}

/// Flows are spaced by their logarithms.
fn x(flows: u32) -> f64 {
    LEFT + f64::from(flows).ln() / MOST.ln() * (WIDTH - LEFT - RIGHT)
}

fn axes(svg: &mut String, top: f64, step: f64, y: impl Fn(f64) -> f64) -> fmt::Result {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in 0..=(top / step).round() as u32 {
        let ns = f64::from(tick) * step;
        let height = y(ns);
        writeln!(
            svg,
            r##"<path d="M{LEFT} {height:.1}H{right}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{ns}</text>"##,
            LEFT - 8.0,
            height + 4.0
        )?;
    }
    for flows in [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 4_000_000] {
        let x_position = x(flows);
        writeln!(
            svg,
            r##"<path d="M{x_position:.1} {bottom}v5" stroke="#222"/><text x="{x_position:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
            bottom + 20.0,
            format_count(flows)
        )?;
    }
    writeln!(svg, r##"<path d="M{LEFT} {bottom}H{right}" stroke="#222"/>"##)?;
    let middle = (LEFT + right) / 2.0;
    writeln!(
        svg,
        r##"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">flows</text>"##,
        bottom + 42.0
    )
}

fn line(svg: &mut String, colour: &str, points: &[Point], y: impl Fn(f64) -> f64) -> fmt::Result {
    let path: Vec<String> = points
        .iter()
        .map(|(flows, summary)| format!("{:.1},{:.1}", x(*flows), y(summary.median)))
        .collect();
    writeln!(
        svg,
        r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"##,
        path.join(" ")
    )?;
    for (flows, summary) in points {
        let (x_position, low, high) = (x(*flows), y(summary.lower_quartile), y(summary.upper_quartile));
        writeln!(
            svg,
            r##"<path d="M{x_position:.1} {low:.1}V{high:.1}" stroke="{colour}"/><circle cx="{x_position:.1}" cy="{:.1}" r="3" fill="{colour}"/>"##,
            y(summary.median)
        )?;
    }
    Ok(())
}
