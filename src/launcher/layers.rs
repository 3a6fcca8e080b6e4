//! `drupe bench --layers`: what each layer of the jail costs at a start.

use super::measure::Samples;
use drupe::sandbox::layers::LAYERS;
use serde::Serialize;

/// Pairs of processes for each layer.
const ROUNDS: usize = 101;

#[derive(Serialize)]
struct Line {
    layer: &'static str,
    /// What a start takes longer, ns; nothing where the layer cannot be set up here.
    ns: Option<f64>,
    /// 95 % confidence interval.
    interval: Option<(f64, f64)>,
}

/// Measures every layer and prints the table.
pub fn layers(json: bool) -> anyhow::Result<()> {
    let lines: Vec<Line> = LAYERS
        .iter()
        .map(|layer| {
            let costs: Vec<f64> =
                (0..ROUNDS).map_while(|_| layer.cost().map(|(without, with)| with - without)).collect();
            let samples = Some(costs).filter(|c| c.len() == ROUNDS).and_then(|c| Samples::new(layer.name, c));
            let (ns, interval) = (samples.as_ref().map(Samples::median), samples.map(|s| s.interval()));
            Line { layer: layer.name, ns, interval }
        })
        .collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    println!("{:<60} {:>10} {:>22}", "layer", "us", "95 %");
    for l in &lines {
        let us = l.ns.map_or("n/a".into(), |ns| format!("{:.0}", ns / 1000.0));
        let span = l.interval.map_or(String::new(), |(a, b)| format!("{:.0} to {:.0}", a / 1000.0, b / 1000.0));
        println!("{:<60} {us:>10} {span:>22}", l.layer);
    }
    Ok(())
}
