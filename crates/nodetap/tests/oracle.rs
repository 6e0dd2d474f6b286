//! What nodetap says of a stack against what V8 says of it.
//!
//! The fixture `oracle` collects, at the innermost point of a chain of calls, its own
//! call sites (`Error.prepareStackTrace`): every frame's script, line and column. Then
//! it spins right there. What the functions are called and where they start is asked of
//! V8's own CPU profiler, in another run of the same program under `--cpu-prof`, or
//! through the module `inspector`.
//!
//! Of the samples of that thread, 99 in 100 must be exactly this stack.

mod common;

use common::accuracy::{self, Truth};
use common::cpu_profile::{self, CallFrame};
use common::matrix::{self, Node, Test};
use common::recording::{Frame, Recording, record};
use common::target::Target;
use common::truth::{CallSite, Place, TrueFrame, difference, is_true, list, true_stack};

/// How V8 is made to run the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// As it comes: the chain is called once, the spinner gets hot.
    Cold,
    /// Nothing but the interpreter, also while the ticks fall.
    Interpreted,
    /// The interpreter of a V8 that makes no machine code at all.
    Jitless,
    /// Baseline code for everything.
    Baseline,
    /// The chain ran until Maglev had compiled it, which is the last tier.
    Maglev,
    /// The chain ran until it had been optimized.
    Warm,
}

impl Mode {
    fn flags(self, node: &Node) -> Vec<&'static str> {
        let mut flags = match self {
            Mode::Cold | Mode::Warm => return Vec::new(),
            Mode::Interpreted => vec!["--no-opt"],
            Mode::Jitless => return vec!["--jitless"],
            Mode::Baseline => vec!["--no-opt", "--always-sparkplug"],
            Mode::Maglev => return vec!["--no-turbofan"],
        };
        // A version refuses flags that it does not know: baseline code came with V8 9,
        // Maglev with V8 11.
        if node.major() >= 16 && self == Mode::Interpreted {
            flags.push("--no-sparkplug");
        }
        if node.major() >= 20 {
            flags.push("--no-maglev");
        }
        if node.has_full_codegen() {
            flags.push("--ignition");
        }
        flags
    }

    /// Where the innermost function is, between two calls: V8 9.0 tells of baseline
    /// code, which it makes only if it is told to, where its calls are and no more;
    /// Node.js 24.11 still has no places in Maglev's code but where it can deoptimize.
    fn innermost(self, node: &Node) -> Place {
        let knows_it = match self {
            Mode::Baseline => node.is_since(16, 4),
            Mode::Maglev => node.is_since(24, 12),
            _ => true,
        };
        match knows_it {
            true => Place::Line,
            false => Place::LineOrSilent,
        }
    }

    /// Whether the recording shows that the mode did what it is there for.
    fn assert_reached(self, recording: &Recording) {
        let js = || recording.frames.iter().filter(|frame| frame.is_js());
        let has = |tier: &str| js().any(|frame| frame.tier.as_deref() == Some(tier));
        let fits = match self {
            Mode::Cold => has("interpreted") || has("unoptimized"),
            Mode::Interpreted | Mode::Jitless => {
                js().all(|frame| frame.tier.as_deref() == Some("interpreted"))
            }
            Mode::Baseline => has("baseline") && !has("maglev") && !has("optimized"),
            Mode::Maglev => js().any(|frame| frame.inlined) && has("maglev") && !has("optimized"),
            Mode::Warm => js().any(|frame| frame.inlined) && has("optimized"),
        };
        assert!(fits, "{self:?}, but the frames are\n{}", list(js()));
    }
}

/// What V8's CPU profiler calls the functions of the stack, outermost first.
fn ask_profiler(node: &Node, arguments: &[&str]) -> Vec<CallFrame> {
    let mut arguments = arguments.to_vec();
    arguments.push("--bounded");
    let (_, profiles) = cpu_profile::profile(node, &[], "oracle/main.js", &arguments);
    let [profile] = profiles.as_slice() else {
        panic!("{} profiles of one thread", profiles.len());
    };
    profile.heaviest()
}

/// Records the fixture and compares every sample of its main thread with the truth.
fn check(node: &Node, entry: &str, chain: &str, mode: Mode, calling: bool) {
    common::measure(|| check_once(node, entry, chain, mode, calling));
}

fn check_once(node: &Node, entry: &str, chain: &str, mode: Mode, calling: bool) {
    let mut arguments = vec![entry, chain];
    if calling {
        arguments.push("--calling");
    }
    let functions = ask_profiler(node, &arguments);
    let _alone = common::one_at_a_time();
    if matches!(mode, Mode::Maglev | Mode::Warm) {
        arguments.push("--warm");
    }
    let mut target = Target::start(
        &node.version,
        &mode.flags(node),
        "oracle/main.js",
        &arguments,
    );
    let sites: Vec<CallSite> = serde_json::from_str(&target.line()).expect("call sites");
    let truth = true_stack(node, sites, &functions);

    let recording = record(&target, 1.0, &[]);
    assert_eq!(recording.lost, 0, "{}", recording.notes);
    recording.assert_sampled(&target);

    let callee = calling.then_some("mix");
    let fail_below = |recording: &Recording, share: f64, innermost: Place| {
        let all = recording.samples_of(target.pid());
        let is_right = |stack: &[&Frame]| is_true(stack, &truth, callee, innermost);
        let right = recording.count(target.pid(), is_right);
        if all > 0 && (right as f64) >= share * all as f64 {
            return;
        }
        let mut wrong = recording.stacks_of(target.pid());
        wrong.retain(|(stack, _)| !is_right(stack));
        wrong.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let details: String = wrong
            .iter()
            .take(3)
            .map(|(stack, count)| format!("{count} samples:\n{}", difference(stack, &truth)))
            .collect();
        let sampler = &recording.sampler;
        panic!("{right} of {all} samples ({sampler}) are right; of the others:\n{details}");
    };
    let innermost = mode.innermost(node);
    if calling {
        // It is being entered and left all the time.
        fail_below(&recording, 0.99, Place::LineOrSilent);
        fail_below(&recording, 0.9, innermost);
    } else {
        fail_below(&recording, 0.99, innermost);
    }
    if chain == "kinds" && matches!(mode, Mode::Cold | Mode::Warm) {
        // The other sampler sees the same.
        let recording = record(&target, 0.4, &["--sampler", "ptrace", "-r", "499"]);
        assert_eq!(recording.lost, 0, "{}", recording.notes);
        fail_below(&recording, 0.99, innermost);
    }
    mode.assert_reached(&recording);
    let is_right = |stack: &[&Frame]| is_true(stack, &truth, callee, innermost);
    let right = recording.count(target.pid(), is_right);
    let truth: Vec<Truth<'_>> = truth.iter().map(TrueFrame::truth).collect();
    accuracy::note(node, &recording, target.pid(), &truth, right);
}

fn main() -> std::process::ExitCode {
    use Mode::{Baseline, Cold, Interpreted, Jitless, Maglev, Warm};
    // Name, how the chain is entered, the chain, the mode, whether the spinner calls.
    let cases = [
        ("kinds_cold", "main", "kinds", Cold, false),
        ("kinds_interpreted", "main", "kinds", Interpreted, false),
        ("kinds_jitless", "main", "kinds", Jitless, false),
        ("kinds_baseline", "main", "kinds", Baseline, false),
        ("kinds_maglev", "main", "kinds", Maglev, false),
        ("kinds_warm", "main", "kinds", Warm, false),
        ("recursion_cold", "main", "recurse", Cold, false),
        ("recursion_maglev", "main", "recurse", Maglev, false),
        ("recursion_warm", "main", "recurse", Warm, false),
        ("calling_interpreted", "main", "short", Interpreted, true),
        ("calling_baseline", "main", "short", Baseline, true),
        ("calling_maglev", "main", "short", Maglev, true),
        ("calling_optimized", "main", "short", Cold, true),
        ("from_timeout", "timeout", "short", Cold, false),
        ("from_interval", "interval", "short", Cold, false),
        ("from_immediate", "immediate", "short", Cold, false),
        ("from_next_tick", "nextTick", "short", Cold, false),
        ("from_microtask", "microtask", "short", Cold, false),
        ("from_promise", "promise", "short", Cold, false),
        ("from_rejection", "rejection", "short", Cold, false),
        ("from_await", "await", "short", Cold, false),
        (
            "from_async_generator",
            "asyncGenerator",
            "short",
            Cold,
            false,
        ),
        ("from_emitter", "emitter", "short", Cold, false),
        ("from_callback", "callback", "short", Cold, false),
        ("from_module", "module", "short", Cold, false),
        (
            "from_top_level_await",
            "topLevelAwait",
            "short",
            Cold,
            false,
        ),
    ];
    matrix::main(cases.map(|(name, entry, chain, mode, calling)| {
        let since = match (mode, entry) {
            (Maglev, _) => 24,
            (Baseline, _) => 16,
            // The first of 14 had no such modules.
            (_, "topLevelAwait") => 16,
            (Jitless, _) | (_, "module" | "microtask") => 12,
            (_, "asyncGenerator") => 10,
            _ => 8,
        };
        // V8 5.8's profiler leaves out functions that `eval` compiled.
        // Until 12.16 `import` had to be asked for.
        let is_asked = move |node: &Node| match (entry, chain) {
            ("module", _) => node.is_since(12, 17),
            (_, "kinds") => !node.has_full_codegen(),
            _ => true,
        };
        Test::new(name, since, move |node| {
            check(node, entry, chain, mode, calling)
        })
        .only_on(is_asked)
        .seldom_if(|name| {
            let other_ways = [
                "recursion_cold",
                "recursion_maglev",
                "calling_interpreted",
                "calling_maglev",
                "kinds_jitless",
            ];
            name.starts_with("from_") || other_ways.contains(&name)
        })
    }))
}
