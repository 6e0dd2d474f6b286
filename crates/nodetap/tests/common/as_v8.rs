//! What of a stack V8's own CPU profiler shows, where that is less than there is.
//!
//! Its profiler takes the frame that the frame pointer points to for that of the code
//! that is executing, and goes on with the caller's
//! (`StackFrameIteratorForProfiler::StackFrameIteratorForProfiler` in
//! `src/execution/frames.cc`). A builtin that makes no frame, as those of the inline
//! caches, leaves the frame pointer to the function that called it: that function is
//! missing from V8's stacks then, and its caller is shown in its place. (That is what
//! `tos` is for in `src/profiler/tick-sample.cc`, which is always null.) Before V8 14 it
//! shows moreover, for the code that is executing, the function that it was compiled
//! for, and none of those that were inlined there (`Symbolizer::SymbolizeTickSample` in
//! `src/profiler/symbolizer.cc`).

use nodetap_profile::{Frame, Kind};
use nodetap_sampler::raw::RawSample;
use nodetap_sampler::target::Target;

use super::matrix::Node;

/// The first frame of a named stack, innermost first, that V8's profiler knows of.
pub fn first_seen(node: &Node, target: &Target, sample: &RawSample, stack: &[Frame]) -> usize {
    let Some(top) = sample.frames.first() else {
        return 0;
    };
    let is_inlined = |frame: &&Frame| frame.kind == Kind::Js && frame.inlined;
    let inlined_from = |start: usize| stack[start..].iter().take_while(is_inlined).count();
    match target.builtins.at(top.pc) {
        // It knows that handlers have none.
        Some(builtin) if builtin.name.is_some_and(|name| name.ends_with("Handler")) => 0,
        Some(_) if is_of_script(top.context, top.script_id) => {
            let builtins = stack.iter().take_while(|frame| frame.kind != Kind::Js);
            let start = builtins.count();
            (start + inlined_from(start) + 1).min(stack.len())
        }
        Some(_) => 0,
        None if node.major() < 25 => inlined_from(0),
        None => 0,
    }
}

/// Whether a frame is of a function in a script, by the words in its slots: its context,
/// which is a tagged pointer, and its function's script.
fn is_of_script(context: u64, script_id: u32) -> bool {
    context & 1 == 1 && script_id != 0
}
