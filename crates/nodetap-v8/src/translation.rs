//! Frame translations: how the deoptimizer would turn one frame of optimized
//! code into the frames of the functions that are in it. They name, for every
//! place that can be deoptimized, each active function and where in it.
//!
//! The opcodes are a byte each (before V8 11 a variable-length number), their
//! operands variable-length numbers. Since V8 11 a translation may say "as in
//! the previous one" for a run of instructions
//! (`src/deoptimizer/translation-opcode.h`, the iterator in
//! `src/deoptimizer/translation-array.cc`, since V8 12
//! `src/objects/deoptimization-data.cc`).

use crate::version::Version;
use crate::vlq::Vlq;

/// More instructions than a translation has; ends what loops.
const MAX_INSTRUCTIONS: u32 = 1 << 16;

/// A frame that deoptimization would make. Functions and literals are indices
/// in the code's literal array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TranslatedFrame {
    /// A function in its bytecode.
    Function {
        /// Its `SharedFunctionInfo`.
        shared: u32,
        /// Where in its bytecode; -1 for its entry.
        bytecode_offset: i32,
        /// Its `BytecodeArray` in the protected literals, where the
        /// translation names it.
        bytecode_array: Option<u32>,
    },
    /// A builtin that JavaScript called and that was inlined
    /// (`Array.prototype.forEach`), about to continue.
    Builtin {
        /// The `SharedFunctionInfo` that the frame is told to have; Maglev
        /// gives the caller's.
        shared: u32,
        /// Its `JSFunction`, if the translation gives it.
        closure: Option<u32>,
    },
    /// Another: arguments, a construct stub, the rest of another builtin. No
    /// stack of JavaScript shows it.
    Other,
}

/// How translations are written in one version of V8.
#[derive(Debug, PartialEq, Eq)]
pub struct TranslationFormat {
    /// How many operands each opcode has, a digit an opcode.
    operands: &'static [u8],
    /// Whether opcodes are signed variable-length numbers.
    packed_opcodes: bool,
    /// Whether it is a byte's lowest bit that says whether more follow, not
    /// its highest.
    low_continuation: bool,
    /// Opcodes that begin a translation.
    begin: &'static [u8],
    /// Whether the first operand of these is how far back the previous one
    /// begins; the next is the number of frames.
    lookback: bool,
    /// Opcodes of a frame in bytecode.
    function: &'static [u8],
    /// Whether the third operand of these is the `BytecodeArray`.
    bytecode_array: bool,
    /// Opcodes of a JavaScript builtin's frame.
    builtin: &'static [u8],
    /// Opcodes of all other frames.
    other: &'static [u8],
    /// `LITERAL`
    literal: u8,
    /// `MATCH_PREVIOUS_TRANSLATION`
    match_previous: Option<u8>,
}

/// `Translation::NumberOfOperandsFor` in `src/deoptimizer.cc` of 5.8, where a
/// function is in its bytecode; there are other frames of those that are not.
const V5_8: TranslationFormat = TranslationFormat {
    operands: b"2333112111111111111111111",
    packed_opcodes: true,
    low_continuation: true,
    begin: &[0],
    lookback: false,
    function: &[2],
    bytecode_array: false,
    builtin: &[],
    other: &[3, 4, 5, 6, 7, 8],
    literal: 24,
    match_previous: None,
};

/// `Translation::NumberOfOperandsFor` in `src/deoptimizer.cc` of 6.2.
const V6_2: TranslationFormat = TranslationFormat {
    operands: b"2333311211111111111111111",
    packed_opcodes: true,
    low_continuation: true,
    begin: &[0],
    lookback: false,
    function: &[1],
    bytecode_array: false,
    builtin: &[3],
    other: &[2, 4, 5, 6, 7],
    literal: 24,
    match_previous: None,
};

/// `TRANSLATION_OPCODE_LIST` in `src/deoptimizer.h` of 6.6.
const V6_6: TranslationFormat = TranslationFormat {
    operands: b"333332111111111111111112",
    packed_opcodes: true,
    low_continuation: true,
    begin: &[0],
    lookback: false,
    function: &[1],
    bytecode_array: false,
    builtin: &[3],
    other: &[2, 4, 5],
    literal: 22,
    match_previous: None,
};

/// 6.8: the same in 6.7 and in 7.0.
const V6_8: TranslationFormat = TranslationFormat {
    operands: b"3333332111111111111111112",
    packed_opcodes: true,
    low_continuation: true,
    begin: &[0],
    lookback: false,
    function: &[1],
    bytecode_array: false,
    builtin: &[3, 4],
    other: &[2, 5, 6],
    literal: 23,
    match_previous: None,
};

/// `TRANSLATION_OPCODE_LIST` in `src/deoptimizer/deoptimizer.h` of 8.4: the same
/// in 8.1, and what 7.8 writes is like that.
const V8: TranslationFormat = TranslationFormat {
    operands: b"353333211111111111111111112",
    packed_opcodes: true,
    low_continuation: true,
    begin: &[0],
    lookback: false,
    function: &[1],
    bytecode_array: false,
    builtin: &[3, 4],
    other: &[2, 5, 6],
    literal: 25,
    match_previous: None,
};

/// `translation-opcode.h` of 9.0: as in the next ones, but for how numbers are
/// written (`TranslationBuffer` in `src/deoptimizer/translation-array.cc`).
const V9_0: TranslationFormat = TranslationFormat {
    low_continuation: true,
    ..V10
};

/// `translation-opcode.h` of 9.1 to 10.0, which are the same; 10.1 and 10.2 are
/// like them.
const V10: TranslationFormat = TranslationFormat {
    operands: b"2103113131111111115334111112",
    packed_opcodes: true,
    low_continuation: false,
    begin: &[3],
    lookback: false,
    function: &[18],
    bytecode_array: false,
    builtin: &[19, 20],
    other: &[0, 6, 8, 21],
    literal: 22,
    match_previous: None,
};

/// `translation-opcode.h` of 10.7.
const V10_7: TranslationFormat = TranslationFormat {
    operands: b"10311313111112111153340111112",
    packed_opcodes: false,
    begin: &[2],
    other: &[5, 7, 13, 21],
    literal: 23,
    ..V10
};

/// `translation-opcode.h` of 10.8.
const V10_8: TranslationFormat = TranslationFormat {
    operands: b"103113131111121111111153340111112",
    function: &[22],
    builtin: &[23, 24],
    other: &[5, 7, 13, 25],
    literal: 27,
    ..V10_7
};

/// 11.3, as in `translation-opcode.h` of 11.2.
const V11: TranslationFormat = TranslationFormat {
    operands: b"103311313111112111111115333401111121",
    packed_opcodes: false,
    low_continuation: false,
    begin: &[2, 3],
    lookback: true,
    function: &[23, 24],
    bytecode_array: false,
    builtin: &[25, 26],
    other: &[6, 8, 14, 27],
    literal: 29,
    match_previous: Some(35),
};

/// `translation-opcode.h` of 11.8 and of 12.4, which are the same.
const V12: TranslationFormat = TranslationFormat {
    operands: b"5333213432103311111111111111111101111121",
    packed_opcodes: false,
    low_continuation: false,
    begin: &[12, 13],
    lookback: true,
    function: &[0, 1],
    bytecode_array: false,
    builtin: &[2, 3],
    other: &[4, 5, 6, 7, 8, 9],
    literal: 33,
    match_previous: Some(39),
};

/// `translation-opcode.h` of 12.9.
const V12_9: TranslationFormat = TranslationFormat {
    operands: b"53332134332100331111111111111111111101111121",
    begin: &[14, 15],
    other: &[4, 5, 6, 7, 8, 9, 10],
    literal: 37,
    match_previous: Some(43),
    ..V12
};

/// `translation-opcode.h` of 13.6 and of 14.6, which are the same.
const V13: TranslationFormat = TranslationFormat {
    operands: b"643321343331003311101111111111111111101111121",
    packed_opcodes: false,
    low_continuation: false,
    begin: &[14, 15],
    lookback: true,
    function: &[0, 1],
    bytecode_array: true,
    builtin: &[2, 3],
    other: &[4, 5, 6, 7, 8, 9, 10],
    literal: 38,
    match_previous: Some(44),
};

impl TranslationFormat {
    /// The format of `version`; `None` where it was not read. The opcodes are
    /// numbered anew in nearly every version, so none is taken for another.
    pub fn of(version: Version) -> Option<&'static TranslationFormat> {
        match (version.major, version.minor) {
            (5, 8) => Some(&V5_8),
            (6, 2) => Some(&V6_2),
            (6, 6) => Some(&V6_6),
            (6, 7..) | (7, 0) => Some(&V6_8),
            (7, 4..) | (8, ..=6) => Some(&V8),
            (9, 0) => Some(&V9_0),
            (9, _) | (10, ..=2) => Some(&V10),
            (10, 7) => Some(&V10_7),
            (10, 8) => Some(&V10_8),
            (11, 3) => Some(&V11),
            (11, 8) | (12, 4) => Some(&V12),
            (12, 9) => Some(&V12_9),
            (13, 6..) | (14, 0..=6) => Some(&V13),
            _ => None,
        }
    }

    /// The frames of the translation that begins at byte `index` of
    /// `translations`, outermost first. `None` where it does not decode.
    pub fn frames(&self, translations: &[u8], index: usize) -> Option<Vec<TranslatedFrame>> {
        let mut reader = Reader {
            format: self,
            bytes: translations,
            at: index,
            previous: 0,
            from_previous: 0,
            since: 0,
            instructions: 0,
        };
        let begin = reader.opcode()?;
        if !self.begin.contains(&begin) {
            return None;
        }
        if self.lookback {
            reader.operand()?;
        }
        let count = usize::try_from(Vlq::signed(reader.operand()?)).ok()?;
        // How many of them are functions; how much feedback there is to update.
        reader.skip(self.operands_of(begin)? - 1 - u8::from(self.lookback))?;
        let mut frames = Vec::new();
        let mut opcode = None;
        while frames.len() < count {
            let number = match opcode.take() {
                Some(number) => number,
                None => reader.opcode()?,
            };
            if self.function.contains(&number) {
                let bytecode_offset = reader.signed()?;
                let shared = reader.index()?;
                let rest = self.operands_of(number)? - 2;
                let bytecode_array = match self.bytecode_array {
                    true => Some(reader.index()?),
                    false => None,
                };
                reader.skip(rest - u8::from(self.bytecode_array))?;
                frames.push(TranslatedFrame::Function {
                    shared,
                    bytecode_offset,
                    bytecode_array,
                });
            } else if self.builtin.contains(&number) {
                // The first operand says which builtin continues.
                reader.skip(1)?;
                let shared = reader.index()?;
                reader.skip(self.operands_of(number)? - 2)?;
                // The first value of a frame is its closure.
                let next = reader.opcode()?;
                let closure = if next == self.literal {
                    Some(reader.index()?)
                } else {
                    opcode = Some(next);
                    None
                };
                frames.push(TranslatedFrame::Builtin { shared, closure });
            } else {
                if self.other.contains(&number) {
                    frames.push(TranslatedFrame::Other);
                } else if self.begin.contains(&number) {
                    return None;
                }
                reader.skip(self.operands_of(number)?)?;
            }
        }
        Some(frames)
    }

    fn operands_of(&self, opcode: u8) -> Option<u8> {
        Some(self.operands.get(usize::from(opcode))? - b'0')
    }

    /// The number at `at`, which is moved behind it.
    fn number(&self, bytes: &[u8], at: &mut usize) -> Option<u64> {
        let mut vlq = Vlq::new(bytes.get(*at..)?);
        let value = match self.low_continuation {
            true => vlq.unsigned_low(),
            false => vlq.unsigned(),
        }?;
        *at = bytes.len() - vlq.left();
        Some(value)
    }
}

/// Reads a translation instruction by instruction, here or, where it says so,
/// in the previous one.
struct Reader<'a> {
    format: &'a TranslationFormat,
    bytes: &'a [u8],
    at: usize,
    /// Where the previous translation is read.
    previous: usize,
    /// How many instructions are to be taken from there, the one that is being
    /// read included.
    from_previous: u64,
    /// Instructions read here since `previous` was right.
    since: u32,
    instructions: u32,
}

impl Reader<'_> {
    fn opcode(&mut self) -> Option<u8> {
        self.count()?;
        self.from_previous = self.from_previous.saturating_sub(1);
        if self.from_previous > 0 {
            return self.opcode_of_previous();
        }
        let begin = self.at;
        if self.format.packed_opcodes {
            return u8::try_from(Vlq::signed(self.operand()?)).ok();
        }
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        let opcodes = self.format.operands.len() as u8;
        let matched = if self.format.match_previous.is_none() {
            None
        } else if byte >= opcodes {
            // So V8 writes the most frequent one, operand included.
            Some(u64::from(byte - opcodes))
        } else if Some(byte) == self.format.match_previous {
            Some(self.operand()?)
        } else {
            None
        };
        if let Some(matched) = matched {
            self.from_previous = matched;
            for _ in 0..self.since {
                let skipped = self.opcode_of_previous()?;
                for _ in 0..self.format.operands_of(skipped)? {
                    self.format.number(self.bytes, &mut self.previous)?;
                }
            }
            self.since = 0;
            return self.opcode_of_previous();
        }
        if self.format.lookback && self.format.begin.contains(&byte) {
            // The first operand is how far back the previous one begins.
            let back = self.format.number(self.bytes, &mut self.at.clone())?;
            if back > 0 {
                self.previous = begin.checked_sub(usize::try_from(back).ok()?)?;
            }
            self.since = 1;
        } else {
            self.since += 1;
        }
        Some(byte)
    }

    fn opcode_of_previous(&mut self) -> Option<u8> {
        self.count()?;
        let opcode = *self.bytes.get(self.previous)?;
        self.previous += 1;
        // It refers to no other itself.
        (Some(opcode) != self.format.match_previous).then_some(opcode)
    }

    fn operand(&mut self) -> Option<u64> {
        if self.from_previous > 0 {
            self.format.number(self.bytes, &mut self.previous)
        } else {
            self.format.number(self.bytes, &mut self.at)
        }
    }

    fn signed(&mut self) -> Option<i32> {
        i32::try_from(Vlq::signed(self.operand()?)).ok()
    }

    fn index(&mut self) -> Option<u32> {
        u32::try_from(Vlq::signed(self.operand()?)).ok()
    }

    fn skip(&mut self, operands: u8) -> Option<()> {
        for _ in 0..operands {
            self.operand()?;
        }
        Some(())
    }

    fn count(&mut self) -> Option<()> {
        self.instructions += 1;
        (self.instructions <= MAX_INSTRUCTIONS).then_some(())
    }
}

#[cfg(test)]
mod tests;
