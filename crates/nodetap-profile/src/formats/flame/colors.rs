//! What is drawn in which colour.

use inferno::flamegraph::color::Color;

use crate::{Frame, Kind, Tier};

/// What a colour stands for. JavaScript goes from green, the fastest tier, to orange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Optimized,
    Maglev,
    Baseline,
    Unoptimized,
    Interpreted,
    /// JavaScript whose tier isn't known.
    Js,
    Builtin,
    Wasm,
    Native,
    Kernel,
    /// Pseudo frames and processes.
    Other,
}

impl Class {
    /// The class of a frame, or of what is none.
    pub(super) fn of(frame: Option<&Frame>) -> Self {
        match frame.map(|frame| (frame.kind, frame.tier)) {
            Some((Kind::Js, Some(Tier::Optimized))) => Self::Optimized,
            Some((Kind::Js, Some(Tier::Maglev))) => Self::Maglev,
            Some((Kind::Js, Some(Tier::Baseline))) => Self::Baseline,
            Some((Kind::Js, Some(Tier::Unoptimized))) => Self::Unoptimized,
            Some((Kind::Js, Some(Tier::Interpreted))) => Self::Interpreted,
            Some((Kind::Js, None)) => Self::Js,
            Some((Kind::Builtin, _)) => Self::Builtin,
            Some((Kind::Wasm, _)) => Self::Wasm,
            Some((Kind::Native, _)) => Self::Native,
            Some((Kind::Kernel, _)) => Self::Kernel,
            Some((Kind::Pseudo, _)) | None => Self::Other,
        }
    }

    /// What the legend calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::Maglev => "maglev",
            Self::Baseline => "baseline",
            Self::Unoptimized => "unoptimized",
            Self::Interpreted => "interpreted",
            Self::Js => "JavaScript",
            Self::Builtin => "builtin",
            Self::Wasm => "wasm",
            Self::Native => "native",
            Self::Kernel => "kernel",
            Self::Other => "other",
        }
    }

    /// Its own colour, light enough for black text.
    pub(super) fn base_color(self) -> Color {
        let (r, g, b) = match self {
            Self::Optimized => (124, 196, 124),
            Self::Maglev => (178, 212, 108),
            Self::Baseline => (238, 214, 98),
            Self::Unoptimized => (238, 214, 98),
            Self::Interpreted => (240, 170, 92),
            Self::Js => (226, 190, 140),
            Self::Builtin => (134, 182, 224),
            Self::Wasm => (176, 156, 222),
            Self::Native => (226, 142, 134),
            Self::Kernel => (214, 156, 196),
            Self::Other => (200, 200, 200),
        };
        Color { r, g, b }
    }

    /// The colour for one function: a shade that depends on its name alone, so that
    /// neighbours can be told apart and a function keeps its colour from graph to graph.
    pub(super) fn color(self, name: &str) -> Color {
        // FNV-1a, whose result doesn't change with the version of a library.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The upper bits: the lowest ones mix least.
        let shade = (hash >> 32) as u8 % 25;
        let shift = |channel: u8| channel.saturating_add(shade).saturating_sub(12);
        let Color { r, g, b } = self.base_color();
        Color {
            r: shift(r),
            g: shift(g),
            b: shift(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_keeps_its_colour() {
        let color = Class::Optimized.color("f /a.js:1");
        assert_eq!(color, Class::Optimized.color("f /a.js:1"));
        assert_ne!(color, Class::Optimized.color("g /a.js:9"));
        assert_ne!(color, Class::Interpreted.color("f /a.js:1"));
    }

    #[test]
    fn a_shade_is_near_the_colour_of_the_legend() {
        for i in 0..1000 {
            let base = Class::Native.base_color();
            let shade = Class::Native.color(&format!("f{i}"));
            for (base, shade) in [(base.r, shade.r), (base.g, shade.g), (base.b, shade.b)] {
                assert!(base.abs_diff(shade) <= 12);
            }
        }
    }
}
