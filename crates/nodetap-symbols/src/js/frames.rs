//! The frames that functions are shown as.

use nodetap_profile::{Frame, Kind, Tier};
use nodetap_v8::code::CodeKind;

use super::Frames;
use super::active::ActiveFunction;
use super::functions::FunctionInfo;
use crate::generated::{GeneratedCode, NamedFrame};

/// The frames of what is active in optimized code, innermost first.
pub(super) fn optimized_frames(active: &[ActiveFunction], tier: Tier) -> Frames {
    let last = active.len().saturating_sub(1);
    active
        .iter()
        .enumerate()
        .map(|(index, active)| {
            let mut frame = function_frame(&active.function, None, Some(tier), index < last);
            frame.frame.position = active.position;
            frame
        })
        .collect()
}

/// The tier of JavaScript that such code is.
pub(super) fn tier(kind: CodeKind) -> Option<Tier> {
    match kind {
        CodeKind::Baseline => Some(Tier::Baseline),
        CodeKind::Maglev => Some(Tier::Maglev),
        CodeKind::Turbofan | CodeKind::Crankshaft => Some(Tier::Optimized),
        CodeKind::Unoptimized => Some(Tier::Unoptimized),
        CodeKind::RegExp
        | CodeKind::Wasm
        | CodeKind::Builtin(_)
        | CodeKind::Handler
        | CodeKind::Stub(_)
        | CodeKind::Other => None,
    }
}

/// What is shown of a function that executes at `script_offset`.
pub(super) fn function_frame(
    function: &FunctionInfo,
    script_offset: Option<u32>,
    tier: Option<Tier>,
    inlined: bool,
) -> NamedFrame {
    // Before Ignition, V8's builtins that are written in JavaScript have one.
    let script = function
        .script
        .as_ref()
        .filter(|script| !script.is_native());
    let Some(script) = script else {
        return Frame::new(Kind::Builtin, function.name.clone()).into();
    };
    NamedFrame {
        frame: Frame {
            file: script.generated.file.clone(),
            position: function.locate(script_offset),
            function_position: function.locate(function.start),
            tier,
            inlined,
            ..Frame::new(Kind::Js, function.name.clone())
        },
        code: Some(GeneratedCode {
            script: script.generated.clone(),
            text: function.text.clone(),
        }),
    }
}
