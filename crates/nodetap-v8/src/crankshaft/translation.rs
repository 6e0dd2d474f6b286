//! Frame translations: the frames of unoptimized code that one frame of
//! optimized code stands for at a place (`class Translation` in
//! `src/deoptimizer.h`, `Translation::NumberOfOperandsFor` and
//! `TranslationIterator::Next` in `src/deoptimizer.cc`).

use crate::version::Version;

/// The deepest inlining that is believed (`max_inlining_levels` is 5).
const MAX_FRAMES: i32 = 64;

/// More instructions than a translation has.
const MAX_INSTRUCTIONS: u32 = 1 << 16;

/// `Translation::kSelfLiteralId`: the function that the frame itself names.
const SELF_LITERAL: i32 = -239;

/// Which function a frame runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FunctionLiteral {
    /// The one that the code was compiled for.
    Own,
    /// A `JSFunction` or `SharedFunctionInfo`, by its index in the literals.
    Index(u32),
}

/// A JavaScript frame that a place in optimized code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JavaScriptFrame {
    /// Its function.
    pub function: FunctionLiteral,
    /// Where unoptimized code would go on, by the id of a node of the syntax
    /// tree; `None` where the function would go on in its bytecode.
    pub ast_id: Option<i32>,
}

/// How translations are written in one version of V8.
#[derive(Debug, PartialEq, Eq)]
pub struct TranslationFormat {
    /// How many operands each opcode has, a digit an opcode.
    operands: &'static [u8],
    /// `INTERPRETED_FRAME`
    interpreted_frame: Option<i32>,
}

/// `BEGIN` and `JS_FRAME`, in every version.
const BEGIN: i32 = 0;
const JS_FRAME: i32 = 1;

const V3_14: TranslationFormat = TranslationFormat {
    operands: b"23211211111111120",
    interpreted_frame: None,
};

const V3_28: TranslationFormat = TranslationFormat {
    operands: b"2321121111111111111",
    interpreted_frame: None,
};

const V4_5: TranslationFormat = TranslationFormat {
    operands: b"2321121111111111111110",
    interpreted_frame: None,
};

const V5_0: TranslationFormat = TranslationFormat {
    operands: b"2332112111111111111111",
    interpreted_frame: Some(2),
};

const V5_1: TranslationFormat = TranslationFormat {
    operands: b"23321121111111111111111",
    interpreted_frame: Some(2),
};

const V5_8: TranslationFormat = TranslationFormat {
    operands: b"2333112111111111111111111",
    interpreted_frame: Some(2),
};

impl TranslationFormat {
    /// The format of `version`; `None` where it was not read.
    pub fn of(version: Version) -> Option<&'static TranslationFormat> {
        match (version.major, version.minor) {
            (3, 14) => Some(&V3_14),
            (3, 28) => Some(&V3_28),
            (4, 5) => Some(&V4_5),
            (5, 0) => Some(&V5_0),
            (5, 1) => Some(&V5_1),
            (5, 8) => Some(&V5_8),
            _ => None,
        }
    }

    /// The JavaScript frames of the translation that begins at byte `index`
    /// of `translations`, outermost first. `None` where it does not decode.
    pub fn frames(&self, translations: &[u8], index: usize) -> Option<Vec<JavaScriptFrame>> {
        let mut numbers = Numbers(translations.get(index..)?);
        if numbers.next()? != BEGIN {
            return None;
        }
        // All frames, adaptors and stubs included.
        numbers.next()?;
        let count = numbers.next()?;
        if !(1..=MAX_FRAMES).contains(&count) {
            return None;
        }
        let mut frames = Vec::with_capacity(count as usize);
        for _ in 0..MAX_INSTRUCTIONS {
            let opcode = numbers.next()?;
            let operands = *self.operands.get(usize::try_from(opcode).ok()?)? - b'0';
            let interpreted = Some(opcode) == self.interpreted_frame;
            if opcode == BEGIN {
                return None;
            } else if opcode == JS_FRAME || interpreted {
                let id = numbers.next()?;
                let function = match numbers.next()? {
                    SELF_LITERAL => FunctionLiteral::Own,
                    index => FunctionLiteral::Index(index.try_into().ok()?),
                };
                // How many values it has.
                numbers.next()?;
                frames.push(JavaScriptFrame {
                    function,
                    ast_id: (!interpreted).then_some(id),
                });
                if frames.len() == count as usize {
                    return Some(frames);
                }
            } else {
                for _ in 0..operands {
                    numbers.next()?;
                }
            }
        }
        None
    }
}

/// Signed numbers, seven bits a byte above a bit that says that more follow;
/// of the whole the lowest bit is the sign.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Option<i32> {
        let mut bits = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            bits |= u32::from(byte >> 1) << shift;
            if byte & 1 == 0 {
                let magnitude = (bits >> 1) as i32;
                return Some(if bits & 1 == 0 { magnitude } else { -magnitude });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(numbers: &[i32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &number in numbers {
            let mut bits = number.unsigned_abs() << 1 | u32::from(number < 0);
            loop {
                let more = bits > 0x7f;
                bytes.push((bits as u8 & 0x7f) << 1 | u8::from(more));
                bits >>= 7;
                if !more {
                    break;
                }
            }
        }
        bytes
    }

    #[test]
    fn javascript_frames_are_found_among_the_others() {
        // An inlined constructor: its caller, the construct stub, itself.
        let own = &[0, 3, 2, 1, 300, -239, 4, 10, 2, 14, -7, 2, 1, 2];
        let inlined = [1, 17, 3, 5, 10, 1];
        let bytes = written(&[&[9, 9][..], own, &inlined].concat());
        let found = V3_14.frames(&bytes, 2).unwrap();
        let frame = |function, ast_id| JavaScriptFrame {
            function,
            ast_id: Some(ast_id),
        };
        assert_eq!(
            found,
            [
                frame(FunctionLiteral::Own, 300),
                frame(FunctionLiteral::Index(3), 17)
            ]
        );
        assert_eq!(V3_28.frames(&bytes, 2).unwrap(), found);
        assert_eq!(V4_5.frames(&bytes, 2).unwrap(), found);
        assert_eq!(V3_14.frames(&bytes, 0), None);
        assert_eq!(V3_14.frames(&bytes, 99), None);
        // Up to the last operand of the last frame.
        for end in 0..bytes.len() - 2 {
            assert_eq!(V3_14.frames(&bytes[..end], 2), None);
        }
    }

    #[test]
    fn a_frame_may_go_on_in_bytecode() {
        let bytes = written(&[0, 2, 2, 2, 12, 0, 3, 22, 1, 1, 5, 1, 9]);
        let found = V5_1.frames(&bytes, 0).unwrap();
        assert_eq!(found[0].ast_id, None);
        assert_eq!(found[1].ast_id, Some(5));
    }

    #[test]
    fn what_is_no_translation_is_refused() {
        for numbers in [
            &[1, 1, 1, 1, 2, 3, 4][..],
            &[0, 1, 0, 1, 2, 3, 4],
            &[0, 1, 65, 1, 2, 3, 4],
            &[0, 1, 1, 99, 2, 3, 4],
            &[0, 1, 1, 0, 2, 3, 4],
            &[0, 1, 1, 1, 2, -3, 4],
        ] {
            assert_eq!(V3_28.frames(&written(numbers), 0), None);
        }
        assert_eq!(V3_28.frames(&[0xff; 64], 0), None);
    }
}
