//! `text` by package: a table of whose code the time went to.
//!
//! ```text
//! Total samples: 1000
//!
//!           self         caused          total
//!    512  51.2 %    810  81.0 %   1000 100.0 %  own code (shop)
//!    301  30.1 %      0   0.0 %    340  34.0 %  native
//! ```
//!
//! A row is an npm package, the program's own code, Node's, or what is no script: V8, its
//! collector, native code, the kernel. *self* are samples that had it on top, and these of
//! all rows are all samples. So are those of *caused*, which puts what is no script down to
//! the innermost script below it: what V8, native code and the kernel did for a package is
//! that package's.

use std::io::{self, Write};

use crate::by::package_row;
use crate::label::visible;
use crate::weights::{rows_by, stack_counts, weights};
use crate::{Kind, Profile};

/// What the samples without any frame are called.
const NO_FRAMES: &str = "(no frames)";

#[derive(Debug, Default)]
struct Row {
    name: String,
    on_top: u64,
    caused: u64,
    total: u64,
}

/// Writes the table, rows with most samples on top first.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = rows(profile);
    rows.sort_by(|a, b| {
        let key = |row: &Row| (row.on_top, row.caused, row.total);
        key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name))
    });
    let all = profile.sample_count();
    writeln!(out, "Total samples: {all}")?;
    if rows.is_empty() {
        return Ok(());
    }
    let width = all.to_string().len().max(6);
    let share = |samples: u64| {
        let percent = 100.0 * samples as f64 / all as f64;
        format!("{samples:>width$} {percent:5.1} %")
    };
    // Above the share's last letter.
    let column = width + "  50.0 %".len();
    let [on_top, caused, total] = ["self", "caused", "total"];
    writeln!(
        out,
        "\n {on_top:>column$} {caused:>column$} {total:>column$}"
    )?;
    for row in &rows {
        let [on_top, caused, total] = [row.on_top, row.caused, row.total].map(share);
        writeln!(out, " {on_top} {caused} {total}  {}", row.name)?;
    }
    writeln!(
        out,
        "\n\
         self    what runs is its code\n\
         caused  it is, or what runs was called by its code: V8, native code, the kernel\n\
         total   its code is on the stack"
    )
}

fn rows(profile: &Profile) -> Vec<Row> {
    let (numbers, row_of) = rows_by(profile, package_row);
    let (weights, without_frames) = weights(profile, &row_of, numbers.len());
    let mut rows: Vec<Row> = weights
        .into_iter()
        .map(|weight| Row {
            on_top: weight.self_samples,
            total: weight.total_samples,
            ..Row::default()
        })
        .collect();
    for (name, number) in numbers {
        rows[number].name = visible(&name);
    }
    for (stack, count) in stack_counts(profile) {
        let mut frames = profile
            .stack_frames(stack)
            .map(|id| (id, profile.frame(id)));
        let Some((top, frame)) = frames.next() else {
            continue;
        };
        let is_script = |kind| matches!(kind, Kind::Js | Kind::Wasm);
        let script = match is_script(frame.kind) {
            true => Some(top),
            false => frames.find(|(_, it)| is_script(it.kind)).map(|it| it.0),
        };
        rows[row_of[script.unwrap_or(top).index()]].caused += count;
    }
    if without_frames > 0 {
        rows.push(Row {
            name: NO_FRAMES.to_owned(),
            on_top: without_frames,
            caused: without_frames,
            total: without_frames,
        });
    }
    // Frames that no sample has any more.
    rows.retain(|row| row.total > 0);
    rows
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::testing::{add, bare, empty, hostile, js, small};
    use crate::{By, Format, Frame, Package, Profile, Tier, formats};

    fn by_package(profile: &Profile) -> String {
        let mut out = Vec::new();
        formats::write_by(profile, Format::Text, By::Package, None, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A thousand samples of a program with two packages.
    pub(crate) fn of_packages() -> Profile {
        let (mut profile, thread) = empty();
        let of = |file: &str, name: &str, is_dependency| Frame {
            file: Some(file.into()),
            package: Some(Arc::new(Package {
                name: name.into(),
                version: Some("4.18.2".into()),
                is_dependency,
            })),
            ..js("f", 1, Tier::Optimized)
        };
        let own = of("/srv/shop/app.js", "shop", false);
        let express = of("/srv/shop/node_modules/express/index.js", "express", true);
        let node = Frame {
            file: Some("node:net".into()),
            ..js("emit", 1, Tier::Optimized)
        };
        let native = Frame::new(crate::Kind::Native, "crc32");
        let collector = Frame::new(crate::Kind::Pseudo, "(garbage collector)");
        let scavenge = Frame::new(crate::Kind::Pseudo, "(scavenge)");
        let worker = Frame::new(crate::Kind::Pseudo, "(v8 worker)");
        let marking = Frame::new(crate::Kind::Pseudo, "(concurrent marking)");
        let base = [node.clone(), express.clone(), own.clone()];
        let on = |more: &[Frame]| [&base, more].concat();
        add(&mut profile, thread, &on(&[]), 300);
        add(
            &mut profile,
            thread,
            &on(std::slice::from_ref(&native)),
            200,
        );
        add(&mut profile, thread, &on(&[collector, scavenge]), 150);
        add(&mut profile, thread, &on(&[express]), 100);
        add(&mut profile, thread, &base[..2], 80);
        add(&mut profile, thread, &base[..1], 70);
        add(&mut profile, thread, &[worker, marking], 60);
        add(&mut profile, thread, &[native], 30);
        add(&mut profile, thread, &[], 10);
        profile
    }

    #[test]
    fn each_sample_is_of_one_row_on_top_and_caused_by_one() {
        assert_eq!(
            by_package(&of_packages()),
            "\
Total samples: 1000

           self         caused          total
    300  30.0 %    650  65.0 %    750  75.0 %  own code (shop)
    230  23.0 %     30   3.0 %    230  23.0 %  native
    210  21.0 %     60   6.0 %    210  21.0 %  garbage collector
    180  18.0 %    180  18.0 %    830  83.0 %  express@4.18.2
     70   7.0 %     70   7.0 %    900  90.0 %  Node.js
     10   1.0 %     10   1.0 %     10   1.0 %  (no frames)
      0   0.0 %      0   0.0 %     60   6.0 %  V8

self    what runs is its code
caused  it is, or what runs was called by its code: V8, native code, the kernel
total   its code is on the stack
"
        );
    }

    #[test]
    fn without_packages_the_origins_are_told() {
        let text = by_package(&small());
        let rows: Vec<&str> = text.lines().skip(3).take(4).collect();
        assert_eq!(
            rows,
            [
                "      7  70.0 %      9  90.0 %      9  90.0 %  own code",
                "      1  10.0 %      1  10.0 %      1  10.0 %  (no frames)",
                "      1  10.0 %      0   0.0 %      1  10.0 %  garbage collector",
                "      1  10.0 %      0   0.0 %      1  10.0 %  native",
            ]
        );
    }

    #[test]
    fn without_samples_only_the_total_is_left() {
        assert_eq!(by_package(&bare()), "Total samples: 0\n");
        let text = by_package(&hostile());
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn other_formats_have_packages_for_frames() {
        let mut out = Vec::new();
        formats::write_by(&of_packages(), Format::Folded, By::Package, None, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
Node.js 70
Node.js;express@4.18.2 80
Node.js;express@4.18.2;own code (shop) 300
Node.js;express@4.18.2;own code (shop);native 200
Node.js;express@4.18.2;own code (shop);garbage collector 150
Node.js;express@4.18.2;own code (shop);express@4.18.2 100
V8;garbage collector 60
native 30
(no frames) 10
"
        );
    }
}
