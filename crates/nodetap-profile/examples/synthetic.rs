//! Writes a recording of many samples that nobody took, to measure formats with: the same
//! one each time.
//!
//! ```text
//! cargo run --release -p nodetap-profile --example synthetic -- big.nodetap 1000000
//! ```
//!
//! Two processes of four threads each, hundreds of files, thousands of frames, tens of
//! thousands of stacks of 30 to 60 frames, of which few have most of the samples. On top
//! of JavaScript stand builtins, native code, the kernel and what V8 did.

use std::fs::File;
use std::path::Path;
use std::process::exit;
use std::sync::Arc;
use std::time::Duration;

use nodetap_profile::{
    Format, Frame, FrameId, Kind, Metadata, Mode, Package, Position, Process, Profile, Sample,
    StackId, Thread, ThreadId, Tier, formats,
};

const USAGE: &str = "usage: synthetic OUTPUT [SAMPLES [SEED]]; the extension tells the format";

/// Distinct stacks of threads that run JavaScript.
const STACKS: usize = 40_000;
/// Samples a second of each thread.
const RATE: u32 = 999;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(output) = arguments.next() else {
        eprintln!("{USAGE}");
        exit(2);
    };
    let mut number = |default: u64| match arguments.next().map(|it| it.parse()) {
        None => default,
        Some(Ok(number)) => number,
        Some(Err(error)) => {
            eprintln!("{error}\n{USAGE}");
            exit(2);
        }
    };
    let (samples, seed) = (number(1_000_000), number(1));
    let profile = synthetic(samples, seed);
    let written = Format::from_path(Path::new(&output))
        .map_err(|error| error.to_string())
        .and_then(|format| {
            let mut file = File::create(&output).map_err(|error| error.to_string())?;
            formats::write(&profile, format, &mut file).map_err(|error| error.to_string())
        });
    if let Err(error) = written {
        eprintln!("error: cannot write '{output}': {error}");
        exit(1);
    }
    eprintln!(
        "{} samples of {} frames, {} stacks with their outer parts",
        profile.sample_count(),
        profile.frames().len(),
        profile.stack_count()
    );
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    /// The same, small ones far more often.
    fn skewed(&mut self, end: usize) -> usize {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((share.powi(4) * end as f64) as usize).min(end - 1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// The frames of which stacks are made.
struct Frames {
    /// Node's own, where all begins.
    roots: Vec<FrameId>,
    js: Vec<FrameId>,
    wasm: Vec<FrameId>,
    builtins: Vec<FrameId>,
    native: Vec<FrameId>,
    kernel: Vec<FrameId>,
    /// What V8 did: one frame above the other.
    statements: Vec<Vec<FrameId>>,
}

fn synthetic(samples: u64, seed: u64) -> Profile {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (seed << 1));
    let mut profile = Profile::new(Metadata {
        start: "2026-01-02T03:04:05.678Z".parse().expect("a time"),
        lost: 12,
        truncated: 3,
        incomplete: samples / 2000,
        ..Metadata::new("ebpf", RATE)
    });
    let (with_script, helpers) = add_threads(&mut profile);
    let frames = add_frames(&mut profile, &mut random);
    let stacks = add_stacks(&mut profile, &mut random, &frames);
    let of_helpers = add_stacks_of_helpers(&mut profile);

    let threads = with_script.len() + helpers.len();
    let tick = 1_000_000 / (u64::from(RATE) * threads as u64);
    let mut time_us = 0;
    for at in 0..samples {
        time_us += tick + random.below(20) as u64 - 10;
        let turn = random.below(16);
        let mut sample = match helpers.get(turn) {
            Some(&helper) => Sample::new(time_us, helper, *random.of(&of_helpers), Mode::Native),
            None => {
                let thread = *random.of(&with_script);
                let (stack, mode) = stacks[random.skewed(stacks.len())];
                Sample::new(time_us, thread, stack, mode)
            }
        };
        // Not all samples come in the order of their times.
        if at % 97 == 96 {
            sample.time_us -= 500;
        }
        if sample.mode == Mode::Waiting {
            sample.count = 1 + random.below(40) as u32;
        }
        profile.add_sample(sample);
    }
    profile.metadata.duration = Duration::from_micros(time_us + 1000);
    profile
}

/// Those that run JavaScript, and V8's and libuv's own.
fn add_threads(profile: &mut Profile) -> (Vec<ThreadId>, Vec<ThreadId>) {
    let (mut with_script, mut helpers) = (Vec::new(), Vec::new());
    for (pid, script) in [
        (4711, "/srv/shop/dist/server.js"),
        (4750, "/srv/shop/dist/jobs.js"),
    ] {
        profile.add_process(Process {
            pid,
            command: vec!["node".into(), "--enable-source-maps".into(), script.into()],
            node: Some("v24.21.0".into()),
            v8: Some("13.6.233.17-node.53".into()),
        });
        for (tid, name) in (pid..).zip(["MainThread", "V8Worker", "libuv-worker", "node"]) {
            let thread = Thread {
                pid,
                tid,
                name: name.into(),
            };
            let id = profile.add_thread(thread);
            match name {
                "MainThread" | "node" => with_script.push(id),
                _ => helpers.push(id),
            }
        }
    }
    (with_script, helpers)
}

fn add_frames(profile: &mut Profile, random: &mut Random) -> Frames {
    const WORDS: [&str; 32] = [
        "parse",
        "read",
        "write",
        "handle",
        "next",
        "emit",
        "render",
        "compile",
        "resolve",
        "query",
        "encode",
        "decode",
        "visit",
        "walk",
        "format",
        "merge",
        "update",
        "validate",
        "serialize",
        "dispatch",
        "flush",
        "push",
        "reduce",
        "apply",
        "match",
        "lookup",
        "hash",
        "sign",
        "verify",
        "compress",
        "schedule",
        "collect",
    ];
    const NODE: [&str; 20] = [
        "node:internal/modules/cjs/loader",
        "node:internal/process/task_queues",
        "node:events",
        "node:internal/timers",
        "node:_http_server",
        "node:_http_common",
        "node:net",
        "node:internal/streams/readable",
        "node:internal/streams/writable",
        "node:zlib",
        "node:fs",
        "node:internal/fs/promises",
        "node:buffer",
        "node:internal/util",
        "node:internal/console/constructor",
        "node:internal/process/promises",
        "node:crypto",
        "node:internal/main/run_main_module",
        "node:internal/async_hooks",
        "node:url",
    ];
    // What a script is called, and of which package it is.
    let mut scripts: Vec<(String, Option<Arc<Package>>)> = Vec::new();
    let package = |name: String, version: String, is_dependency| {
        Some(Arc::new(Package {
            name: name.into(),
            version: Some(version.into()),
            is_dependency,
        }))
    };
    let own = package("shop".into(), "3.1.0".into(), false);
    for i in 0..80 {
        let (folder, file) = (WORDS[i % 32], WORDS[i * 7 % 32]);
        scripts.push((format!("/srv/shop/src/{folder}/{file}-{i}.ts"), own.clone()));
    }
    for i in 0..60 {
        let scope = if i % 4 == 0 { "@acme/" } else { "" };
        let name = format!("{scope}{}-{}", WORDS[i * 5 % 32], WORDS[i * 11 % 32]);
        let of = package(
            name.clone(),
            format!("{}.{}.{}", i % 7, i % 13, i % 5),
            true,
        );
        for file in &WORDS[..4] {
            scripts.push((
                format!("/srv/shop/node_modules/{name}/lib/{file}.js"),
                of.clone(),
            ));
        }
    }
    scripts.extend(NODE.map(|file| (file.to_owned(), None)));

    let mut js = Vec::new();
    let tiers = [
        Tier::Interpreted,
        Tier::Baseline,
        Tier::Maglev,
        Tier::Optimized,
    ];
    for (at, (file, package)) in scripts.iter().enumerate() {
        for function in 0..6_u32 {
            let word = random.of(&WORDS);
            let name = match function {
                5 => "(anonymous)".to_owned(),
                n => format!(
                    "{word}{}{}",
                    WORDS[(at + n as usize) % 32],
                    at * 6 + n as usize
                ),
            };
            let line = 1 + 37 * function + random.below(30) as u32;
            let starts = Position::new(line, 1 + random.below(40) as u32);
            for place in 0..1 + random.below(5) as u32 {
                js.push(profile.intern_frame(Frame {
                    file: Some(file.as_str().into()),
                    position: Position::new(line + place, 3 + random.below(60) as u32),
                    function_position: starts,
                    tier: Some(*random.of(&tiers)),
                    inlined: random.one_in(8),
                    package: package.clone(),
                    ..Frame::new(Kind::Js, name.as_str())
                }));
            }
        }
    }
    let mut plain = |kind: Kind, file: Option<&str>, name: String| {
        profile.intern_frame(Frame {
            file: file.map(Into::into),
            ..Frame::new(kind, name)
        })
    };
    let roots = [
        "processTimers",
        "parserOnHeadersComplete",
        "processTicksAndRejections",
    ]
    .map(|name| {
        plain(
            Kind::Js,
            Some("node:internal/process/task_queues"),
            name.into(),
        )
    });
    let wasm = (0..60)
        .map(|i| {
            plain(
                Kind::Wasm,
                Some("wasm://wasm/8f3a21c6"),
                format!("wasm-function[{i}]"),
            )
        })
        .collect();
    let builtins = [
        "map", "forEach", "reduce", "sort", "join", "push", "slice", "splice",
    ]
    .into_iter()
    .flat_map(|name| ["Array", "TypedArray"].map(|of| format!("{of}.prototype.{name}")))
    .map(|name| plain(Kind::Builtin, None, name))
    .collect();
    let native = (0..400)
        .map(|i| {
            let (word, of) = (WORDS[i % 32], WORDS[i * 3 % 32]);
            match i % 4 {
                0 => plain(
                    Kind::Native,
                    Some("/lib/x86_64-linux-gnu/libc.so.6"),
                    format!("__{word}_{i}"),
                ),
                1 => plain(
                    Kind::Native,
                    Some("/srv/shop/node_modules/sharp/sharp.node"),
                    format!("{of}::{word}{i}"),
                ),
                _ => plain(
                    Kind::Native,
                    Some("/usr/local/bin/node"),
                    format!("v8::internal::{of}::{word}{i}(v8::internal::Isolate*, int)"),
                ),
            }
        })
        .collect();
    let kernel = (0..120)
        .map(|i| {
            plain(
                Kind::Kernel,
                Some("[kernel]"),
                format!("{}_{}_{i}", WORDS[i % 32], WORDS[i * 5 % 32]),
            )
        })
        .collect();
    let statements = [
        &["(garbage collector)", "(scavenge)"][..],
        &["(garbage collector)", "(mark-compact)"],
        &["(garbage collector)", "(incremental marking)"],
        &["(compiler)", "(TurboFan)"],
        &["(compiler)", "(parser)"],
        &["(inline cache)", "(megamorphic)"],
        &["(regexp)"],
        &["(JSON)"],
        &["(program)"],
        &["(blocked in read)"],
    ]
    .map(|chain| {
        let frame = |&name: &&str| plain(Kind::Pseudo, None, name.into());
        chain.iter().map(frame).collect()
    });
    Frames {
        roots: roots.into(),
        js,
        wasm,
        builtins,
        native,
        kernel,
        statements: statements.into(),
    }
}

/// Stacks that branch off each other, and what their innermost frame is.
fn add_stacks(profile: &mut Profile, random: &mut Random, frames: &Frames) -> Vec<(StackId, Mode)> {
    // The JavaScript part of each, outermost first.
    let mut paths: Vec<Vec<FrameId>> = Vec::new();
    let mut stacks = Vec::with_capacity(STACKS);
    while stacks.len() < STACKS {
        let mut path = match paths.len() {
            0..8 => vec![*random.of(&frames.roots)],
            several => {
                let from = &paths[random.below(several)];
                let keep = from.len() - (1 + random.below(9)).min(from.len() - 1);
                from[..keep].to_vec()
            }
        };
        let depth = 28 + random.below(28);
        while path.len() < depth {
            // A function calls few others.
            let last = path.last().map_or(0, |frame| frame.index());
            let callee = (last * 31 + random.skewed(40) * 17) % frames.js.len();
            path.push(frames.js[callee]);
        }
        let mut stack = profile.intern_stack(path.iter().copied());
        let mut mode = Mode::JavaScript;
        match random.below(20) {
            0..5 => {
                let statement = random.skewed(frames.statements.len());
                for &frame in &frames.statements[statement] {
                    stack = profile.push_frame(stack, frame);
                }
                mode = match statement + 1 == frames.statements.len() {
                    true => Mode::Waiting,
                    false => Mode::Native,
                };
            }
            5..8 => {
                stack = profile.push_frame(stack, *random.of(&frames.builtins));
                mode = Mode::Builtin;
            }
            8..11 => {
                for _ in 0..1 + random.below(4) {
                    stack = profile.push_frame(stack, *random.of(&frames.native));
                }
                mode = Mode::Native;
                if random.one_in(3) {
                    for _ in 0..1 + random.below(3) {
                        stack = profile.push_frame(stack, *random.of(&frames.kernel));
                    }
                    mode = Mode::Kernel;
                }
            }
            11 => {
                for _ in 0..1 + random.below(3) {
                    stack = profile.push_frame(stack, *random.of(&frames.wasm));
                }
            }
            _ => {}
        }
        paths.push(path);
        stacks.push((stack, mode));
    }
    stacks
}

/// What threads do that never run JavaScript.
fn add_stacks_of_helpers(profile: &mut Profile) -> Vec<StackId> {
    [
        ["(v8 worker)", "(concurrent marking)"],
        ["(v8 worker)", "(TurboFan)"],
        ["(v8 worker)", "(parallel scavenge)"],
        ["(libuv worker)", "(file system)"],
        ["(libuv worker)", "(crypto)"],
    ]
    .map(|statements| {
        let frames = statements.map(|it| profile.intern_frame(Frame::new(Kind::Pseudo, it)));
        profile.intern_stack(frames)
    })
    .into()
}
