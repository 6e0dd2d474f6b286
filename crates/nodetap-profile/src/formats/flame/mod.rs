//! `flame`: a flame graph, an SVG that a browser can search and zoom.
//!
//! Drawn by `inferno`. Width is samples, and the frame below is the one that was called: a
//! page opens at its top, and stacks may be hundreds of frames deep. Children stand most
//! samples first from the left. Colours tell what ran: see the legend at
//! the bottom. The title is the process, the subtitle its versions and what was recorded.
//!
//! Frames narrower than 0.01 % are not drawn.

mod colors;
pub(crate) mod legend;
mod lines;

use std::io::{self, Write};

use inferno::flamegraph::color::{BackgroundColor, PaletteMap};
use inferno::flamegraph::{Direction, Options, TextTruncateDirection, from_lines};

use self::colors::Class;
use self::legend::Legend;
use self::lines::Lines;
use super::folded::frame_name;
use crate::label::visible;
use crate::{CallTree, Profile, process_label};

/// Frames narrower than this share of all, in percent, are not drawn.
const MIN_WIDTH: f64 = 0.01;

/// How many bytes of folded stacks inferno is given at most, all of which it needs in memory.
/// Only a graph of thousands of levels has more; its uppermost are then left out.
const MAX_LINES: usize = 32 << 20;

/// Writes the profile as a flame graph.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let tree = CallTree::new(profile);
    if tree.total_samples() == 0 {
        return write_empty(profile, out);
    }
    let min_samples = tree.total_samples() as f64 * MIN_WIDTH / 100.0;
    let lines = Lines::new(&tree, min_samples, MAX_LINES);

    let mut palette = PaletteMap::default();
    let mut classes = Vec::new();
    for (_, node) in tree.walk() {
        let label = tree.label(node);
        let class = Class::of(label.frame.map(|frame| profile.frame(frame)));
        let name = frame_name(&label.text);
        if palette.get(&name).is_none() {
            let color = class.color(&name);
            palette.insert(name, color);
            classes.push(class);
        }
    }
    // The frame for all samples, which inferno adds.
    palette.insert("", Class::Other.color(""));

    let mut subtitle = subtitle(profile);
    if let Some(levels) = lines.cut_to() {
        subtitle.push_str(&format!(" · cut at {levels} levels"));
    }
    let mut options = Options::default();
    options.title = title(profile);
    options.subtitle = Some(subtitle);
    options.direction = Direction::Inverted;
    options.palette_map = Some(&mut palette);
    options.bgcolors = Some(BackgroundColor::Grey);
    options.min_width = MIN_WIDTH;
    // A label begins with the function's name, which tells more than the path behind it.
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.count_name = "samples".into();
    // Sorted lines would tear a frame in two where another's name starts with its name
    // (`f a.js:1 5`, `f a.js:10 7`, `f a.js:1;g 3`). In this mode inferno takes lines in the
    // order given, last one first.
    options.flame_chart = true;

    let mut out = Legend::new(classes, out);
    from_lines(&mut options, lines.iter(), &mut out)?;
    out.finish()
}

/// What the graph is of.
fn title(profile: &Profile) -> String {
    match profile.processes() {
        [] => "nodetap".into(),
        [process] => process_label(process.pid, Some(process)),
        several => format!("{} processes", several.len()),
    }
}

/// The versions, where they are one process's, and what was recorded.
fn subtitle(profile: &Profile) -> String {
    let mut parts = Vec::new();
    if let [process] = profile.processes() {
        parts.extend(
            process
                .node
                .iter()
                .map(|it| format!("Node {}", visible(it))),
        );
        parts.extend(process.v8.iter().map(|it| format!("V8 {}", visible(it))));
    }
    let metadata = &profile.metadata;
    parts.push(format!(
        "{} samples in {:.1} s at {} Hz ({})",
        profile.sample_count(),
        metadata.duration.as_secs_f64(),
        metadata.rate_hz,
        visible(&metadata.sampler)
    ));
    parts.join(" · ")
}

/// A picture that says that there is nothing to see. Inferno's own would say `ERROR`.
fn write_empty(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let line = |y: u32, size: u32, text: &str| {
        format!(
            r#"<text x="50%" y="{y}" text-anchor="middle" font-family="monospace" font-size="{size}">{}</text>"#,
            escape_xml(text)
        )
    };
    writeln!(
        out,
        r##"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="130" viewBox="0 0 1200 130" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="#f8f8f8"/>
{}
{}
{}
</svg>"##,
        line(24, 17, &title(profile)),
        line(48, 12, &subtitle(profile)),
        line(90, 17, "no samples"),
    )
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
