//! Programs that were made from TypeScript, in the ways that people do: every frame is
//! where Node.js itself says that it is, with `--enable-source-maps`.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use common::call_sites::Dump;
use common::matrix::{self, Node, Test};
use common::recording::Frame;
use common::target::Target;
use serde::Deserialize;
use tempfile::TempDir;

/// The Node.js that transpilers run on.
const BUILDS: &str = "24.21.0";

/// What a program was made in is kept for all versions that run it.
struct Program {
    /// Where it is, without symbolic links.
    folder: PathBuf,
    run: Run,
    _keep: TempDir,
}

/// How it is run.
#[derive(Deserialize)]
struct Run {
    flags: Vec<String>,
    script: PathBuf,
}

impl Program {
    /// The program, made in this way of the fixture's.
    fn made(way: &str) -> Program {
        let keep = tempfile::tempdir().expect("a folder");
        let folder = keep.path().canonicalize().expect("a folder");
        let output = Command::new(common::node(BUILDS))
            .arg(common::fixture("source_maps/build.js"))
            .args([&common::transpilers(), &folder])
            .arg(way)
            .output()
            .expect("cannot run Node.js");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{way}: {errors}");
        Program {
            run: serde_json::from_slice(&output.stdout).expect("how to run it"),
            folder,
            _keep: keep,
        }
    }

    /// Starts it; what it says of its own stack comes first.
    fn start(&self, node: &Node, more_flags: &[&str]) -> (Target, Vec<Place>) {
        let flags = self.run.flags.iter().map(String::as_str);
        let flags: Vec<&str> = ["--stack-trace-limit=100"]
            .into_iter()
            .chain(more_flags.iter().copied())
            .chain(flags)
            .collect();
        let node = [common::node(&node.version).into_os_string()];
        let mut target = Target::start_as(&node, &flags, &self.run.script, &[]);
        let stack: String = serde_json::from_str(&target.line()).expect("its stack");
        let places = stack.lines().filter_map(Place::parse);
        let places: Vec<Place> = places.filter(|it| self.is_shown(&it.file)).collect();
        assert!(places.len() > 12, "{stack}");
        (target, places)
    }

    /// Whether it is a file of the program that was not made: what bundlers add has no
    /// original.
    fn is_shown(&self, file: &str) -> bool {
        let path = Path::new(file);
        let is_inside = path.starts_with(&self.folder);
        file.starts_with("webpack://") || is_inside && !path.starts_with(self.folder.join("dist"))
    }

    /// The program's frames of the main thread, innermost first.
    fn frames(&self, dump: &Dump) -> Vec<Frame> {
        let frames = dump.threads[0].js().filter(|frame| {
            let file = frame.file.as_deref();
            file.is_some_and(|file| self.is_shown(file))
        });
        frames.cloned().collect()
    }
}

/// Where a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    file: String,
    line: u32,
    column: u32,
}

impl Place {
    /// That of a line of `Error.stack`: `at f (FILE:LINE:COLUMN)`.
    fn parse(line: &str) -> Option<Place> {
        let text = line.trim().strip_prefix("at ")?;
        let text = match text.strip_suffix(')') {
            Some(text) => text.split_once(" (")?.1,
            None => text.strip_prefix("async ").unwrap_or(text),
        };
        let (text, column) = text.rsplit_once(':')?;
        let (file, line) = text.rsplit_once(':')?;
        Some(Place {
            file: file.trim_start_matches("file://").to_owned(),
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        })
    }

    fn of(frame: &Frame) -> Option<Place> {
        Some(Place {
            file: frame.file.clone()?,
            line: frame.line?,
            column: frame.column?,
        })
    }
}

fn dump(target: &Target, options: &[&str]) -> Dump {
    let output = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(["dump", "--json", "-p", &target.pid().to_string()])
        .args(options)
        .output()
        .expect("cannot run nodetap");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    serde_json::from_slice(&output.stdout).expect("the JSON of a dump")
}

/// Fails unless `frames` are where `places` are, and the innermost in the same file: it
/// goes on behind where it said so.
fn assert_same(frames: &[Frame], places: &[Place], way: &str) {
    let found: Vec<Option<Place>> = frames.iter().map(Place::of).collect();
    assert_eq!(found.len(), places.len(), "{way}: {found:#?}\n{places:#?}");
    assert_eq!(frames[0].file.as_ref(), Some(&places[0].file), "{way}");
    for (index, (found, place)) in found.iter().zip(places).enumerate().skip(1) {
        assert_eq!(found.as_ref(), Some(place), "{way}: frame {index}");
    }
}

/// The functions of the program, innermost first, down to the one that is called by the
/// dependency.
const NAMES: [&str; 10] = [
    "report",
    "measure",
    "get name",
    "area",
    "viaArrow",
    "callback",
    "(anonymous)",
    "begin",
    "begin",
    "begin",
];

/// The same where the minifier has put functions into each other.
const MINIFIED: [&str; 9] = [
    "(anonymous)",
    "get name",
    "area",
    "(anonymous)",
    "(anonymous)",
    "begin",
    "begin",
    "begin",
    "begin",
];

fn check(way: &'static str) -> impl Fn(&Node) + Send + Sync {
    let made: OnceLock<Program> = OnceLock::new();
    move |node| {
        let program = made.get_or_init(|| Program::made(way));
        common::measure(|| {
            let _alone = common::one_at_a_time();
            let (target, places) = program.start(node, &["--enable-source-maps"]);
            let dumped = program.frames(&dump(&target, &[]));
            // Of the very last mapping, which says that there is no source, Node.js takes the
            // source of the one before.
            let of_bundler = usize::from(way == "webpack");
            let places = &places[..places.len() - of_bundler];
            assert_same(&dumped, places, way);
            check_recording(program, &target, places, way);
            if way == "esbuild" && node.major() == 24 {
                check_lines(&target);
            }
            check_names(&dumped, way);
        });
    }
}

fn check_recording(program: &Program, target: &Target, places: &[Place], way: &str) {
    let recording = common::recording::record(target, 0.3, &[]);
    let all = recording.samples_of(target.pid());
    let mut right = 0;
    for (stack, count) in recording.stacks_of(target.pid()) {
        let js = stack.into_iter().rev().filter(|frame| frame.is_js());
        let ours = |frame: &&Frame| {
            let file = frame.file.as_deref();
            file.is_some_and(|it| program.is_shown(it))
        };
        let frames: Vec<Frame> = js.filter(ours).cloned().collect();
        // The garbage collector or the compiler may stop it elsewhere.
        if frames.len() == places.len() {
            assert_same(&frames, places, way);
            right += count;
        }
    }
    assert!(
        all > 0 && right * 100 >= all * 95,
        "{way}: {right} of {all}"
    );
}

/// `nodetap` with these arguments, in this folder: what it writes to stdout.
fn nodetap(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_nodetap"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("cannot run nodetap");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The frames of a file's JSON that are in a file, with their places and texts.
fn lines_of(json: &str) -> Vec<(Place, Option<String>)> {
    let recording: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let frames = recording["frames"].as_array().expect("frames").iter();
    let frames = frames.filter_map(|frame| {
        let file = frame["file"].as_str().filter(|it| it.starts_with('/'))?;
        let number = |name| Some(frame[name].as_u64()? as u32);
        let place = Place {
            file: file.to_owned(),
            line: number("line")?,
            column: number("column")?,
        };
        let text = frame["source"].as_str().map(str::to_owned);
        (frame["kind"] == "js").then_some((place, text))
    });
    frames.collect()
}

/// Fails unless `text` is the line of `place`, or, of a long one, what is around its column.
fn check_line(place: &Place, text: &str) {
    let file = std::fs::read_to_string(&place.file).expect("the file is there");
    let line = file.lines().nth(place.line as usize - 1).expect("a line");
    let part = text.trim_matches('…');
    let start = line
        .find(part)
        .unwrap_or_else(|| panic!("{place:?}: {text}"));
    assert!(
        (start..=start + part.len()).contains(&(place.column as usize - 1)),
        "{place:?}"
    );
    let [before, behind] = [&line[..start], &line[start + part.len()..]];
    assert_eq!(
        text.starts_with('…'),
        !before.trim().is_empty(),
        "{place:?}: {text}"
    );
    assert_eq!(
        text.ends_with('…'),
        !behind.trim().is_empty(),
        "{place:?}: {text}"
    );
    assert!(
        part.len() == 200 || text == line.trim(),
        "{place:?}: {text}"
    );
}

/// A recording has what stands on the lines that were executing, of originals as of what
/// runs; and nothing of it where that is not wanted.
fn check_lines(target: &Target) {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let pid = target.pid().to_string();
    let record = |options: &[&str]| {
        let arguments = ["record", "-p", &pid, "-d", "0.3", "-o", "x.nodetap"];
        nodetap(folder, &[&arguments[..], options].concat());
        nodetap(folder, &["report", "x.nodetap", "-f", "json"])
    };
    for (options, extension) in [(&[][..], ".ts"), (&["--no-source-maps"], ".js")] {
        let json = record(options);
        let lines = lines_of(&json);
        let of_program = lines.iter().filter(|(it, _)| it.file.ends_with(extension));
        assert!(of_program.count() > 5, "{lines:?}");
        for (place, text) in &lines {
            check_line(place, text.as_deref().expect("what stands there"));
        }
        let recording: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let frames = recording["frames"].as_array().expect("frames").iter();
        let mut of_node = frames.filter(|it| {
            let file = it["file"].as_str().unwrap_or_default();
            file.starts_with("node:") && it["line"].is_u64()
        });
        assert!(of_node.all(|it| it["source"].is_string()), "{json}");
    }
    record(&[]);
    let text = nodetap(folder, &["report", "x.nodetap", "--by", "line"]);
    let row = "callback /";
    let row = text.lines().find(|it| it.contains(row)).expect("its row");
    assert!(
        row.ends_with("/src/main.ts:17 | return viaArrow(shape) + value;"),
        "{text}"
    );
    let without = ["report", "x.nodetap", "--no-source-text", "-f", "json"];
    for json in [nodetap(folder, &without), record(&["--no-source-text"])] {
        let lines = lines_of(&json);
        assert!(!lines.is_empty() && lines.iter().all(|(_, text)| text.is_none()));
        assert!(!json.contains("viaArrow(shape)"));
    }
}

/// Original names, and packages.
fn check_names(frames: &[Frame], way: &str) {
    let names: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
    let expected = match way {
        "webpack" => &MINIFIED[..],
        _ => &NAMES[..],
    };
    assert_eq!(names[..expected.len()], *expected, "{way}");
    for frame in frames {
        // What is evaluated is in no file, so in no folder.
        if way == "webpack-eval" {
            break;
        }
        let package = frame.package.as_ref().expect("a package");
        let package = (
            package.name.as_str(),
            package.version.as_deref(),
            package.dependency,
        );
        let is_installed = frame
            .file
            .as_deref()
            .is_some_and(|it| it.contains("node_modules"));
        let expected = match is_installed {
            true => ("dependency", Some("1.2.3"), true),
            false => ("program", Some("0.1.0"), false),
        };
        assert_eq!(package, expected, "{way}: {frame}");
    }
}

/// What is made of what was made of something has all its maps followed: it is where the
/// program is whose maps Node.js itself follows. Without source maps it is where V8 is.
fn check_chain(node: &Node) {
    let (short, long) = (Program::made("tsc"), Program::made("chain"));
    common::measure(|| {
        let _alone = common::one_at_a_time();
        let (_target, places) = short.start(node, &["--enable-source-maps"]);
        let lines = |folder: &Path, of: &[Place]| -> Vec<(String, u32)> {
            let line = |it: &Place| {
                let file = Path::new(&it.file).strip_prefix(folder).expect("inside");
                (file.to_str().expect("UTF-8").to_owned(), it.line)
            };
            of.iter().skip(1).map(line).collect()
        };
        let (target, made) = long.start(node, &[]);
        let found = |options: &[&str]| -> Vec<Place> {
            let frames = long.frames(&dump(&target, options));
            frames.iter().filter_map(Place::of).collect()
        };
        let mapped = found(&[]);
        assert_eq!(lines(&long.folder, &mapped), lines(&short.folder, &places));
        let unmapped = found(&["--no-source-maps"]);
        assert_eq!(unmapped[1..], made[1..]);
        assert!(unmapped[0].file.ends_with("/min/report.js"), "{unmapped:?}");
        let recording = common::recording::record(&target, 0.3, &["--no-source-maps"]);
        let is_original =
            |frame: &Frame| frame.file.as_deref().is_some_and(|it| it.ends_with(".ts"));
        assert!(!recording.frames.iter().any(is_original));
    });
}

fn main() -> ExitCode {
    // Which of them are short, and between them have all that a map can be.
    const OFTEN: [&str; 4] = ["esbuild", "webpack-eval", "tsx", "chain"];
    let few = |node: &Node| matrix::is_for_all_nodes() || [20, 24].contains(&node.major());
    let ways = [
        ("tsc", 14),
        ("tsc-root", 14),
        ("tsc-inline", 14),
        ("esbuild", 14),
        ("esbuild-inline", 14),
        ("esbuild-esm", 14),
        ("webpack", 14),
        ("webpack-inline", 14),
        ("webpack-eval", 18),
        ("swc", 14),
        ("ts-node", 14),
        ("tsx", 20),
        ("node", 23),
    ];
    let tests = ways.map(|(way, since)| {
        let test = Test::new(way, since, check(way));
        // Since 26 Node.js itself makes nothing that moves.
        if way == "node" { test.before(26) } else { test }
    });
    let tests = tests
        .into_iter()
        .chain([Test::new("chain", 14, check_chain)]);
    matrix::main(tests.map(|test| {
        let is_often = OFTEN.contains(&test.name());
        let test = test.only_on(few);
        if is_often { test } else { test.long() }
    }))
}
