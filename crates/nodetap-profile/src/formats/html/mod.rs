//! `html`: one page that a browser opens from a file, without a network.
//!
//! It has a flame graph, the same inverted, a time line, and tables by function and by
//! package. The page is put together from the files in `page/`, which are plain HTML, CSS
//! and JavaScript, and from the recording, packed by [`pack`] and written in base64: nothing
//! that the recorded program chose stands in the page as text. What the page may do is
//! restricted by a policy of its own: no connection to anywhere, no other script.

mod base64;
mod pack;
mod runs;

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use self::base64::Base64Writer;
use crate::Profile;

/// The page, with a place for each of its parts.
const PAGE: &str = include_str!("page/page.html");
/// How it looks, in this order.
const CSS: [&str; 5] = [
    include_str!("page/base.css"),
    include_str!("page/top.css"),
    include_str!("page/panes.css"),
    include_str!("page/over.css"),
    include_str!("page/print.css"),
];
/// Runs before the page is shown, so that it is never shown in the wrong colours.
const THEME: &str = include_str!("page/theme.js");
/// What the page does; one script, in this order.
const SCRIPTS: [&str; 20] = [
    include_str!("page/format.js"),
    include_str!("page/dom.js"),
    include_str!("page/read.js"),
    include_str!("page/model.js"),
    include_str!("page/tree.js"),
    include_str!("page/totals.js"),
    include_str!("page/inverted.js"),
    include_str!("page/where.js"),
    include_str!("page/colors.js"),
    include_str!("page/boxes.js"),
    include_str!("page/graph.js"),
    include_str!("page/timeline.js"),
    include_str!("page/stage.js"),
    include_str!("page/overview.js"),
    include_str!("page/tables.js"),
    include_str!("page/details.js"),
    include_str!("page/search.js"),
    include_str!("page/tooltip.js"),
    include_str!("page/header.js"),
    include_str!("page/main.js"),
];

/// Writes the profile as a page.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut rest = PAGE;
    for (place, contents) in [("{{css}}", &CSS[..]), ("{{theme}}", &[THEME])] {
        rest = put(rest, place, out)?;
        write_all(contents, out)?;
    }
    rest = put(rest, "{{recording}}", out)?;
    let base64 = Base64Writer::new(&mut *out);
    let mut packed = ZlibEncoder::new(base64, Compression::new(6));
    pack::write(profile, &mut packed)?;
    packed.finish()?.finish()?;
    rest = put(rest, "{{script}}", out)?;
    write_all(&["(() => {\n'use strict';\n"], out)?;
    write_all(&SCRIPTS, out)?;
    write_all(&["})();\n"], out)?;
    out.write_all(rest.as_bytes())
}

/// Writes what stands before `place`; what is left stands behind it.
fn put<'a>(page: &'a str, place: &str, out: &mut dyn Write) -> io::Result<&'a str> {
    let (before, after) = page.split_once(place).expect("the page has this place");
    out.write_all(before.as_bytes())?;
    Ok(after)
}

fn write_all(parts: &[&str], out: &mut dyn Write) -> io::Result<()> {
    parts
        .iter()
        .try_for_each(|part| out.write_all(part.as_bytes()))
}

#[cfg(test)]
mod tests;
