//! Compiled code found so far, checked again before it is relied on.

use std::collections::BTreeMap;
use std::rc::Rc;

use nodetap_sampler::raw::{CODE_BEFORE, CODE_BYTES};
use nodetap_v8::bytecode::BytecodeSizes;
use nodetap_v8::code::{Code, CodeKind};
use nodetap_v8::{Error, Heap, Tagged};
use rustc_hash::FxHashMap;

use crate::recent::Recent;

use super::crankshaft::CrankshaftCode;
use super::full_codegen::FullCode;
use super::functions::Functions;
use super::given_up::GivenUpCode;
use super::optimized::OptimizedCode;

/// For how many batches a pc without code is not searched again.
const RETRY_EPOCHS: u64 = 20;

/// Fewer pieces of code are all kept.
const CODES: usize = 2048;
/// For how many batches code is kept that no sample is in, where there is more: ten
/// seconds of them.
const OLD_EPOCHS: u64 = 500;

/// How many bytes on either side of a pc are compared.
const COMPARED: usize = 32;

/// A code object and what was decoded of it.
#[derive(Debug)]
pub struct CachedCode {
    /// The object.
    pub code: Code,
    /// Of this code alone; another code at the same place has another number.
    pub generation: u32,
    /// What its pcs mean.
    pub details: Details,
    /// Its instructions up to the constants; empty where unreadable.
    pub instructions: Vec<u8>,
    /// The time of the tick that it was found for.
    pub since: u64,
}

impl CachedCode {
    /// Whether these are the instructions that a tick at `pc` saw around it. Before
    /// V8 5.9 there is code that is changed while it is used.
    pub fn has_run(&self, pc: u64, seen: Option<&[u8; CODE_BYTES]>) -> bool {
        let Some(seen) = seen else {
            return true;
        };
        if self.code.kind == CodeKind::Unoptimized || self.instructions.is_empty() {
            return true;
        }
        let Ok(offset) = usize::try_from(pc.wrapping_sub(self.code.start)) else {
            return false;
        };
        // What is before the first instruction is not the code's.
        let missing = CODE_BEFORE.saturating_sub(offset);
        let from = offset.saturating_sub(CODE_BEFORE);
        let here = self.instructions.get(from..).unwrap_or_default();
        let seen = &seen[missing..];
        let length = here.len().min(seen.len());
        here[..length] == seen[..length]
    }

    /// Whether a call can return to `offset`.
    pub fn returns_to(&self, offset: u32) -> bool {
        let before = self.instructions.get(..offset as usize);
        match &self.details {
            Details::Optimized(optimized) => {
                optimized.has_entry(offset) || before.is_none_or(ends_in_call)
            }
            Details::Crankshaft(optimized) => optimized.returns_to(offset),
            Details::GivenUp(code) => code.returns_to(offset) || before.is_none_or(ends_in_call),
            Details::Baseline { .. } | Details::BaselineCalls(_) | Details::Unoptimized(_) => {
                before.is_none_or(ends_in_call)
            }
            Details::Other => true,
        }
    }

    /// Whether the instructions around `pc` still are what they were. The
    /// object alone does not tell: when V8 has freed one, it lies there
    /// unchanged until something is put in its place, and the next code may be
    /// put anywhere among its instructions.
    fn is_still_at(&self, heap: &Heap<'_>, pc: u64) -> bool {
        let offset = (pc - self.code.start) as usize;
        let from = offset.saturating_sub(COMPARED).min(self.instructions.len());
        let to = (offset + COMPARED).min(self.instructions.len());
        let now = heap.memory.bytes(self.code.start + from as u64, to - from);
        now.is_ok_and(|now| now == self.instructions[from..to])
    }
}

/// Whether the last of `instructions` can be a call: `call rel32`, or one through a
/// register or memory (`ff /2`), however that is addressed.
fn ends_in_call(instructions: &[u8]) -> bool {
    let length = instructions.len();
    let at = |back: usize| {
        let index = length.checked_sub(back)?;
        instructions.get(index).copied()
    };
    if at(5) == Some(0xe8) {
        return true;
    }
    // By how far back the opcode is: how many bytes follow the one after it.
    (2..=7).any(|back| {
        let (Some(0xff), Some(modrm)) = (at(back), at(back - 1)) else {
            return false;
        };
        let has_sib = modrm & 7 == 4 && modrm < 0xc0;
        let displacement = match modrm >> 6 {
            0 if modrm & 7 == 5 => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        modrm >> 3 & 7 == 2 && back == 2 + usize::from(has_sib) + displacement
    })
}

/// What the pcs of a piece of code mean.
#[derive(Debug)]
pub enum Details {
    /// Machine code of Maglev or TurboFan.
    Optimized(Box<OptimizedCode>),
    /// Baseline code.
    Baseline {
        /// Where each bytecode's code ends; see `Heap::baseline_ends`.
        ends: Vec<u32>,
        /// The bytecodes' offsets, in order; empty where they aren't known.
        offsets: Vec<u32>,
    },
    /// Baseline code that tells no more than its calls: see
    /// `Heap::baseline_calls`.
    BaselineCalls(Vec<(u32, u32)>),
    /// Full-codegen's code.
    Unoptimized(FullCode),
    /// Crankshaft's code.
    Crankshaft(Box<CrankshaftCode>),
    /// TurboFan's code whose deoptimization data V8 has emptied.
    GivenUp(GivenUpCode),
    /// Code of no JavaScript function, or one that could not be read.
    Other,
}

/// The code objects of a process by where they start.
#[derive(Default)]
pub struct CodeCache {
    /// And when the object was looked at last.
    codes: BTreeMap<u64, (Rc<CachedCode>, u64)>,
    /// The pcs that were seen in the epoch `checked_in` to be in code, all of which is
    /// in `codes`.
    checked: FxHashMap<u64, Rc<CachedCode>>,
    checked_in: u64,
    /// Where no code was found, by pc, and until when that is believed.
    misses: Recent<u64, u64>,
    generation: u32,
    /// How many there may be before those are forgotten that were not used lately.
    room: usize,
    map_hint: Option<Tagged>,
}

/// The batch of samples that is being named.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Its number.
    pub epoch: u64,
    /// The process has ended: what was true last stays true.
    pub ended: bool,
    /// When the sample was taken, in nanoseconds.
    pub tick: u64,
    /// Too long ago to read anything new.
    pub late: bool,
}

impl CodeCache {
    /// The code that contains `pc`. What was found in an earlier epoch is
    /// looked at again: V8 may have freed or moved it since.
    pub fn at(
        &mut self,
        heap: &Heap<'_>,
        sizes: Option<&BytecodeSizes>,
        functions: &mut Functions,
        pc: u64,
        now: Now,
    ) -> Option<Rc<CachedCode>> {
        if self.checked_in != now.epoch {
            self.checked_in = now.epoch;
            self.checked.clear();
        }
        if let Some(cached) = self.checked.get(&pc) {
            let is_younger = now.late && now.tick < cached.since;
            return (!is_younger).then(|| cached.clone());
        }
        if let Some((&start, (cached, seen))) = self.codes.range_mut(..=pc).next_back()
            && cached.code.contains(pc)
        {
            if now.late && now.tick < cached.since {
                return None;
            }
            if now.ended {
                return Some(cached.clone());
            }
            if (*seen == now.epoch || is_same(heap, &cached.code)) && cached.is_still_at(heap, pc) {
                *seen = now.epoch;
                self.checked.insert(pc, cached.clone());
                return Some(cached.clone());
            }
            self.remove(start);
        }
        if self
            .misses
            .get(&pc)
            .is_some_and(|&until| now.epoch <= until)
        {
            return None;
        }
        if now.late {
            return None;
        }
        let found = heap
            .code_at(pc, &mut self.map_hint)
            .and_then(|code| self.insert(heap, sizes, functions, code, now));
        match found {
            Ok(code) => {
                self.checked.insert(pc, code.clone());
                Some(code)
            }
            Err(error) => {
                tracing::debug!(pc = format!("{pc:#x}"), %error, "no code");
                self.misses.insert(pc, now.epoch + RETRY_EPOCHS);
                None
            }
        }
    }

    fn insert(
        &mut self,
        heap: &Heap<'_>,
        sizes: Option<&BytecodeSizes>,
        functions: &mut Functions,
        code: Code,
        now: Now,
    ) -> Result<Rc<CachedCode>, Error> {
        self.generation += 1;
        let end = code.start + u64::from(code.size);
        let overlapping: Vec<u64> = self
            .codes
            .range(..end)
            .rev()
            .take_while(|(_, (other, _))| {
                other.code.start + u64::from(other.code.size) > code.start
            })
            .map(|(&start, _)| start)
            .collect();
        for start in overlapping {
            self.remove(start);
        }
        let details = details(heap, sizes, functions, &code).unwrap_or_else(|error| {
            tracing::debug!(?code, %error, "code not read");
            Details::Other
        });
        let cached = Rc::new(CachedCode {
            code,
            generation: self.generation,
            details,
            instructions: heap
                .memory
                .bytes(code.start, code.size.min(16 << 20) as usize)
                .unwrap_or_default(),
            since: now.tick,
        });
        // All of it was read while the program ran.
        if heap.code(code.object)? != code {
            return Err(Error::Unbelievable("other code by now"));
        }
        self.forget_old(now);
        self.codes.insert(code.start, (cached.clone(), now.epoch));
        Ok(cached)
    }

    /// Forgets the code that starts at `start`.
    fn remove(&mut self, start: u64) {
        if let Some((code, _)) = self.codes.remove(&start) {
            self.checked
                .retain(|_, other| other.generation != code.generation);
        }
    }

    /// Makes room where code was made and left time and again.
    fn forget_old(&mut self, now: Now) {
        if self.codes.len() < self.room.max(CODES) {
            return;
        }
        let used = |seen: u64| now.epoch.saturating_sub(seen) <= OLD_EPOCHS;
        self.codes.retain(|_, &mut (_, seen)| used(seen));
        // What is all in use is not looked through each time.
        self.room = 2 * self.codes.len();
    }
}

/// Whether `known` is what its object still says, except for deoptimization data that V8
/// has emptied since: what was read of that was true of all of the code's life.
fn is_same(heap: &Heap<'_>, known: &Code) -> bool {
    heap.code(known.object).is_ok_and(|code| {
        let has_known_data = Code {
            data: known.data,
            ..code
        };
        code == *known || (has_known_data == *known && is_given_up(heap, &code))
    })
}

fn is_given_up(heap: &Heap<'_>, code: &Code) -> bool {
    code.kind == CodeKind::Turbofan && heap.is_given_up(code)
}

fn details(
    heap: &Heap<'_>,
    sizes: Option<&BytecodeSizes>,
    functions: &mut Functions,
    code: &Code,
) -> Result<Details, Error> {
    Ok(match code.kind {
        CodeKind::Turbofan if heap.is_given_up(code) => {
            Details::GivenUp(GivenUpCode::read(heap, code)?)
        }
        CodeKind::Maglev | CodeKind::Turbofan => {
            Details::Optimized(Box::new(OptimizedCode::read(heap, functions, code)?))
        }
        CodeKind::Baseline if heap.layout.code.baseline_calls_only => {
            Details::BaselineCalls(heap.baseline_calls(code)?)
        }
        CodeKind::Baseline => Details::Baseline {
            ends: heap.baseline_ends(code)?,
            offsets: match sizes {
                Some(sizes) => sizes.offsets(&heap.bytecodes(code.data)?),
                None => Vec::new(),
            },
        },
        CodeKind::Unoptimized => Details::Unoptimized(FullCode::read(heap, code)?),
        CodeKind::Crankshaft => {
            Details::Crankshaft(Box::new(CrankshaftCode::read(heap, functions, code)?))
        }
        CodeKind::RegExp
        | CodeKind::Wasm
        | CodeKind::Builtin(_)
        | CodeKind::Handler
        | CodeKind::Stub(_)
        | CodeKind::Other => Details::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_address_is_behind_a_call() {
        let calls: [&[u8]; 8] = [
            &[0x90, 0xe8, 1, 2, 3, 4],
            // call rax; call r11
            &[0x90, 0xff, 0xd0],
            &[0x41, 0xff, 0xd3],
            // call [rcx+23]; call [r13+0x1234]; call [rip+0x10]
            &[0xff, 0x51, 0x17],
            &[0x41, 0xff, 0x95, 0x34, 0x12, 0, 0],
            &[0xff, 0x15, 0x10, 0, 0, 0],
            // call [rsp+8]; call [r13+rax*8+0x100]
            &[0xff, 0x54, 0x24, 8],
            &[0xff, 0x94, 0xc5, 0, 1, 0, 0],
        ];
        for call in calls {
            assert!(ends_in_call(call), "{call:x?}");
            assert!(!ends_in_call(&call[..call.len() - 1]), "{call:x?}");
        }
        // push [rax]; jmp rax
        for other in [&[0xff_u8, 0x30][..], &[0xff, 0xe0], &[0x90], &[]] {
            assert!(!ends_in_call(other), "{other:x?}");
        }
    }
}
